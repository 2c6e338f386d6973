//! A seeder: has everything, unchokes whoever is interested, and sends slices of a mapped file.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use memmap2::Mmap;
use trackerless_core::metainfo::Torrent;

use crate::Times;
use crate::peer::{
    BITFIELD, Block, HEAD, INTERESTED, Layout, PIECE, REQUEST, UNCHOKE, number, shake_hands,
    write_all_vectored,
};

pub(crate) fn run(torrent: &Torrent, file: &str, address: SocketAddr) -> io::Result<Arc<Times>> {
    let layout = Layout::of(torrent)?;
    let file = File::open(file)?;
    // SAFETY: a measurement's content is changed by nobody while it is mapped.
    let content = Arc::new(unsafe { Mmap::map(&file)? });
    if content.len() != layout.size {
        return Err(io::Error::other(
            "the file has not the length that the torrent says",
        ));
    }
    let listener = TcpListener::bind(address)?;
    println!("ready");
    io::stdout().flush()?;
    let times = Arc::new(Times::default());
    let shared = Arc::clone(&times);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (content, times) = (Arc::clone(&content), Arc::clone(&shared));
            thread::spawn(move || serve(stream, layout, &content, &times));
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(times)
}

/// Until the other side goes, which is how a connection ends here.
fn serve(mut stream: TcpStream, layout: Layout, content: &[u8], times: &Times) -> io::Result<()> {
    stream.set_nodelay(true)?;
    shake_hands(&mut stream, &layout)?;
    let pieces = layout.pieces();
    let mut bitfield = vec![0xff_u8; pieces.div_ceil(8)];
    if !pieces.is_multiple_of(8) {
        *bitfield.last_mut().expect("a torrent has pieces") <<= 8 - pieces % 8;
    }
    let length = (bitfield.len() as u32 + 1).to_be_bytes();
    stream.write_all(&[&length[..], &[BITFIELD], &bitfield].concat())?;
    let (mut buffer, mut filled) = (vec![0; 256 << 10], 0);
    let mut asked = Vec::new();
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut at = 0;
        while filled - at >= 4 {
            let length = number(&buffer[at..]);
            if length > buffer.len() - 4 {
                return Err(io::Error::other("a frame is too long"));
            }
            if filled - at - 4 < length {
                break;
            }
            let frame = &buffer[at + 4..at + 4 + length];
            at += 4 + length;
            match frame.first() {
                Some(&INTERESTED) => stream.write_all(&[0, 0, 0, 1, UNCHOKE])?,
                Some(&REQUEST) if frame.len() == 13 => {
                    let (piece, begin) = (number(&frame[1..]), number(&frame[5..]));
                    asked.push((piece, begin, number(&frame[9..])));
                }
                _ => {}
            }
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        if asked.is_empty() {
            continue;
        }
        times.begin();
        send(&mut stream, layout, content, &asked)?;
        times.add(asked.drain(..).map(|(_, _, length)| length).sum());
    }
}

fn send(stream: &mut TcpStream, layout: Layout, content: &[u8], asked: &[Block]) -> io::Result<()> {
    let heads: Vec<[u8; HEAD]> = asked
        .iter()
        .map(|&(piece, begin, length)| {
            let mut head = [0; HEAD];
            head[4] = PIECE;
            for (at, value) in [(0, length + 9), (5, piece), (9, begin)] {
                head[at..at + 4].copy_from_slice(&(value as u32).to_be_bytes());
            }
            head
        })
        .collect();
    let mut slices = Vec::with_capacity(2 * asked.len());
    for (head, &(piece, begin, length)) in heads.iter().zip(asked) {
        let from = piece * layout.piece_length + begin;
        let block = content
            .get(from..from + length)
            .ok_or_else(|| io::Error::other("a block beyond the content is asked for"))?;
        slices.extend([IoSlice::new(head), IoSlice::new(block)]);
    }
    write_all_vectored(stream, &mut slices)
}
