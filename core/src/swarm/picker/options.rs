//! What a picker is asked and what it answers.

use crate::config::SwarmConfig;
use crate::swarm::bitfield::Bitfield;

/// Parameters of a [`Picker`](super::Picker).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PickerConfig {
    /// Pieces picked at random before rarest first.
    pub random_first: u32,
    /// Pieces with blocks left to ask for, besides one per peer.
    pub max_partial_pieces: u32,
    /// Peers asked for one block at once in endgame, 1 to 3.
    pub max_requesters: u8,
    /// A peer that brings a piece within so many milliseconds is given whole ones.
    pub whole_piece_millis: u64,
    /// Largest piece, bytes, that is kept for one peer because it is fast.
    pub max_whole_piece: u32,
}

impl Default for PickerConfig {
    fn default() -> Self {
        Self::from(&SwarmConfig::default())
    }
}

impl From<&SwarmConfig> for PickerConfig {
    fn from(config: &SwarmConfig) -> Self {
        Self {
            random_first: config.random_first,
            max_partial_pieces: config.max_partial_pieces,
            max_requesters: config.endgame_requesters,
            whole_piece_millis: u64::try_from(config.whole_piece_time.as_millis())
                .unwrap_or(u64::MAX),
            max_whole_piece: config.max_whole_piece,
        }
    }
}

/// What a peer has.
#[derive(Debug, Clone, Copy)]
pub enum Has<'a> {
    /// Every piece.
    All,
    /// These pieces.
    Some(&'a Bitfield),
}

impl Has<'_> {
    /// Whether the peer has `piece`.
    #[must_use]
    pub fn get(&self, piece: u32) -> bool {
        match self {
            Self::All => true,
            Self::Some(field) => field.get(piece),
        }
    }
}

/// What is known of a peer when blocks are picked for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickOptions<'a> {
    /// Most blocks wanted.
    pub count: usize,
    /// The most common pieces first: for a snubbed peer, which should not hold up rare ones.
    pub reverse: bool,
    /// Keep begun pieces for this peer: it is fast (see [`Picker::suits_whole_pieces`](super::Picker::suits_whole_pieces)).
    pub whole_pieces: bool,
    /// The peer had a part in a bad piece: it gets pieces alone while there are any.
    pub parole: bool,
    /// The only pieces that may be asked for: the peer chokes us and allowed these (BEP 6).
    pub allowed: Option<&'a [u32]>,
    /// Pieces the peer suggests (BEP 6): taken before others that nobody has begun.
    pub suggested: &'a [u32],
}

/// Why the last block of a decision was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PickReason {
    /// No block was picked.
    Nothing,
    /// Its piece was begun before.
    Begun,
    /// The peer suggested its piece.
    Suggested,
    /// The peer allowed its piece while it chokes us.
    AllowedFast,
    /// Among the first pieces, which are picked at random.
    Random,
    /// The lowest piece, since the torrent is fetched in order.
    Sequential,
    /// Its piece is rare.
    Rarest,
    /// Its piece is common, and the peer is slow.
    Commonest,
    /// Its piece is kept for another peer, and there is no other work for this one.
    Shared,
    /// Every block has been asked for: another peer may be faster.
    Endgame,
}

/// What became of a block that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The first copy: keep it.
    Fresh,
    /// We have it: drop it.
    Duplicate,
    /// The peer was not asked for it, or no longer: drop it.
    Unasked,
}

/// Where a piece stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceState {
    /// Nobody was asked for any of it.
    Untouched,
    /// Some blocks were asked for or came.
    Begun,
    /// Every block came; its hash is awaited.
    Unverified,
    /// Verified.
    Had,
}
