//! `verify`: every piece on disk against its hash.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use serde_json::{Value, json};
use trackerless_core::io::{Digest, HashKind, JobError, JobId, JobResult, TorrentId, Work};
use trackerless_core::metainfo::{File, Info, Torrent, Version};
use trackerless_core::slab::Key;

use crate::cli::VerifyArgs;
use crate::display::{Reporter, count, job_error, note, printable};
use crate::error::{DONE, FAILED, Failure, USAGE};
use crate::session::verified;
use crate::storage::{Obstacle, Storage, StorageConfig, leads_to, link_text, metadata_below};

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
    /// Indices of files with content that are not there at all.
    pub missing_files: Vec<usize>,
    /// What no piece tells: indices of files without content and of links that are not there, and
    /// of files that are longer than they should be.
    pub files: Vec<usize>,
}

impl Verified {
    /// Whether everything is there and right.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.bad.is_empty() && self.missing.is_empty() && self.files.is_empty()
    }

    /// What is not as it should be, in a few words.
    fn reason(&self) -> String {
        let count = |n: usize, one: &str, many: &str| match n {
            0 => None,
            1 => Some(format!("1 {one}")),
            n => Some(format!("{n} {many}")),
        };
        let parts = [
            count(self.missing.len(), "piece is missing", "pieces are missing"),
            count(self.bad.len(), "piece is wrong", "pieces are wrong"),
            count(
                self.files.len(),
                "file is not what it should be",
                "files are not what they should be",
            ),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// Hashes every piece of `torrent` below `data`, a hybrid's in both ways. Changes nothing on disk.
///
/// # Errors
/// What cannot be read, and a v2 torrent without the hashes of its pieces.
pub fn verify(torrent: &Torrent, data: &Path) -> Result<Verified, Failure> {
    let info = &torrent.info;
    let kinds = kinds(torrent)?;
    let (send, receive) = mpsc::channel();
    let obstacle = Obstacle::default();
    let config = StorageConfig {
        obstacle: obstacle.clone(),
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
    let wrong = |error| {
        let told = obstacle.reason(error);
        let told = told.unwrap_or_else(|| format!("{}: {}", data.display(), job_error(error)));
        Failure::failed(told)
    };
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
            select: Arc::default(),
        },
    );
    if let (_, JobResult::Failed(error)) = receive() {
        return Err(wrong(error));
    }
    let (mut bad, mut missing) = (BTreeSet::new(), BTreeSet::new());
    let (mut next, mut waiting) = (0, 0);
    while next < info.piece_count || waiting > 0 {
        while next < info.piece_count && waiting < IN_FLIGHT {
            for &kind in kinds {
                let work = Work::Hash {
                    torrent: id,
                    piece: next,
                    kind,
                };
                storage.submit(job(next), work);
                waiting += 1;
            }
            next += 1;
        }
        let (piece, result) = receive();
        waiting -= 1;
        match result {
            JobResult::Hashed(digest) if is_right(torrent, piece, digest) => {}
            JobResult::Hashed(_) => _ = bad.insert(piece),
            JobResult::Failed(JobError::Missing) => _ = missing.insert(piece),
            JobResult::Failed(error) => return Err(wrong(error)),
            _ => return Err(wrong(JobError::Io)),
        }
    }
    Ok(Verified {
        ok: info.piece_count - bad.union(&missing).count() as u32,
        bad: bad.into_iter().collect(),
        missing: missing.into_iter().collect(),
        missing_files: missing_files(info, data),
        files: wrong_files(info, data),
    })
}

/// How pieces are hashed.
fn kinds(torrent: &Torrent) -> Result<&'static [HashKind], Failure> {
    let info = &torrent.info;
    let large = |file: &&File| file.length > u64::from(info.piece_length);
    let unknown = info.files.iter().filter(large).find(|file| {
        file.pieces_root
            .is_some_and(|root| !torrent.piece_layers.contains_key(&root))
    });
    match (info.version, unknown) {
        (Version::V1, _) => Ok(&[HashKind::Sha1]),
        (Version::Hybrid, None) => Ok(&[HashKind::Sha1, HashKind::Merkle]),
        // Made from metadata alone: the other hashes are all there is.
        (Version::Hybrid, Some(_)) => Ok(&[HashKind::Sha1]),
        (Version::V2, None) => Ok(&[HashKind::Merkle]),
        (Version::V2, Some(file)) => Err(Failure::usage(format!(
            "piece layers: found none for {}, expected the hashes of its pieces; a .torrent that \
             was made from metadata alone cannot be verified",
            printable(&file.path.join("/"))
        ))),
    }
}

