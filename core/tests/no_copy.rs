//! Block data is never copied in the core: what leaves it lies where it lay when it came.

mod support;

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use support::Numbers;
use support::peer::{BLOCK, HEAD, Swarm};
use trackerless_core::Input;
use trackerless_core::io::JobResult;
use trackerless_core::time::Duration;

/// Where a buffer lies in memory.
fn place(bytes: &[u8]) -> Range<usize> {
    let start = bytes.as_ptr() as usize;
    start..start + bytes.len()
}

/// Frames of blocks, cut into reads of any length, whatever lies on which side of a cut.
#[test]
fn blocks_go_to_disk_from_where_they_were_read_to() {
    let lengths: [&[usize]; 6] = [
        &[HEAD + BLOCK],
        &[1, 2, 3, 5, 7, 11, 12, 13, 14, 1_000],
        &[4, 9, BLOCK, 1, HEAD + BLOCK - 1],
        &[40_000],
        &[262_144],
        &[1_460],
    ];
    let mut numbers = Numbers(3);
    let (mut copied, mut passed, mut parts) = (0, 0, 0);
    for lengths in lengths {
        let mut swarm = Swarm::downloading(64);
        let mut lengths = lengths.iter().cycle();
        let mut stream = BytesMut::new();
        // Where each block begins in the stream of all bytes received, and how far that is.
        let mut begins = BTreeMap::new();
        let (mut made, mut received) = (0, 0);
        while swarm.pieces_done < 64 {
            while let Some(block) = swarm.wanted.pop_front() {
                begins.insert((block.piece, block.begin), made + HEAD);
                stream.extend_from_slice(&Swarm::head(block));
                let fill = numbers.next().unwrap_or_default() as u8;
                stream.resize(stream.len() + BLOCK, fill);
                made += HEAD + BLOCK;
            }
            assert!(made > received, "nothing is asked for any more");
            let length = lengths.next().copied().unwrap_or(1).min(stream.len());
            // A buffer of its own for every read, as a host would hand it over.
            let data = BytesMut::from(&stream.split_to(length)[..]);
            let buffer = place(&data);
            swarm.receive(data);
            for write in &swarm.writes {
                let block = write.begin / BLOCK as u32 * BLOCK as u32;
                let offset = (write.begin - block) as usize;
                let at = begins[&(write.piece, block)] + offset - received;
                let expected = buffer.start + at..buffer.start + at + write.data.len();
                let lies = place(&write.data);
                if lies == expected && lies.end <= buffer.end {
                    passed += write.data.len();
                } else {
                    copied += write.data.len();
                }
                parts += 1;
            }
            received += length;
            swarm.answer_writes();
            swarm.answer_others();
            swarm.say_sent();
            swarm.perform();
            swarm.wait(Duration::from_micros(50));
        }
        // Nothing was written twice and nothing left out.
        assert_eq!(begins.len(), 64 * 16);
    }
    assert_eq!(copied, 0, "bytes copied, of {passed}");
    assert_eq!(passed, 6 * 64 * 16 * BLOCK);
    assert!(parts > 10_000, "{parts} parts");
}

#[test]
fn blocks_go_to_peers_from_where_disk_put_them() {
    let mut swarm = Swarm::serving(8);
    let mut numbers = Numbers(4);
    let mut blocks = swarm.blocks();
    let (mut copied, mut passed) = (0, 0);
    for round in 0..400 {
        // One request, or many at once.
        for _ in 0..1 + numbers.next().unwrap_or_default() % 20 {
            let request = Swarm::request(blocks.next().unwrap());
            swarm.receive(BytesMut::from(&request[..]));
        }
        let mut read = BTreeMap::new();
        while let Some((job, block)) = swarm.reads.pop_front() {
            let data = Bytes::from(vec![round as u8; block.length as usize]);
            read.insert((block.piece, block.begin), place(&data));
            let result = JobResult::Read(data);
            swarm.host.handle(Input::JobDone { job, result });
            swarm.perform();
        }
        assert_eq!(swarm.sent.len(), read.len());
        for sent in swarm.sent.drain(..) {
            let number = |at: usize| u32::from_be_bytes(sent.head[at..at + 4].try_into().unwrap());
            if place(&sent.body) == read[&(number(5), number(9))] {
                passed += sent.body.len();
            } else {
                copied += sent.body.len();
            }
        }
        swarm.say_sent();
        swarm.perform();
        swarm.wait(Duration::from_millis(1));
    }
    assert_eq!(copied, 0, "bytes copied, of {passed}");
    assert!(passed > 1_000 * BLOCK, "{passed} bytes");
}
