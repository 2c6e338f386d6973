use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};

use bytes::Bytes;
use sha1::{Digest as _, Sha1};
use trackerless_core::bencode::Writer;
use trackerless_core::io::{Digest, HashKind};
use trackerless_core::metadata::{Assembled, Checked};
use trackerless_core::metainfo::{Info, Rules};
use trackerless_core::resume::Resume;
use trackerless_core::slab::Key;

use super::*;

mod ending;
mod theirs;

const PIECE: u32 = 32 * 1024;
const BLOCK: u32 = 16 * 1024;
const TORRENT: TorrentId = TorrentId(Key {
    index: 3,
    generation: 0,
});

/// Storage with the tests waiting for each answer.
struct Bench {
    storage: Storage,
    answers: Receiver<(JobId, JobResult)>,
    next: u32,
}

impl Bench {
    fn new(config: StorageConfig) -> Self {
        let (send, answers) = mpsc::channel();
        let storage = Storage::new(config, move |job, result| {
            let _ = send.send((job, result));
        });
        Self {
            storage,
            answers,
            next: 0,
        }
    }

    fn at(folder: &Path) -> Self {
        Self::new(StorageConfig {
            threads: 2,
            output: Some(folder.to_owned()),
            ..StorageConfig::default()
        })
    }

    fn submit(&mut self, work: Work<'_>) -> JobId {
        let job = JobId(Key {
            index: self.next,
            generation: 0,
        });
        self.next += 1;
        self.storage.submit(job, work);
        job
    }

    fn run(&mut self, work: Work<'_>) -> JobResult {
        let job = self.submit(work);
        let (answered, result) = self.answers.recv().unwrap();
        assert_eq!(answered, job);
        result
    }

    fn open(&mut self, info: &Arc<Info>) -> Vec<u8> {
        let work = Work::Open {
            torrent: TORRENT,
            info: Arc::clone(info),
            select: Arc::default(),
        };
        match self.run(work) {
            JobResult::Opened(opened) => opened.present,
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, piece: u32, begin: u32, data: Bytes) -> JobResult {
        self.run(Work::Write {
            torrent: TORRENT,
            piece,
            begin,
            data,
        })
    }

    fn write_piece(&mut self, content: &Bytes, piece: u32) {
        let start = (piece * PIECE) as usize;
        let end = (start + PIECE as usize).min(content.len());
        // Last block first: the running hash must not depend on luck.
        for begin in (start..end).step_by(BLOCK as usize).rev() {
            let block = content.slice(begin..(begin + BLOCK as usize).min(end));
            let done = self.write(piece, (begin - start) as u32, block);
            assert_eq!(done, JobResult::Written);
        }
    }

    fn hash(&mut self, piece: u32) -> JobResult {
        self.run(Work::Hash {
            torrent: TORRENT,
            piece,
            kind: HashKind::Sha1,
        })
    }

    fn commit(&mut self, piece: u32) {
        let work = Work::Commit {
            torrent: TORRENT,
            piece,
        };
        assert_eq!(self.run(work), JobResult::Committed);
    }

    fn read(&mut self, piece: u32, begin: u32, length: u32) -> JobResult {
        self.run(Work::Read {
            torrent: TORRENT,
            piece,
            begin,
            length,
        })
    }

    fn close(&mut self) {
        let closed = self.run(Work::CloseStorage { torrent: TORRENT });
        assert_eq!(closed, JobResult::ClosedStorage);
    }
}

fn content(length: usize) -> Bytes {
    let mut state = 1u32;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(byte).collect()
}

/// A torrent `t` of files with these paths and lengths.
fn torrent(files: &[(&str, u64)], content: &[u8]) -> Arc<Info> {
    let mut raw = Vec::new();
    let mut writer = Writer::new(&mut raw);
    writer.dict().key(b"files").list();
    for (path, length) in files {
        writer.dict().key(b"length").int(*length as i64);
        writer.key(b"path").list();
        for element in path.split('/') {
            writer.bytes(element.as_bytes());
        }
        writer.end().end();
    }
    let hashes: Vec<u8> = content
        .chunks(PIECE as usize)
        .flat_map(|piece| Sha1::digest(piece).to_vec())
        .collect();
    writer.end().key(b"name").bytes(b"t");
    writer.key(b"piece length").int(PIECE.into());
    writer.key(b"pieces").bytes(&hashes).end();
    Arc::new(Info::parse(raw.into()).unwrap())
}

fn sha1(bytes: &[u8]) -> JobResult {
    JobResult::Hashed(Digest::Sha1(Sha1::digest(bytes).into()))
}

#[test]
fn pieces_are_hashed_in_memory_and_committed_over_file_borders() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(100_000);
    let info = torrent(
        &[("a", 10), ("empty", 0), ("b/c", 50_000), ("d", 49_990)],
        &content,
    );
    let mut bench = Bench::at(folder.path());
    assert_eq!(bench.open(&info), [0]);
    assert!(folder.path().join("t/empty").is_file());
    assert!(!folder.path().join("t/b").exists());

