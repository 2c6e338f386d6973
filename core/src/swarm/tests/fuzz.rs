//! Any order of any inputs: no panic, no spin, no growth past the limits.

use std::collections::VecDeque;
use std::vec::Vec;

use bytes::Bytes;
use quickcheck::{TestResult, quickcheck};

use super::world::{addr, conn, content, generous, hello, setup, torrent};
use crate::config::Config;
use crate::event::{CloseReason, PeerSource};
use crate::io::{Digest, JobError, JobResult, Opened};
use crate::metadata::Message as Metadata;
use crate::pex::Flags;
use crate::swarm::{Event, Grant, Hello, Input, Job, JobToken, Options, Setup, Swarm};
use crate::time::{Duration, Instant};
use crate::wire::{BlockRef, ExtensionHandshake, Message};

const PIECE: usize = 32 * 1024;
/// Ticks in one instant after which every deadline must lie ahead.
const MAX_TICKS: u32 = 1_000;

fn message(kind: u8, a: u8, info: &crate::metainfo::Info) -> Message {
    let n = u32::from(a % 12);
    let block = BlockRef {
        piece: n,
        begin: u32::from(a & 16) * 1024,
        length: 16_384,
    };
    match kind % 22 {
        0 => Message::Choke,
        1 | 2 => Message::Unchoke,
        3 => Message::Interested,
        4 => Message::NotInterested,
        5 | 6 => Message::Have(n),
        7 => Message::Bitfield(Bytes::copy_from_slice(&[a, a & 0xc0])),
        8 | 9 => Message::Request(block),
        10 => Message::Cancel(block),
        11 => Message::Reject(block),
        12 => Message::HaveAll,
        13 => Message::HaveNone,
        14 => Message::AllowedFast(n),
        15 => Message::Suggest(n),
        16 => Message::Port(a.into()),
        17 => Message::Metadata(Metadata::Request { piece: n }),
        18 => Message::Metadata(Metadata::Data {
            piece: 0,
            total_size: info.raw.len() as u32,
            data: info.raw.clone(),
        }),
        19 => {
            let mut payload = Vec::new();
            let near: Vec<_> = (0..a % 8).map(|n| (addr(n.into()), Flags(a))).collect();
            crate::pex::encode(&near, &[addr(usize::from(a % 5))], &mut payload);
            payload.truncate(payload.len() - usize::from(a == 255));
            Message::Pex(payload.into())
        }
        20 => Message::DontHave(n),
        _ => Message::ExtensionHandshake(std::boxed::Box::new(ExtensionHandshake {
            ut_metadata: Some(2),
            ut_pex: [None, Some(0), Some(1)][usize::from(a % 3)],
            metadata_size: Some(info.raw.len() as u32 + u32::from(a == 0)),
            port: Some(u16::from(a)),
            reqq: Some(n),
            upload_only: [None, Some(true), Some(false)][usize::from(a % 3)],
            ..ExtensionHandshake::default()
        })),
    }
}

fn answer(job: &Job, a: u8, content: &[u8], info: &crate::metainfo::Info) -> JobResult {
    match (a % 16, job) {
        (0, _) => JobResult::Failed(JobError::Missing),
        (_, Job::CheckMetadata(assembled)) => JobResult::Metadata(assembled.check()),
        (1, Job::Open(..)) => JobResult::Opened(std::boxed::Box::new(Opened {
            present: std::vec![0xff; 2],
        })),
        (_, Job::Open(..)) => JobResult::Opened(std::boxed::Box::default()),
        (_, Job::Read(block)) => {
            let start = block.piece as usize * PIECE + block.begin as usize;
            let end = start + block.length as usize;
            JobResult::Read(Bytes::copy_from_slice(&content[start..end]))
        }
        (_, Job::Write { .. }) => JobResult::Written,
        (2, Job::Hash { .. }) => JobResult::Hashed(Digest::Sha1([0; 20])),
        (_, Job::Hash { piece }) => {
            JobResult::Hashed(Digest::Sha1(info.piece_hash(*piece).unwrap_or_default()))
        }
        (_, Job::HashBlocks { .. }) => JobResult::BlocksHashed(std::vec![[a; 20]; 4]),
        (_, Job::Commit { .. }) => JobResult::Committed,
        (_, Job::Discard { .. }) => JobResult::Discarded,
        (_, Job::Save(..)) => JobResult::Saved,
        (_, Job::Close) => JobResult::ClosedStorage,
    }
}

