//! A leecher that has the kernel throw away what it is sent.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use rustix::net::{RecvFlags, recv};
use trackerless_core::metainfo::Torrent;

use crate::Times;
use crate::peer::{
    BLOCK, Block, CHOKE, HEAD, INTERESTED, Layout, PIECE, UNCHOKE, number, request, shake_hands,
    skip_to,
};

/// How many blocks are asked for ahead.
const AHEAD: usize = 256;

/// Fetches so many bytes, and not more than there are, from each of the addresses, at once.
pub(crate) fn run(
    torrent: &Torrent,
    bytes: u64,
    addresses: &[SocketAddr],
) -> io::Result<Arc<Times>> {
    let layout = Layout::of(torrent)?;
    let times = Arc::new(Times::default());
    let fetches: Vec<_> = addresses
        .iter()
        .map(|&address| {
            let times = Arc::clone(&times);
            thread::spawn(move || fetch(layout, bytes, address, &times))
        })
        .collect();
    for fetch in fetches {
        fetch
            .join()
            .map_err(|_| io::Error::other("a connection's thread panicked"))??;
    }
    Ok(times)
}

fn fetch(layout: Layout, bytes: u64, address: SocketAddr, times: &Times) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    shake_hands(&mut stream, &layout)?;
    stream.write_all(&[0, 0, 0, 1, INTERESTED])?;
    skip_to(&mut stream, UNCHOKE)?;
    let mut asked = VecDeque::new();
    times.begin();
    let blocks = (bytes.min(layout.size as u64) as usize).div_ceil(BLOCK);
    let mut todo: VecDeque<Block> = layout.blocks().take(blocks).collect();
    let mut left: usize = todo.iter().map(|&(_, _, length)| length).sum();
    let mut choked = false;
    while left > 0 {
        if !choked && asked.len() <= AHEAD - AHEAD / 4 && !todo.is_empty() {
            let more: Vec<Block> = todo.drain(..todo.len().min(AHEAD - asked.len())).collect();
            let frames: Vec<u8> = more.iter().copied().flat_map(request).collect();
            stream.write_all(&frames)?;
            asked.extend(more);
        }
        let mut head = [0; HEAD];
        stream.read_exact(&mut head[..4])?;
        let length = number(&head);
        if length == 0 {
            continue;
        }
        stream.read_exact(&mut head[4..5])?;
        if head[4] != PIECE {
            io::copy(&mut (&mut stream).take(length as u64 - 1), &mut io::sink())?;
            match head[4] {
                CHOKE => {
                    // What was asked for is forgotten (BEP 3).
                    choked = true;
                    while let Some(block) = asked.pop_back() {
                        todo.push_front(block);
                    }
                }
                UNCHOKE => choked = false,
                _ => {}
            }
            continue;
        }
        stream.read_exact(&mut head[5..])?;
        let (piece, begin) = (number(&head[5..]), number(&head[9..]));
        let at = asked.iter().position(|&(p, b, _)| (p, b) == (piece, begin));
        let Some((_, _, wanted)) = at.and_then(|at| asked.remove(at)) else {
            return Err(io::Error::other("a block that was not asked for came"));
        };
        if length != wanted + 9 {
            return Err(io::Error::other("a block of another length came"));
        }
        discard(&stream, wanted)?;
        left -= wanted;
        times.add(wanted);
    }
    Ok(())
}

/// With this flag the kernel copies nothing (tcp(7)).
fn discard(stream: &TcpStream, mut length: usize) -> io::Result<()> {
    let mut nowhere = [0; BLOCK];
    while length > 0 {
        let flags = RecvFlags::TRUNC | RecvFlags::WAITALL;
        let (_, gone) = recv(stream, &mut nowhere[..length], flags)?;
        if gone == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length -= gone;
    }
    Ok(())
}