    for piece in [2, 0, 3, 1] {
        bench.write_piece(&content, piece);
        let bytes = content.slice((piece * PIECE) as usize..);
        let bytes = &bytes[..bytes.len().min(PIECE as usize)];
        assert_eq!(bench.hash(piece), sha1(bytes));
        assert!(bench.storage.kept_bytes() > 0);
        // Asked for before it is in the files.
        let middle = Bytes::copy_from_slice(&bytes[100..1_600]);
        assert_eq!(
            bench.read(piece, 100, 1_500),
            JobResult::Read(middle.clone())
        );
        bench.commit(piece);
        assert_eq!(bench.storage.kept_bytes(), 0);
        assert_eq!(bench.read(piece, 100, 1_500), JobResult::Read(middle));
    }
    bench.close();
    let file = |name: &str| fs::read(folder.path().join("t").join(name)).unwrap();
    assert_eq!(file("a"), content[..10]);
    assert_eq!(file("b/c"), content[10..50_010]);
    assert_eq!(file("d"), content[50_010..]);
}

#[test]
fn over_the_budget_pieces_are_spilled_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(4 * PIECE as usize);
    let info = torrent(&[("f", content.len() as u64)], &content);
    let mut bench = Bench::new(StorageConfig {
        threads: 1,
        memory_budget: PIECE as usize,
        output: Some(folder.path().to_owned()),
        ..StorageConfig::default()
    });
    bench.open(&info);
    // The second halves first, so that spilled bytes have to be read back to be hashed.
    for begin in [BLOCK, 0] {
        for piece in 0..4 {
            let at = (piece * PIECE + begin) as usize;
            bench.write(piece, begin, content.slice(at..at + BLOCK as usize));
            assert!(bench.storage.kept_bytes() <= PIECE as usize);
        }
    }
    for piece in 0..4 {
        let at = (piece * PIECE) as usize;
        let bytes = content.slice(at..at + PIECE as usize);
        assert_eq!(bench.hash(piece), sha1(&bytes), "piece {piece}");
        assert_eq!(bench.read(piece, 0, PIECE), JobResult::Read(bytes));
        bench.commit(piece);
    }
    assert_eq!(fs::read(folder.path().join("t/f")).unwrap(), content);
}

#[test]
fn a_discarded_piece_starts_afresh() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(PIECE as usize);
    let info = torrent(&[("f", content.len() as u64)], &content);
    let mut bench = Bench::at(folder.path());
    bench.open(&info);
    bench.write(0, 0, Bytes::from(vec![0xee; PIECE as usize]));
    assert_ne!(bench.hash(0), sha1(&content));
    let discard = Work::Discard {
        torrent: TORRENT,
        piece: 0,
    };
    assert_eq!(bench.run(discard), JobResult::Discarded);
    assert_eq!(bench.storage.kept_bytes(), 0);
    assert_eq!(bench.hash(0), JobResult::Failed(JobError::Missing));
    bench.write_piece(&content, 0);
    assert_eq!(bench.hash(0), sha1(&content));
}

