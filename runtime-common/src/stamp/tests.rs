use super::*;
use std::cell::RefCell;
use std::time::{Duration, SystemTime};

const PIECE: usize = 16 << 10;

/// Two files of two pieces each.
fn info() -> Info {
    let raw = format!(
        "d5:filesld6:lengthi32768e4:pathl1:aeed6:lengthi32768e4:pathl1:beee4:name1:t\
         12:piece lengthi{PIECE}e6:pieces80:{}e",
        "x".repeat(80)
    );
    Info::parse(raw.into_bytes().into()).unwrap()
}

struct Bench {
    folder: tempfile::TempDir,
    info: Info,
    watch: Watch,
    written: RefCell<BTreeSet<u32>>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = Self {
            info: info(),
            written: RefCell::default(),
            watch: Watch::new(folder.path().join("state/journal")),
            folder,
        };
        fs::create_dir(this.folder.path().join("t")).unwrap();
        for name in ["a", "b"] {
            fs::write(this.file(name), vec![1; 100]).unwrap();
        }
        this
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("t").join(name)
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("state/journal")
    }

    fn save(&self) -> Stamp {
        let synced = std::mem::take(&mut *self.written.borrow_mut());
        let folder = self.folder.path();
        let stamp = self.watch.take(&self.info, folder, synced, BTreeSet::new);
        let stamp = stamp.unwrap();
        // As it is after a start.
        let saved = Stamp::wrap(Some(&stamp), b"data\n");
        let (back, data) = Stamp::unwrap(&saved).unwrap();
        assert_eq!((back.as_ref(), data), (Some(&stamp), &b"data\n"[..]));
        stamp
    }

    /// Pieces that `stamp` vouches for, of all.
    fn vouched(&self, stamp: &Stamp, folder: &Path) -> u8 {
        let mut have = [0xf0];
        stamp.keep_vouched(&self.info, folder, &self.journal(), &mut have);
        have[0]
    }

    fn here(&self, stamp: &Stamp) -> u8 {
        self.vouched(stamp, self.folder.path())
    }

    fn write(&self, index: u32, name: &str, length: usize) {
        let announced = self.watch.before_write(&[index]);
        fs::write(self.file(name), vec![2; length]).unwrap();
        self.watch.after_write(announced);
        self.written.borrow_mut().insert(index);
    }

    fn touch(&self, name: &str, at: SystemTime) {
        let file = File::options().write(true).open(self.file(name)).unwrap();
        file.set_modified(at).unwrap();
    }
}

#[test]
fn files_that_others_change_vouch_for_nothing_and_the_rest_still_does() {
    let bench = Bench::new();
    let stamp = bench.save();
    assert_eq!(bench.here(&stamp), 0xf0);
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(bench.vouched(&stamp, elsewhere.path()), 0);

    let later = SystemTime::now() + Duration::from_secs(5);
    bench.touch("a", later);
    assert_eq!(bench.here(&stamp), 0x30);
    fs::remove_file(bench.file("b")).unwrap();
    assert_eq!(bench.here(&stamp), 0);
}

#[test]
fn our_own_writes_after_a_save_take_no_trust_away() {
    let bench = Bench::new();
    let stamp = bench.save();
    bench.write(1, "b", 200);
    assert_eq!(bench.here(&stamp), 0xf0);
    // Shorter than it was: not our doing.
    fs::write(bench.file("b"), vec![2; 50]).unwrap();
    assert_eq!(bench.here(&stamp), 0xc0);
    bench.write(1, "b", 200);
    assert_eq!(bench.here(&stamp), 0xf0);
    // Long after our last sign of life.
    bench.touch("b", SystemTime::now() + Duration::from_secs(5));
    assert_eq!(bench.here(&stamp), 0xc0);
    // Never announced by us.
    bench.touch("a", SystemTime::now() + Duration::from_millis(500));
    assert_eq!(bench.here(&stamp), 0);
}

#[test]
fn a_file_that_others_change_while_we_run_is_not_taken_for_ours_at_the_next_save() {
    let bench = Bench::new();
    bench.save();
    bench.touch("a", SystemTime::now() + Duration::from_secs(5));
    bench.write(1, "b", 200);
    assert_eq!(bench.here(&bench.save()), 0x30);
}

#[test]
fn a_journal_ends_with_a_clean_close_and_one_begun_anew_counts_from_its_start() {
    let bench = Bench::new();
    for _ in 0..500 {
        bench.write(1, "b", 200);
    }
    let stamp = bench.save();
    bench.watch.close();
    assert!(!bench.journal().exists());
    assert_eq!(bench.here(&stamp), 0xf0);
    bench.write(0, "a", 300);
    assert_eq!(bench.here(&stamp), 0xf0);
    bench.watch.close();
    assert!(bench.journal().exists(), "it is needed until the next save");
}

#[test]
fn a_write_that_is_under_way_when_files_are_looked_at_is_ours() {
    let bench = Bench::new();
    let announced = bench.watch.before_write(&[0]);
    // Announced before the stamp, and by more records than this one.
    for _ in 0..500 {
        bench.write(1, "b", 200);
    }
    let stamp = bench.save();
    fs::write(bench.file("a"), vec![2; 300]).unwrap();
    bench.watch.after_write(announced);
    assert_eq!(bench.here(&stamp), 0xf0);
    // Nobody announced the next one.
    let stamp = bench.save();
    bench.touch("a", SystemTime::now() + Duration::from_secs(5));
    assert_eq!(bench.here(&stamp), 0x30);
}

#[test]
fn what_was_seen_at_the_start_vouches_for_files_that_nobody_touched_since() {
    let bench = Bench::new();
    let seen = |index| look(bench.folder.path(), &bench.info.files[index as usize].path);
    bench
        .watch
        .first_seen(&bench.info, bench.folder.path(), seen);
    bench.touch("a", SystemTime::now() + Duration::from_secs(5));
    assert_eq!(bench.here(&bench.save()), 0x30);
}

#[test]
fn what_is_no_stamp_is_refused() {
    assert!(Stamp::unwrap(b"{}\n").is_none());
    assert!(Stamp::unwrap(b"").is_none());
    assert_eq!(
        Stamp::unwrap(&Stamp::wrap(None, b"x")),
        Some((None, &b"x"[..]))
    );
}
