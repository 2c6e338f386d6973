include!("seeding.rs");

use std::sync::Arc;

use sha1::Digest as _;
use trackerless_common::state::StateDir;
use trackerless_core::io::{Command as Wanted, Input, JobError, JobResult};
use trackerless_core::metainfo::Torrent;

const FILES: u64 = 2_000;
const PIECE: usize = 16 << 10;

/// What storage did after the engine was told to end, by the recording of a run: blocks taken,
/// pieces hashed, and reads; and whether it was told.
fn done_after_the_stop(recording: &Path) -> (usize, bool) {
    let recorded = fs::read(recording).expect("it is there");
    let (_, records) = trackerless_core::record::Reader::open(&recorded).expect("a recording");
    let (mut done, mut stopped) = (0, false);
    for record in records {
        record.expect("it is whole").input.feed(|input| match input {
            Input::Command { command, .. } => stopped |= matches!(*command, Wanted::Shutdown),
            Input::JobDone { result, .. } if stopped => match result {
                JobResult::Written | JobResult::Hashed(_) | JobResult::Read(_) => done += 1,
                JobResult::Failed(error) => assert_eq!(error, JobError::Cancelled),
                _ => {}
            },
            _ => {}
        });
    }
    (done, stopped)
}

/// The pieces that are right in the files below `folder`.
fn right_pieces(torrent: &Torrent, folder: &Path) -> Vec<bool> {
    let mut content = Vec::new();
    for file in &torrent.info.files {
        let path = folder.join(file.path.iter().collect::<PathBuf>());
        let mut bytes = fs::read(path).unwrap_or_default();
        bytes.resize(file.length as usize, 0);
        content.extend(bytes);
    }
    let pieces = content.chunks(PIECE).enumerate();
    let right = pieces.map(|(index, piece)| {
        let hash: [u8; 20] = sha1::Sha1::digest(piece).into();
        torrent.info.piece_hash(index as u32) == Some(hash)
    });
    right.collect()
}

/// A download of many files that is stopped midway leaves what is queued, and what it saves is so.
#[test]
fn ctrl_c_leaves_queued_disk_work_and_saves_only_what_is_on_disk() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    for n in 0..FILES {
        put(&folder.join("data/t"), &format!("{}/{n:04}", n / 100), &bytes(n, 4_000));
    }
    create(folder, "data/t", "t.torrent", &["--piece-length", "16K"]);
    let seeder = Seeder::start(folder, "t.torrent", "data", &["--upload-limit", "4M"]);
    let torrent = fs::read(folder.join("t.torrent")).expect("it is there");
    let torrent = Arc::new(Torrent::parse(torrent.into()).expect("a torrent"));
    let hash = torrent.info.hashes.short();
    let line = ["download", "t.torrent", "-o", "out", "--state-dir", "state", "--peer"];
    let recorded = ["--record", "recording"];
    let line = [&line[..], &[&seeder.address], &recorded].concat();
    let some = |event: &Value| event["event"] == "progress" && event["done"].as_u64() > Some(0);
    let (download, _) = Seeder::ready(folder, &line, some);
    assert_eq!(download.stop(), Some(130));

    let (done, stopped) = done_after_the_stop(&folder.join("recording"));
    assert!(stopped);
    // What was under way, and answers that were on their way: far less than what is missing.
    assert!(done <= 300, "{done} jobs were done for nobody");
    let right = right_pieces(&torrent, &folder.join("out"));
    assert!(!right.iter().all(|right| *right), "it was complete before it was stopped");
    let state = StateDir::new(folder.join("state"));
    let (resume, _) = state.load_resume(hash, &folder.join("out")).expect("it is saved");
    let claimed = |piece: usize| resume.have[piece / 8] & (0x80 >> (piece % 8)) != 0;
    for (piece, right) in right.iter().enumerate() {
        assert!(!claimed(piece) || *right, "piece {piece} is not on disk");
    }
    assert!((0..right.len()).any(claimed), "nothing was saved");

    let have = right.iter().filter(|right| **right).count();
    let fetched = downloaded(folder, "t.torrent", "out", &["--peer", &seeder.address]);
    assert!(fetched <= ((right.len() - have) * PIECE) as u64, "{have} were there, {fetched} fetched");
    assert_same(&tree(&folder.join("data/t")), &tree(&folder.join("out/t")));
}