#[test]
fn what_is_not_there_is_missing_and_what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(PIECE as usize + 5);
    let info = torrent(&[("f", content.len() as u64)], &content);
    let mut bench = Bench::at(folder.path());
    assert_eq!(bench.read(0, 0, 1), JobResult::Failed(JobError::Missing));
    bench.open(&info);
    assert_eq!(bench.read(0, 0, 16), JobResult::Failed(JobError::Missing));
    let beyond = bench.write(1, 0, content.slice(..6));
    assert_eq!(beyond, JobResult::Failed(JobError::Missing));
    assert!(!folder.path().join("t").exists());
}

#[test]
fn no_link_leads_out_of_the_output_folder() {
    let outside = tempfile::tempdir().unwrap();
    let content = content(PIECE as usize * 2);
    let info = torrent(
        &[("d/f", u64::from(PIECE)), ("g", u64::from(PIECE))],
        &content,
    );
    for (link, piece) in [("t", 0), ("t/d", 0), ("t/g", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let target = outside.path().join("g");
        let to = if piece == 0 { outside.path() } else { &target };
        symlink(to, &link).unwrap();
        let mut bench = Bench::at(folder.path());
        let work = Work::Open {
            torrent: TORRENT,
            info: Arc::clone(&info),
            select: Arc::default(),
        };
        if let JobResult::Failed(error) = bench.run(work) {
            assert_eq!(error, JobError::InTheWay);
        } else {
            bench.write_piece(&content, piece);
            let commit = Work::Commit {
                torrent: TORRENT,
                piece,
            };
            let refused = JobResult::Failed(JobError::InTheWay);
            assert_eq!(bench.run(commit), refused, "{}", link.display());
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}

#[test]
fn presence_follows_sizes_and_holes_without_reading() {
    let folder = tempfile::tempdir().unwrap();
    let pieces = 64;
    let mut bytes = content((pieces * PIECE) as usize).to_vec();
    // One piece of zeros is right even where the file has a hole.
    bytes[10 * PIECE as usize..11 * PIECE as usize].fill(0);
    let info = torrent(&[("f", bytes.len() as u64)], &bytes);
    fs::create_dir(folder.path().join("t")).unwrap();
    let file = fs::File::create(folder.path().join("t/f")).unwrap();
    file.set_len(40 * u64::from(PIECE)).unwrap();
    for piece in [3, 39] {
        let at = (piece * PIECE) as usize;
        file.write_all_at(&bytes[at..at + PIECE as usize], at as u64)
            .unwrap();
    }
    let present = Bench::at(folder.path()).open(&info);
    let has = |piece: usize| present[piece / 8] & 0x80 >> (piece % 8) != 0;
    assert!(has(3) && has(10) && has(39));
    // Beyond the end nothing can be; elsewhere the file system may not know holes.
    assert!((40..64).all(|piece| !has(piece)));
}

/// Systems take 4,096 bytes of a path at once; names are shorter, folders may lie in one another.
#[test]
fn paths_of_any_length_are_written_and_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = vec!["n".repeat(200); 30].join("/");
    let content = content(PIECE as usize);
    let info = torrent(&[(&path, u64::from(PIECE))], &content);
    let mut bench = Bench::at(folder.path());
    bench.open(&info);
    bench.write_piece(&content, 0);
    bench.commit(0);
    bench.close();
    let mut bench = Bench::at(folder.path());
    assert_eq!(bench.open(&info), [0x80]);
    let digest = Digest::Sha1(Sha1::digest(&content).into());
    assert_eq!(bench.hash(0), JobResult::Hashed(digest));
    let meta = metadata_below(folder.path(), &info.files[0].path).unwrap();
    assert_eq!(meta.len(), u64::from(PIECE));
}

#[test]
fn after_a_kill_what_was_committed_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(8 * PIECE as usize);
    let info = torrent(&[("f", content.len() as u64)], &content);
    let mut bench = Bench::at(folder.path());
    bench.open(&info);
    for piece in [1, 6] {
        bench.write_piece(&content, piece);
        bench.hash(piece);
        bench.commit(piece);
    }
    bench.write_piece(&content, 3);
    // No close, no goodbye: only what was committed is in the files.
    std::mem::forget(bench);

    let mut again = Bench::at(folder.path());
    let present = again.open(&info);
    for piece in [1u32, 6] {
        assert_ne!(present[0] & 0x80 >> piece, 0);
        let at = (piece * PIECE) as usize;
        assert_eq!(again.hash(piece), sha1(&content[at..at + PIECE as usize]));
    }
    let right = |piece: u32| {
        let at = (piece * PIECE) as usize;
        sha1(&content[at..at + PIECE as usize])
    };
    assert_ne!(again.hash(3), right(3));
}

#[test]
fn a_longer_file_of_that_name_is_in_the_way_and_stays_as_it_is() {
    let content = content(100);
    let info = torrent(&[("f", 100), ("empty", 0)], &content);
    for name in ["f", "empty"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t").join(name);
        fs::create_dir(folder.path().join("t")).unwrap();
        fs::write(&file, [1; 500]).unwrap();
        let work = Work::Open {
            torrent: TORRENT,
            info: Arc::clone(&info),
            select: Arc::default(),
        };
        let opened = Bench::at(folder.path()).run(work);
        assert_eq!(opened, JobResult::Failed(JobError::InTheWay), "{name}");
        assert_eq!(fs::read(&file).unwrap(), [1; 500], "{name}");
        assert_eq!(fs::read_dir(folder.path().join("t")).unwrap().count(), 1);
    }
}

#[test]
fn a_file_that_grew_after_it_was_looked_at_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(100);
    let info = torrent(&[("f", 100)], &content);
    let mut bench = Bench::at(folder.path());
    bench.open(&info);
    let file = folder.path().join("t/f");
    fs::create_dir(folder.path().join("t")).unwrap();
    fs::write(&file, [1; 500]).unwrap();
    bench.write_piece(&content, 0);
    let commit = bench.run(Work::Commit {
        torrent: TORRENT,
        piece: 0,
    });
    assert_eq!(commit, JobResult::Failed(JobError::InTheWay));
    assert_eq!(fs::read(&file).unwrap(), [1; 500]);
}

