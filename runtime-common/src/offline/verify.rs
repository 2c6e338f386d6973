//! `verify`: every piece on disk against its hash.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use serde_json::json;
use trackerless_core::io::{Digest, HashKind, JobError, JobId, JobResult, TorrentId, Work};
use trackerless_core::metainfo::{Info, Torrent, Version};
use trackerless_core::slab::Key;

use crate::cli::VerifyArgs;
use crate::display::{Reporter, job_error, printable};
use crate::error::{DONE, FAILED, Failure};
use crate::storage::{Storage, StorageConfig};

/// Pieces hashed at once.
const IN_FLIGHT: u32 = 16;
/// Wrong pieces named one by one.
const MAX_NAMED: usize = 20;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Pieces that are right.
    pub ok: u32,
    /// Pieces that are there and wrong.
    pub bad: Vec<u32>,
    /// Pieces of which something is missing.
    pub missing: Vec<u32>,
}

/// Hashes every piece of `torrent` below `data`. Changes nothing on disk.
///
/// # Errors
/// What cannot be read.
pub fn verify(torrent: &Torrent, data: &Path) -> Result<Verified, Failure> {
    let info = &torrent.info;
    let (send, receive) = mpsc::channel();
    let config = StorageConfig {
        output: Some(data.to_owned()),
        read_only: true,
        ..StorageConfig::default()
    };
    let mut storage = Storage::new(config, move |job: JobId, result| {
        // The receiver is gone when an earlier answer was an error.
        let _ = send.send((job.0.index, result));
    });
    let id = TorrentId(Key {
        index: 0,
        generation: 0,
    });
    let job = |index| {
        JobId(Key {
            index,
            generation: 0,
        })
    };
    let wrong = |error| Failure::failed(format!("{}: {}", data.display(), job_error(error)));
    let receive = || {
        receive
            .recv()
            .unwrap_or((0, JobResult::Failed(JobError::Io)))
    };
    storage.submit(
        job(0),
        Work::Open {
            torrent: id,
            info: Arc::clone(info),
        },
    );
    if let (_, JobResult::Failed(error)) = receive() {
        return Err(wrong(error));
    }
    let kind = match info.version {
        Version::V2 => HashKind::Merkle,
        _ => HashKind::Sha1,
    };
    let mut found = Verified::default();
    let (mut next, mut waiting) = (0, 0);
    while next < info.piece_count || waiting > 0 {
        while next < info.piece_count && waiting < IN_FLIGHT {
            let work = Work::Hash {
                torrent: id,
                piece: next,
                kind,
            };
            storage.submit(job(next), work);
            next += 1;
            waiting += 1;
        }
        let (piece, result) = receive();
        waiting -= 1;
        match result {
            JobResult::Hashed(digest) if is_right(torrent, piece, digest) => found.ok += 1,
            JobResult::Hashed(_) => found.bad.push(piece),
            JobResult::Failed(JobError::Missing) => found.missing.push(piece),
            JobResult::Failed(error) => return Err(wrong(error)),
            _ => return Err(wrong(JobError::Io)),
        }
    }
    found.bad.sort_unstable();
    found.missing.sort_unstable();
    Ok(found)
}

fn is_right(torrent: &Torrent, piece: u32, digest: Digest) -> bool {
    match digest {
        Digest::Sha1(hash) => torrent.info.piece_hash(piece) == Some(hash),
        Digest::Merkle(hash) => layer_hash(torrent, piece) == Some(hash),
    }
}

fn layer_hash(torrent: &Torrent, piece: u32) -> Option<[u8; 32]> {
    let info: &Info = &torrent.info;
    let span = info.spans(piece, 0, 1).next()?;
    let file = info.files.get(span.file)?;
    let root = file.pieces_root?;
    if file.length <= u64::from(info.piece_length) {
        return Some(root);
    }
    let index = (span.offset / u64::from(info.piece_length)) as usize;
    let layer = torrent.piece_layers.get(&root)?;
    layer.get(index * 32..index * 32 + 32)?.try_into().ok()
}

/// The `verify` command.
///
/// # Errors
/// What is wrong with the torrent, or cannot be read.
pub fn verify_command(args: &VerifyArgs) -> Result<u8, Failure> {
    let (torrent, _) = crate::source::torrent(&args.torrent)?;
    if !args.data.is_dir() {
        return Err(Failure::usage(format!(
            "--data: {}: expected the folder that holds the content",
            args.data.display()
        )));
    }
    let found = verify(&torrent, &args.data)?;
    let report = Reporter::new(args.output);
    let bad = found.bad.len() + found.missing.len();
    report.event(
        "verified",
        json!({ "pieces_ok": found.ok, "pieces_bad": bad }),
    );
    for (what, pieces) in [("wrong", &found.bad), ("missing", &found.missing)] {
        for &piece in pieces.iter().take(MAX_NAMED) {
            report.result(&format!(
                "piece {piece} is {what}: {}",
                files_of(&torrent, piece)
            ));
        }
        if pieces.len() > MAX_NAMED {
            report.result(&format!("and {} more are {what}", pieces.len() - MAX_NAMED));
        }
    }
    report.result(&format!(
        "{}: {} pieces right, {} wrong, {} missing",
        printable(&torrent.info.name),
        found.ok,
        found.bad.len(),
        found.missing.len()
    ));
    Ok(if bad == 0 { DONE } else { FAILED })
}

fn files_of(torrent: &Torrent, piece: u32) -> String {
    let info = &torrent.info;
    let mut names: Vec<String> = info
        .spans(piece, 0, info.piece_size(piece))
        .filter(|span| !span.pad)
        .map(|span| printable(&info.files[span.file].path.join("/")))
        .collect();
    if names.len() > 3 {
        let more = names.len() - 3;
        names.truncate(3);
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}
