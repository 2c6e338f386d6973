//! What somebody else has put, or puts meanwhile, where the content goes.

use super::*;

/// Everything is spilled at once.
fn spilling(folder: &Path) -> Bench {
    Bench::new(StorageConfig {
        threads: 1,
        memory_budget: 0,
        output: Some(folder.to_owned()),
        ..StorageConfig::default()
    })
}

fn names(folder: &Path) -> Vec<String> {
    let all = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = all
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_spilled_does_not_replace_a_file_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(2 * PIECE as usize);
    let half = u64::from(PIECE / 2);
    // The file of somebody is in the middle of the first piece.
    let files = [("a", 100), ("notes", half), ("z", 3 * half - 100)];
    let info = torrent(&files, &content);
    fs::create_dir(folder.path().join("t")).unwrap();
    let notes = folder.path().join("t/notes");
    fs::write(&notes, b"not to be lost").unwrap();
    let mut bench = spilling(folder.path());
    bench.open(&info);
    bench.write_piece(&content, 0);
    assert_eq!(bench.storage.kept_bytes(), 0);
    assert_eq!(fs::read(&notes).unwrap(), b"not to be lost");
    // It is spilled all the same, and read back, and no name tells of it.
    let bytes = content.slice(..PIECE as usize);
    assert_eq!(bench.hash(0), sha1(&bytes));
    assert_eq!(
        bench.read(0, 50, 1_000),
        JobResult::Read(bytes.slice(50..1_050))
    );
    assert_eq!(names(folder.path()), ["t"]);
    assert_eq!(names(&folder.path().join("t")), ["notes"]);

    // What was wrong is not kept, and has replaced nothing.
    let discard = Work::Discard {
        torrent: TORRENT,
        piece: 0,
    };
    assert_eq!(bench.run(discard), JobResult::Discarded);
    assert_eq!(bench.hash(0), JobResult::Failed(JobError::Missing));
    assert_eq!(fs::read(&notes).unwrap(), b"not to be lost");

    // What is right takes its place, as whoever asked for the download wants it.
    bench.write_piece(&content, 0);
    bench.commit(0);
    let there = fs::read(&notes).unwrap();
    assert_eq!(there, content[100..100 + half as usize]);
    // From then on the files are ours.
    bench.write_piece(&content, 1);
    assert_eq!(names(&folder.path().join("t")), ["a", "notes", "z"]);
    bench.commit(1);
    bench.close();
    assert_eq!(
        fs::read(folder.path().join("t/z")).unwrap(),
        content[100 + half as usize..]
    );
}

#[test]
fn a_file_that_appears_meanwhile_is_in_the_way_and_stays_as_it_is() {
    let content = content(100);
    let info = torrent(&[("f", 100)], &content);
    for (budget, length) in [(0, 10), (1 << 20, 10), (0, 100), (1 << 20, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Bench::new(StorageConfig {
            memory_budget: budget,
            output: Some(folder.path().to_owned()),
            ..StorageConfig::default()
        });
        bench.open(&info);
        fs::create_dir(folder.path().join("t")).unwrap();
        let file = folder.path().join("t/f");
        fs::write(&file, vec![7; length]).unwrap();
        let in_the_way = JobResult::Failed(JobError::InTheWay);
        let written = bench.write(0, 0, content.clone());
        match budget {
            0 => assert_eq!(written, in_the_way),
            _ => assert_eq!(written, JobResult::Written),
        }
        let commit = Work::Commit {
            torrent: TORRENT,
            piece: 0,
        };
        assert_eq!(bench.run(commit), in_the_way);
        assert_eq!(fs::read(&file).unwrap(), vec![7; length]);
    }
}

/// Folders are kept open: what takes the place of one is seen all the same.
#[test]
fn a_link_that_takes_the_place_of_a_folder_leads_nothing_out() {
    let outside = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let content = content(3 * PIECE as usize);
    let piece = u64::from(PIECE);
    let info = torrent(&[("d/a", piece), ("d/b", piece), ("d/c", piece)], &content);
    let mut bench = Bench::at(folder.path());
    bench.open(&info);
    bench.write_piece(&content, 0);
    bench.commit(0);
    let (d, aside) = (folder.path().join("t/d"), folder.path().join("aside"));
    fs::rename(&d, &aside).unwrap();
    symlink(outside.path(), &d).unwrap();
    for piece in [1, 2] {
        bench.write_piece(&content, piece);
        let commit = bench.run(Work::Commit {
            torrent: TORRENT,
            piece,
        });
        // Either the folder that is open still, or none.
        if commit != JobResult::Committed {
            assert_eq!(commit, JobResult::Failed(JobError::InTheWay));
        }
        assert_eq!(names(outside.path()), [] as [&str; 0]);
        std::thread::sleep(2 * changes::LOOK_EVERY);
    }
    assert!(!aside.join("c").exists());
}

#[test]
fn a_reserved_name_is_not_made_as_content() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(2 * PIECE as usize);
    let info = torrent(
        &[("d/f", u64::from(PIECE)), ("g", u64::from(PIECE))],
        &content,
    );
    let mut bench = Bench::new(StorageConfig {
        output: Some(folder.path().to_owned()),
        // Neither is there yet, nor the folder.
        reserved: vec![
            folder.path().join("t/d/f"),
            folder.path().join("t/d/../d/x"),
        ],
        ..StorageConfig::default()
    });
    bench.open(&info);
    bench.write_piece(&content, 0);
    let commit = bench.run(Work::Commit {
        torrent: TORRENT,
        piece: 0,
    });
    assert_eq!(commit, JobResult::Failed(JobError::InTheWay));
    assert!(!folder.path().join("t/d/f").exists());
    bench.write_piece(&content, 1);
    bench.commit(1);
}