#[test]
fn what_is_reserved_is_never_written_whatever_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(100);
    let info = torrent(&[("f", 100)], &content);
    let reserved = folder.path().join("kept");
    fs::write(&reserved, b"mine").unwrap();
    fs::create_dir(folder.path().join("t")).unwrap();
    fs::hard_link(&reserved, folder.path().join("t/f")).unwrap();
    let mut bench = Bench::new(StorageConfig {
        output: Some(folder.path().to_owned()),
        reserved: vec![reserved.clone()],
        ..StorageConfig::default()
    });
    bench.open(&info);
    bench.write_piece(&content, 0);
    let commit = bench.run(Work::Commit {
        torrent: TORRENT,
        piece: 0,
    });
    assert_eq!(commit, JobResult::Failed(JobError::InTheWay));
    assert_eq!(fs::read(&reserved).unwrap(), b"mine");
}

#[test]
fn read_only_storage_makes_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(100);
    let info = torrent(&[("f", 100), ("empty", 0)], &content);
    let mut bench = Bench::new(StorageConfig {
        read_only: true,
        output: Some(folder.path().to_owned()),
        ..StorageConfig::default()
    });
    bench.open(&info);
    let refused = bench.write(0, 0, content);
    assert_eq!(refused, JobResult::Failed(JobError::Permission));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn state_is_saved_and_names_are_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::new(folder.path());
    let mut bench = Bench::new(StorageConfig {
        state: Some(state.clone()),
        ..StorageConfig::default()
    });
    let save = Work::SaveState {
        kind: StateKind::DhtTable,
        data: b"table",
    };
    assert_eq!(bench.run(save), JobResult::Saved);
    assert_eq!(state.load_dht().as_deref(), Some(&b"table"[..]));
    let resolve = Work::Resolve {
        host: "127.0.0.1",
        port: 1,
    };
    let found = JobResult::Resolved(vec!["127.0.0.1".parse().unwrap()]);
    assert_eq!(bench.run(resolve), found);
}

