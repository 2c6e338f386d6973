//! What both ends of the wire need: the handshake, the layout of the content, frames.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};

use trackerless_core::metainfo::Torrent;

/// What everybody asks for at once.
pub(crate) const BLOCK: usize = 16 << 10;
/// Length, id, piece and begin: what precedes a block.
pub(crate) const HEAD: usize = 13;

pub(crate) const CHOKE: u8 = 0;
pub(crate) const UNCHOKE: u8 = 1;
pub(crate) const INTERESTED: u8 = 2;
pub(crate) const BITFIELD: u8 = 5;
pub(crate) const REQUEST: u8 = 6;
pub(crate) const PIECE: u8 = 7;

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// Piece, begin and length.
pub(crate) type Block = (usize, usize, usize);

/// A torrent's content as pieces.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) info_hash: [u8; 20],
    pub(crate) size: usize,
    pub(crate) piece_length: usize,
}

impl Layout {
    pub(crate) fn of(torrent: &Torrent) -> io::Result<Layout> {
        let info = &torrent.info;
        let info_hash = info.hashes.v1();
        Ok(Layout {
            info_hash: info_hash.ok_or_else(|| io::Error::other("the torrent has no v1 hashes"))?,
            size: info.total_length as usize,
            piece_length: info.piece_length as usize,
        })
    }

    pub(crate) fn pieces(&self) -> usize {
        self.size.div_ceil(self.piece_length)
    }

    pub(crate) fn length_of(&self, piece: usize) -> usize {
        self.piece_length.min(self.size - piece * self.piece_length)
    }

    /// Every block from the first piece's first.
    pub(crate) fn blocks(self) -> impl Iterator<Item = Block> {
        (0..self.pieces()).flat_map(move |piece| {
            let length = self.length_of(piece);
            (0..length)
                .step_by(BLOCK)
                .map(move |begin| (piece, begin, BLOCK.min(length - begin)))
        })
    }
}

/// Sends our handshake, and reads the other's. Each address of ours is a peer of its own.
pub(crate) fn shake_hands(stream: &mut TcpStream, layout: &Layout) -> io::Result<()> {
    let SocketAddr::V4(local) = stream.local_addr()? else {
        return Err(io::Error::other("an IPv4 address was expected"));
    };
    let (ip, port) = (u32::from(*local.ip()), local.port());
    let peer_id = format!("-LN0001-{ip:08x}{port:04x}");
    let ours = [
        &PROTOCOL[..],
        &[0; 8],
        &layout.info_hash,
        peer_id.as_bytes(),
    ]
    .concat();
    stream.write_all(&ours)?;
    let mut theirs = [0; 68];
    stream.read_exact(&mut theirs)?;
    if &theirs[..20] != PROTOCOL || theirs[28..48] != layout.info_hash {
        return Err(io::Error::other(
            "the handshake is not one for this torrent",
        ));
    }
    Ok(())
}

pub(crate) fn request((piece, begin, length): Block) -> [u8; 17] {
    let mut frame = [0; 17];
    frame[3] = 13;
    frame[4] = REQUEST;
    for (at, value) in [(5, piece), (9, begin), (13, length)] {
        frame[at..at + 4].copy_from_slice(&(value as u32).to_be_bytes());
    }
    frame
}

pub(crate) fn number(bytes: &[u8]) -> usize {
    u32::from_be_bytes(bytes[..4].try_into().expect("four bytes")) as usize
}

/// Reads frames that carry no block until the id is `wanted`.
pub(crate) fn skip_to(stream: &mut TcpStream, wanted: u8) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut frame = vec![0; number(&length)];
        stream.read_exact(&mut frame)?;
        if frame.first() == Some(&wanted) {
            return Ok(());
        }
    }
}

pub(crate) fn write_all_vectored(
    stream: &mut TcpStream,
    mut slices: &mut [IoSlice<'_>],
) -> io::Result<()> {
    while !slices.is_empty() {
        let written = stream.write_vectored(&slices[..slices.len().min(1024)])?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}