quickcheck! {
    fn any_order_of_inputs_neither_panics_nor_spins(
        knows: bool,
        steps: Vec<(u8, u8, u8)>
    ) -> TestResult {
        let info = torrent(10 * PIECE, PIECE);
        let content = content(10 * PIECE);
        let mut now = Instant::from_micros(1);
        let mut events = Vec::new();
        let mut swarm = Swarm::new(
            std::sync::Arc::new(Config::default()),
            Setup { info: knows.then(|| info.clone()), ..setup(&info, Options::default()) },
            now,
            &mut events,
        );
        let mut jobs: VecDeque<(JobToken, Job)> = VecDeque::new();
        let mut asked: VecDeque<BlockRef> = VecDeque::new();
        let mut heard = VecDeque::new();
        // The storage's first answer, so that most runs get further than opening.
        let steps = [(0, 0, 0), (1, 3, 0)].into_iter().chain(steps);
        for (kind, a, peer) in steps {
            let of = conn(u32::from(peer % 4));
            let at = addr(usize::from(peer % 4));
            let input = match kind % 16 {
                0 => Input::Grant(generous()),
                1..=3 => match jobs.pop_front() {
                    Some((token, job)) => {
                        Input::JobDone(token, answer(&job, a, &content, &info))
                    }
                    None => Input::Tick,
                },
                4 => {
                    let hello = hello(peer % 4, at, a & 1 == 0);
                    Input::Joined(of, Hello { fast: a & 2 == 0, dht: true, ..hello })
                }
                5 => Input::PeersFound(PeerSource::Dht, std::slice::from_ref(&at)),
                6 if a < 32 => Input::Gone {
                    conn: (a & 1 == 0).then_some(of),
                    addr: at,
                    reason: CloseReason::Idle,
                },
                7 if a < 32 => Input::Reading { conn: of, on: a & 1 == 0 },
                7 => Input::Writable { conn: of, unsent: u32::from(a) * 100 },
                8 | 9 => {
                    let block = asked.pop_front().unwrap_or(BlockRef {
                        piece: u32::from(a % 12),
                        begin: 0,
                        length: 16_384,
                    });
                    let start = (block.piece as usize * PIECE + block.begin as usize)
                        .min(content.len() - 16_384);
                    let data = Bytes::copy_from_slice(&content[start..start + 16_384]);
                    let offset = if a == 1 { 5 } else { 0 };
                    let cut = if a & 3 == 3 { 100 } else { 16_384 };
                    Input::BlockPart { conn: of, block, offset, data: data.slice(..cut) }
                }
                10 if a < 8 => Input::Save,
                10 if a == 255 => Input::Stop,
                11 => {
                    now = now + Duration::from_millis(u64::from(a) * u64::from(a));
                    Input::Tick
                }
                12 if a < 64 => Input::Grant(Grant::default()),
                _ => Input::Message(of, message((kind / 16).wrapping_add(a), a, &info)),
            };
            let mut tick = Some(input);
            let over = swarm.phase == crate::swarm::Phase::Stopped;
            for ticks in 0.. {
                assert!(ticks < MAX_TICKS, "spins");
                swarm.handle(now, tick.take().unwrap_or(Input::Tick), &mut events);
                // Whoever still comes is sent away; nothing else is said.
                let goodbye = |event: &Event| matches!(event, Event::Disconnect(..));
                assert!(!over || events.iter().all(goodbye), "{events:?} after the end");
                for event in events.drain(..) {
                    match event {
                        Event::PeersHeard(source, addrs) => heard.push_back((source, addrs)),
                        Event::Job(token, job) => jobs.push_back((token, job)),
                        Event::Send(_, Message::Request(block)) => asked.push_back(block),
                        _ => {}
                    }
                }
                if let Some((source, addrs)) = heard.pop_front() {
                    swarm.handle(now, Input::PeersFound(source, &addrs), &mut events);
                } else if swarm.next_timeout().is_none_or(|at| at > now) {
                    break;
                }
            }
            let stats = swarm.stats();
            assert!(stats.peers <= 4 && stats.done <= stats.total);
        }
        TestResult::passed()
    }
}
