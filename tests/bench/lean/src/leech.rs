//! A leecher that has the kernel throw away what it is sent.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use rustix::net::{RecvFlags, recv};
use trackerless_core::metainfo::Torrent;

use crate::Times;
use crate::peer::{
    BLOCK, CHOKE, HEAD, INTERESTED, Layout, PIECE, UNCHOKE, number, request, shake_hands, skip_to,
};

/// How many blocks are asked for ahead.
const AHEAD: usize = 256;

/// Fetches everything from each of the addresses, at once.
pub(crate) fn run(torrent: &Torrent, addresses: &[SocketAddr]) -> io::Result<Arc<Times>> {
    let layout = Layout::of(torrent)?;
    let times = Arc::new(Times::default());
    let fetches: Vec<_> = addresses
        .iter()
        .map(|&address| {
            let times = Arc::clone(&times);
            thread::spawn(move || fetch(layout, address, &times))
        })
        .collect();
    for fetch in fetches {
        fetch
            .join()
            .map_err(|_| io::Error::other("a connection's thread panicked"))??;
    }
    Ok(times)
}

fn fetch(layout: Layout, address: SocketAddr, times: &Times) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    shake_hands(&mut stream, &layout)?;
    stream.write_all(&[0, 0, 0, 1, INTERESTED])?;
    skip_to(&mut stream, UNCHOKE)?;
    let mut blocks = layout.blocks();
    let mut asking = |stream: &mut TcpStream, count: usize| {
        let frames: Vec<u8> = blocks.by_ref().take(count).flat_map(request).collect();
        stream.write_all(&frames)
    };
    times.begin();
    asking(&mut stream, AHEAD)?;
    let (mut left, mut answered) = (layout.size, 0);
    while left > 0 {
        let mut head = [0; HEAD];
        stream.read_exact(&mut head[..5])?;
        let length = number(&head);
        match head[4] {
            PIECE if length > 9 && length - 9 <= BLOCK => {}
            CHOKE => return Err(io::Error::other("choked in the midst of it")),
            _ => {
                // A message of another kind, or a keep-alive that the next read completes.
                io::copy(&mut (&mut stream).take(length as u64 - 1), &mut io::sink())?;
                continue;
            }
        }
        stream.read_exact(&mut head[5..])?;
        discard(&stream, length - 9)?;
        left -= length - 9;
        times.add(length - 9);
        answered += 1;
        if answered == AHEAD / 4 {
            asking(&mut stream, answered)?;
            answered = 0;
        }
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