#[test]
fn after_a_kill_only_what_was_written_since_the_save_is_hashed() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::new(folder.path().join("state"));
    let content = content(8 * PIECE as usize);
    let info = torrent(&[("f", content.len() as u64)], &content);
    let hash = info.hashes.short();
    let again = || {
        Bench::new(StorageConfig {
            output: Some(folder.path().to_owned()),
            state: Some(state.clone()),
            ..StorageConfig::default()
        })
    };
    let mut bench = again();
    bench.open(&info);
    for piece in [0, 5] {
        bench.write_piece(&content, piece);
        bench.commit(piece);
    }
    let resume = Resume {
        info_hash: hash,
        info: Some(info.raw.clone()),
        piece_count: 8,
        have: vec![0b1000_0100],
        ..Resume::default()
    };
    let save = Work::SaveResume {
        torrent: TORRENT,
        resume: Arc::new(resume),
    };
    assert_eq!(bench.run(save), JobResult::Saved);
    bench.write_piece(&content, 2);
    bench.commit(2);
    // No close, no second save.
    std::mem::forget(bench);

    let trusted = || state.load_resume(hash, folder.path()).unwrap().0.have;
    assert_eq!(trusted(), [0b1000_0100]);
    // What the engine hashes: what may be there and is not vouched for.
    let present = Bench::at(folder.path()).open(&info);
    assert_ne!(present[0] & 0b0010_0000, 0);
    fs::write(folder.path().join("t/f"), b"edited").unwrap();
    assert_eq!(trusted(), [0]);

    // Nor is it trusted again because we write to the same file from now on.
    let mut bench = again();
    bench.open(&info);
    bench.write_piece(&content, 7);
    bench.commit(7);
    std::mem::forget(bench);
    assert_eq!(trusted(), [0]);
}

#[test]
fn each_torrent_may_have_a_folder_of_its_own() {
    let (default, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = content(10);
    let info = torrent(&[("f", 10)], &content);
    let mut bench = Bench::at(default.path());
    let hash = info.hashes.short();
    bench.storage.register(hash, own.path().to_owned());
    bench.open(&info);
    bench.write_piece(&content, 0);
    bench.commit(0);
    assert_eq!(fs::read(own.path().join("t/f")).unwrap(), content);
    assert_eq!(fs::read_dir(default.path()).unwrap().count(), 0);
}

#[test]
fn metadata_is_joined_hashed_and_read_on_a_worker() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(folder.path());
    let content = content(3 * PIECE as usize);
    let info = torrent(&[("f", content.len() as u64)], &content);
    let (head, tail) = info.raw.split_at(40);
    let mut check = |parts: &[&[u8]]| {
        let parts = parts.iter().map(|part| Bytes::copy_from_slice(part));
        let assembled = Arc::new(Assembled::new(
            info.hashes,
            Rules::default(),
            parts.collect(),
        ));
        bench.run(Work::CheckMetadata {
            torrent: TORRENT,
            assembled,
        })
    };
    let right = JobResult::Metadata(Checked::Right(Arc::clone(&info)));
    assert_eq!(check(&[head, tail]), right);
    let wrong = JobResult::Metadata(Checked::WrongHash);
    assert_eq!(check(&[tail, head]), wrong);
}

#[test]
fn errors_of_the_system_are_told_apart() {
    use std::io::Error;
    let told = |errno: rustix::io::Errno| super::job_error(&Error::from(errno));
    for (errno, error) in [
        (Errno::ROFS, JobError::ReadOnly),
        (Errno::NOTDIR, JobError::InTheWay),
        (Errno::ISDIR, JobError::InTheWay),
        (Errno::EXIST, JobError::InTheWay),
        (Errno::LOOP, JobError::InTheWay),
        (Errno::MFILE, JobError::TooManyFiles),
        (Errno::NFILE, JobError::TooManyFiles),
        (Errno::ACCESS, JobError::Permission),
        (Errno::NOSPC, JobError::NoSpace),
        (Errno::IO, JobError::Io),
    ] {
        assert_eq!(told(errno), error, "{errno:?}");
    }
}
