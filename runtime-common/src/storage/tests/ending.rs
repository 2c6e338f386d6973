//! What becomes of jobs that are queued when everything ends, and of those that go wrong.

use std::sync::mpsc::channel;

use super::*;

impl Bench {
    /// Holds the first worker until the sender is gone.
    fn hold(&mut self) -> mpsc::Sender<()> {
        let (held, holds) = channel::<()>();
        let (begun, begins) = channel();
        self.storage.run(0, move |_| {
            let _ = begun.send(());
            let _ = holds.recv();
        });
        begins.recv().unwrap();
        held
    }

    fn answers(&self, count: usize) -> Vec<JobResult> {
        let all = (0..count).map(|_| self.answers.recv().unwrap());
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(job, _)| job.0.index);
        all.into_iter().map(|(_, result)| result).collect()
    }
}

fn one_thread(folder: &Path) -> Bench {
    Bench::new(StorageConfig {
        threads: 1,
        output: Some(folder.to_owned()),
        ..StorageConfig::default()
    })
}

#[test]
fn what_is_queued_is_given_up_with_its_torrent_but_what_was_verified_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(3 * PIECE as usize);
    let info = torrent(&[("f", content.len() as u64)], &content);
    let mut bench = one_thread(folder.path());
    bench.open(&info);
    bench.write_piece(&content, 0);
    let held = bench.hold();
    let first = content.slice(..BLOCK as usize);
    let (torrent, kind) = (TORRENT, HashKind::Sha1);
    bench.submit(Work::Commit { torrent, piece: 0 });
    for piece in 1..3 {
        let data = first.clone();
        bench.submit(Work::Write {
            torrent,
            piece,
            begin: 0,
            data,
        });
        bench.submit(Work::Hash {
            torrent,
            piece,
            kind,
        });
        let (begin, length) = (0, BLOCK);
        bench.submit(Work::Read {
            torrent,
            piece,
            begin,
            length,
        });
        // Nobody asks for this; but half a piece must not pass for one that was kept.
        bench.submit(Work::Commit { torrent, piece });
    }
    bench.submit(Work::CloseStorage { torrent });
    drop(held);
    let mut results = bench.answers(10);
    assert_eq!(results.pop(), Some(JobResult::ClosedStorage));
    assert_eq!(results.remove(0), JobResult::Committed);
    let given_up = JobResult::Failed(JobError::Cancelled);
    assert!(results.iter().all(|it| *it == given_up), "{results:?}");
    assert_eq!(bench.storage.kept_bytes(), 0);
    let file = fs::read(folder.path().join("t/f")).unwrap();
    assert_eq!(file, content[..PIECE as usize]);

    // The same torrent can be opened again.
    bench.open(&info);
    bench.write_piece(&content, 1);
    bench.commit(1);
}

#[test]
fn a_torrent_of_many_files_that_is_being_opened_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(PIECE as usize);
    let names: Vec<String> = (0..500).map(|n| format!("{n}")).collect();
    let mut files: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 0)).collect();
    files.push(("f", u64::from(PIECE)));
    let info = torrent(&files, &content);
    let mut bench = one_thread(folder.path());
    let held = bench.hold();
    bench.submit(Work::Open {
        torrent: TORRENT,
        info,
        select: Arc::default(),
    });
    bench.submit(Work::CloseStorage { torrent: TORRENT });
    drop(held);
    let given_up = JobResult::Failed(JobError::Cancelled);
    assert_eq!(bench.answers(2), [given_up, JobResult::ClosedStorage]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn dropping_keeps_and_saves_what_was_verified_and_gives_up_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(64 * PIECE as usize);
    let info = torrent(&[("f", content.len() as u64)], &content);
    let mut bench = one_thread(folder.path());
    bench.open(&info);
    bench.write_piece(&content, 0);
    let held = bench.hold();
    for piece in 0..64 {
        let kind = HashKind::Sha1;
        bench.submit(Work::Hash {
            torrent: TORRENT,
            piece,
            kind,
        });
    }
    bench.submit(Work::Commit {
        torrent: TORRENT,
        piece: 0,
    });
    let Bench {
        storage, answers, ..
    } = bench;
    // Dropping begins with this; here it comes before the worker may go on.
    storage.shared.end();
    drop(held);
    drop(storage);
    let results: Vec<_> = answers.iter().map(|(_, result)| result).collect();
    let hashed = |it: &&JobResult| matches!(it, JobResult::Hashed(_));
    assert!(results.iter().filter(hashed).count() < 64, "{results:?}");
    assert!(results.contains(&JobResult::Committed), "{results:?}");
    let file = fs::read(folder.path().join("t/f")).unwrap();
    assert_eq!(file, content[..PIECE as usize]);
}

/// A mistake of ours, as in the arithmetic of a torrent that contradicts itself.
#[test]
fn a_panic_is_the_answer_of_its_job_alone() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(2 * PIECE as usize);
    let info = torrent(&[("f", content.len() as u64)], &content);
    let mut bench = one_thread(folder.path());
    bench.open(&info);
    bench.write_piece(&content, 0);
    let mut impossible = Info::parse(info.raw.clone()).unwrap();
    impossible.piece_length = 0;
    let other = TorrentId(Key {
        index: 4,
        generation: 0,
    });
    let opened = bench.run(Work::Open {
        torrent: other,
        info: Arc::new(impossible),
        select: Arc::from([0]),
    });
    assert_eq!(opened, JobResult::Failed(JobError::Internal));
    bench
        .storage
        .run(0, |_| panic!("a mistake, as this test wants it"));
    // What the worker has in memory is there still.
    assert_eq!(bench.hash(0), sha1(&content[..PIECE as usize]));
    bench.commit(0);
    bench.close();
}
