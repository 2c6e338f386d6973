use crate::slab::Key;

macro_rules! key_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub Key);

        impl $name {
            /// The id as one number: generation above, place below.
            #[must_use]
            pub const fn to_bits(self) -> u64 {
                (self.0.generation as u64) << 32 | self.0.index as u64
            }

            /// The id that [`Self::to_bits`] made this number of.
            #[must_use]
            pub const fn from_bits(bits: u64) -> Self {
                Self(Key { index: bits as u32, generation: (bits >> 32) as u32 })
            }
        }
    };
}

key_id! {
    /// A stream connection, named by the engine. Hosts may index an array with `0.index`; an
    /// input with an old generation is ignored.
    ConnId
}
key_id! {
    /// A torrent, named by the engine.
    TorrentId
}
key_id! {
    /// A job the engine asked for. Each job is answered at most once.
    JobId
}

/// A datagram socket, named by the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketId(pub u32);

/// An inbound stream that waits to be accepted or refused, named by the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// Names a command, chosen by the embedder; events that answer the command carry it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(pub u64);