/// Files that are wrong in a way that no piece tells.
fn wrong_files(info: &Info, data: &Path) -> Vec<usize> {
    let wrong = |file: &File| {
        let path = data.join(file.path.iter().collect::<PathBuf>());
        if let Some(target) = &file.symlink {
            let there = std::fs::read_link(path);
            return !there.is_ok_and(|there| leads_to(data, &file.path, there, target));
        }
        match look(data, file) {
            _ if file.pad => false,
            Ok(meta) if file.length == 0 => !meta.is_file() || meta.len() > 0,
            Ok(meta) => meta.len() > file.length,
            Err(_) => file.length == 0,
        }
    };
    let files = info.files.iter().enumerate();
    files
        .filter(|(_, file)| wrong(file))
        .map(|(at, _)| at)
        .collect()
}

/// Files with content that are not there.
pub(crate) fn missing_files(info: &Info, data: &Path) -> Vec<usize> {
    let files = info.files.iter().enumerate();
    files
        .filter(|(_, file)| !file.pad && file.symlink.is_none() && file.length > 0)
        .filter(|(_, file)| look(data, file).is_err_and(|it| it.kind() == ErrorKind::NotFound))
        .map(|(at, _)| at)
        .collect()
}

/// What is there of a file, under either of its names. Links are followed, but for paths too long
/// to be looked up at once.
fn look(data: &Path, file: &File) -> io::Result<Metadata> {
    let path = data.join(file.path.iter().collect::<PathBuf>());
    match (std::fs::metadata(&path), &file.given_name) {
        (Err(error), _) if error.kind() == ErrorKind::InvalidFilename => {
            metadata_below(data, &file.path)
        }
        (Err(error), Some(given)) if error.kind() == ErrorKind::NotFound => {
            std::fs::metadata(path.with_file_name(given))
        }
        (meta, _) => meta,
    }
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
    let torrent = crate::source::torrent(&args.torrent)?;
    if !args.data.is_dir() {
        return Err(Failure::usage(format!(
            "--data: {}: expected the folder that holds the content",
            args.data.display()
        )));
    }
    crate::signals::exit_at_first()
        .map_err(|error| Failure::failed(format!("signals: {error}")))?;
    let found = verify(&torrent, &args.data).map_err(|failure| Failure {
        message: match failure.code {
            USAGE => format!("{}: {failure}", args.torrent.display()),
            _ => failure.message,
        },
        ..failure
    })?;
    let info = &torrent.info;
    let report = Reporter::new(args.output);
    for ignored in &torrent.ignored {
        report.warning("source", &printable(&ignored.to_string()));
    }
    let mut fields = json!({
        "files_missing": found.missing_files.len(),
        "pieces_missing": found.missing.len(),
    });
    if let (Some(fields), Value::Object(counts)) =
        (fields.as_object_mut(), verified(found.ok, info.piece_count))
    {
        fields.extend(counts);
    }
    report.event("verified", fields);
    for &index in found.missing_files.iter().take(MAX_NAMED) {
        let path = printable(&info.files[index].path.join("/"));
        report.result(&format!("{path} is missing"));
    }
    if found.missing_files.len() > MAX_NAMED {
        let more = found.missing_files.len() - MAX_NAMED;
        report.result(&format!("and {more} more files are missing"));
    }
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
    for &index in found.files.iter().take(MAX_NAMED) {
        let file = &info.files[index];
        let path = printable(&file.path.join("/"));
        let message = match (&file.symlink, file.length) {
            (Some(target), _) => {
                let text = link_text(&file.path, target);
                let text = printable(&text.to_string_lossy());
                format!("{path} is missing or leads elsewhere: expected a symbolic link to {text}")
            }
            (None, 0) => format!("{path} is missing or not empty: expected a file of 0 bytes"),
            (None, length) => format!("{path} is too long: expected {length} bytes"),
        };
        // No count of pieces tells it.
        report.event("error", json!({ "kind": "file", "message": message }));
        report.result(&message);
    }
    if found.files.len() > MAX_NAMED {
        let more = found.files.len() - MAX_NAMED;
        report.result(&format!("and {more} more files are wrong"));
    }
    let files = match found.missing_files.len() {
        0 => String::new(),
        1 => "; 1 file is not there".to_owned(),
        more => format!("; {more} files are not there"),
    };
    report.result(&format!(
        "{}: {} right, {} wrong, {} missing{files}",
        printable(&info.name),
        count(found.ok as u64, "piece"),
        found.bad.len(),
        found.missing.len()
    ));
    if found.is_right() {
        return Ok(DONE);
    }
    let (torrent, data) = (args.torrent.display(), args.data.display());
    note(&format!(
        "error: {}; `download {torrent} -o {data}` fetches what is not there",
        found.reason()
    ));
    Ok(FAILED)
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
