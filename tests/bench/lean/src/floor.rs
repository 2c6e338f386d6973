//! The least that a download can be: one connection is read straight into pieces, a second thread
//! checks them, and they are written.

use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use sha1::{Digest, Sha1};
use trackerless_core::metainfo::Torrent;

use crate::Times;
use crate::peer::{BLOCK, HEAD, INTERESTED, Layout, PIECE, UNCHOKE, request, shake_hands, skip_to};

/// How many pieces wait for their hash.
const WAITING: usize = 4;

pub(crate) fn run(torrent: &Torrent, address: SocketAddr, path: &str) -> io::Result<Arc<Times>> {
    let layout = Layout::of(torrent)?;
    let hashes: Vec<[u8; 20]> = (0..layout.pieces())
        .map(|piece| torrent.info.piece_hash(piece as u32))
        .collect::<Option<_>>()
        .ok_or_else(|| io::Error::other("the torrent has no hash for a piece"))?;
    let (to_check, checks) = sync_channel::<(usize, Arc<Vec<u8>>)>(WAITING);
    let checking = thread::spawn(move || {
        checks
            .iter()
            .all(|(piece, bytes)| Sha1::digest(&**bytes)[..] == hashes[piece])
    });
    let file = File::create(path)?;
    let times = Arc::new(Times::default());
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    shake_hands(&mut stream, &layout)?;
    stream.write_all(&[0, 0, 0, 1, INTERESTED])?;
    skip_to(&mut stream, UNCHOKE)?;
    times.begin();
    ask(&mut stream, layout, 0)?;
    let mut spare: Vec<Arc<Vec<u8>>> = Vec::new();
    for piece in 0..layout.pieces() {
        if piece + 1 < layout.pieces() {
            ask(&mut stream, layout, piece + 1)?;
        }
        let mut bytes = match spare.iter().position(|bytes| Arc::strong_count(bytes) == 1) {
            Some(free) => spare.swap_remove(free),
            None => Arc::new(vec![0; layout.piece_length]),
        };
        let place = Arc::get_mut(&mut bytes).expect("nobody else has it");
        place.truncate(layout.length_of(piece));
        receive(&mut stream, place)?;
        to_check
            .send((piece, Arc::clone(&bytes)))
            .map_err(|_| io::Error::other(format!("a piece before {piece} is wrong")))?;
        file.write_all_at(&bytes, (piece * layout.piece_length) as u64)?;
        times.add(bytes.len());
        spare.push(bytes);
    }
    drop(to_check);
    match checking.join() {
        Ok(true) => Ok(times),
        _ => Err(io::Error::other("a piece's hash is wrong")),
    }
}

fn ask(stream: &mut TcpStream, layout: Layout, piece: usize) -> io::Result<()> {
    let length = layout.length_of(piece);
    let blocks = (0..length)
        .step_by(BLOCK)
        .map(|begin| (piece, begin, BLOCK.min(length - begin)));
    stream.write_all(&blocks.flat_map(request).collect::<Vec<u8>>())
}

/// The blocks come in the order in which they were asked for: the seeder is ours.
fn receive(stream: &mut TcpStream, piece: &mut [u8]) -> io::Result<()> {
    let mut heads = vec![[0; HEAD]; piece.len().div_ceil(BLOCK)];
    let mut places: Vec<IoSliceMut<'_>> = heads
        .iter_mut()
        .zip(piece.chunks_mut(BLOCK))
        .flat_map(|(head, block)| [IoSliceMut::new(head), IoSliceMut::new(block)])
        .collect();
    let mut places = &mut places[..];
    while !places.is_empty() {
        let some = places.len().min(1024);
        let read = stream.read_vectored(&mut places[..some])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        IoSliceMut::advance_slices(&mut places, read);
    }
    match heads.iter().all(|head| head[4] == PIECE) {
        true => Ok(()),
        false => Err(io::Error::other("something else came between two blocks")),
    }
}
