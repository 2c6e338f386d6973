//! What the files looked like when resume data was saved, and what we did to them since.
//!
//! Resume data says which pieces were right. A file vouches for that while it is as it was seen,
//! or was changed since by nobody but us: before each write its number goes to the end of a
//! journal, whose own time of change is thus our last sign of life. A file that was written by us
//! and not changed after that sign holds what it held, and new pieces besides; those are hashed.
//! After a kill nothing else is hashed; after a change by others, the pieces of the files changed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use trackerless_core::bencode::{self, Writer};
use trackerless_core::metainfo::Info;

use crate::storage::{lock, metadata_below, parts_name, shared_pieces};

/// How much later than our last sign of life our own last write may show, nanoseconds: it is
/// announced first, and clocks of file systems are coarse. Changes by others within this time of
/// a kill go unnoticed, as those made while we ran.
const GRACE: u64 = 2_000_000_000;
/// Bytes of one record of the journal: the number of a file.
const RECORD: u64 = 4;
/// Bytes of one file in a stamp: its size, and its time of change.
const SEEN: usize = 16;

/// What a file looks like; `None` when it is not there.
type Seen = Option<(u64, u64)>;

/// Where content is and what its files looked like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    folder: PathBuf,
    files: Vec<Seen>,
    /// Bytes of the journal at that time, or before the first write that was under way: its files
    /// may have been looked at before it was done.
    journal: u64,
}

impl Stamp {
    /// `data` with this in front of it.
    pub(crate) fn wrap(stamp: Option<&Self>, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len() + 256);
        let mut writer = Writer::new(&mut out);
        writer.dict();
        let folder = stamp.and_then(|stamp| Some((stamp, stamp.folder.to_str()?)));
        if let Some((stamp, folder)) = folder {
            let mut files = Vec::with_capacity(stamp.files.len() * SEEN);
            for seen in &stamp.files {
                // No file has as many bytes.
                let (length, changed) = seen.unwrap_or((u64::MAX, 0));
                files.extend_from_slice(&length.to_le_bytes());
                files.extend_from_slice(&changed.to_le_bytes());
            }
            writer.key(b"files").bytes(&files);
            writer.key(b"folder").bytes(folder.as_bytes());
            writer.key(b"journal").int(stamp.journal as i64);
        }
        writer.end();
        out.extend_from_slice(data);
        out
    }

    /// What [`Stamp::wrap`] made; `None` for anything else.
    pub(crate) fn unwrap(saved: &[u8]) -> Option<(Option<Self>, &[u8])> {
        let (document, used) = bencode::decode_prefix(saved, &bencode::Limits::TORRENT).ok()?;
        let dict = document.root().as_dict()?;
        let stamp = || {
            let folder = std::str::from_utf8(dict.bytes(b"folder")?).ok()?;
            let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
            let files = dict.bytes(b"files")?.chunks_exact(SEEN);
            let files = files.map(|seen| {
                let (length, changed) = seen.split_at(8);
                Some((number(length), number(changed))).filter(|(length, _)| *length != u64::MAX)
            });
            Some(Self {
                folder: folder.into(),
                files: files.collect(),
                journal: u64::try_from(dict.int(b"journal")?).ok()?,
            })
        };
        Some((stamp(), &saved[used..]))
    }

    /// Clears the bits in `have`, a bit set of pieces, of all pieces that this does not vouch for:
    /// those of files in another folder, and of files that others changed.
    pub(crate) fn keep_vouched(&self, info: &Info, folder: &Path, journal: &Path, have: &mut [u8]) {
        let here = fs::canonicalize(folder).is_ok_and(|root| root == self.folder);
        // The last one is what is kept beside the content.
        if !here || self.files.len() != info.files.len() + 1 {
            have.fill(0);
            return;
        }
        let mut clear = |piece: u32| {
            if let Some(byte) = have.get_mut(piece as usize / 8) {
                *byte &= !(0x80 >> (piece % 8));
            }
        };
        let journal = Journaled::read(journal, self.journal).unwrap_or_default();
        for (index, (file, seen)) in info.files.iter().zip(&self.files).enumerate() {
            if file.pad || file.length == 0 {
                continue;
            }
            let now = look(&self.folder, &file.path);
            if now == *seen || journal.explains(index as u32, *seen, now) {
                continue;
            }
            info.pieces_of_file(index).for_each(&mut clear);
        }
        let index = info.files.len();
        let (seen, now) = (self.files[index], look_beside(&self.folder, info));
        if now != seen && !journal.explains(index as u32, seen, now) {
            shared_pieces(info).into_iter().for_each(clear);
        }
    }
}

/// Which files we wrote since a stamp, and when we did last.
#[derive(Debug, Default)]
struct Journaled {
    files: BTreeSet<u32>,
    last: u64,
}

impl Journaled {
    fn read(path: &Path, from: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        // A journal that is shorter was begun anew since.
        let from = if meta.len() < from { 0 } else { from };
        file.seek(SeekFrom::Start(from))?;
        let mut records = Vec::new();
        file.read_to_end(&mut records)?;
        let (records, _) = records.as_chunks::<{ RECORD as usize }>();
        Ok(Self {
            files: records.iter().map(|&it| u32::from_le_bytes(it)).collect(),
            last: changed(&meta).unwrap_or(0),
        })
    }

    /// Whether all that happened to a file between `before` and `now` is our own writing, which
    /// never makes a file shorter.
    fn explains(&self, index: u32, before: Seen, now: Seen) -> bool {
        let (length, since) = before.unwrap_or_default();
        now.is_some_and(|(now, at)| {
            now >= length && at >= since && at <= self.last.saturating_add(GRACE)
        }) && self.files.contains(&index)
    }
}

/// Watches our own writes to the files of one torrent.
#[derive(Debug)]
pub(crate) struct Watch {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    journal: Option<File>,
    bytes: u64,
    /// Bytes of the journal when the last stamp was taken.
    saved: u64,
    /// Bytes of the journal before each write that is under way.
    under_way: Vec<u64>,
    closed: bool,
    /// What files looked like when they were looked at last; empty before the first time.
    seen: Vec<Seen>,
}

impl Watch {
    /// Keeps its journal at `path`, which is made with the first record.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            state: Mutex::default(),
        }
    }

    /// `files` are about to be written, all of one piece; [`Self::after_write`] takes the answer.
    pub(crate) fn before_write(&self, files: &[u32]) -> u64 {
        let mut state = lock(&self.state);
        // Without a record the files are hashed at the next start: no reason to stop writing.
        let from = self.append(&mut state, files).unwrap_or_else(|_| {
            state.journal = None;
            state.bytes
        });
        state.under_way.push(from);
        from
    }

    /// The write that [`Self::before_write`] announced is over, well or not.
    pub(crate) fn after_write(&self, announced: u64) {
        let mut state = lock(&self.state);
        let mut all = state.under_way.iter();
        if let Some(at) = all.position(|it| *it == announced) {
            state.under_way.swap_remove(at);
        }
    }

    /// What files look like that nobody writes to yet, as `seen` says: none of them need be looked
    /// at for the first stamp. Those that others change until then vouch for nothing.
    pub(crate) fn first_seen(&self, info: &Info, root: &Path, seen: impl Fn(u32) -> Seen) {
        let mut all: Vec<Seen> = (0..info.files.len() as u32).map(seen).collect();
        all.push(look_beside(root, info));
        lock(&self.state).seen = all;
    }

    /// Bytes of the journal before.
    fn append(&self, state: &mut State, files: &[u32]) -> io::Result<u64> {
        if state.journal.is_none() {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = File::options().append(true).create(true).open(&self.path)?;
            // A record that was cut short by a full disk would shift those after it.
            let whole = file.metadata()?.len() / RECORD * RECORD;
            file.set_len(whole)?;
            state.bytes = whole;
            state.journal = Some(file);
        }
        let before = state.bytes;
        if let Some(journal) = &mut state.journal {
            let records: Vec<u8> = files.iter().flat_map(|it| it.to_le_bytes()).collect();
            journal.write_all(&records)?;
            state.bytes += records.len() as u64;
        }
        Ok(before)
    }

    /// Looks at the files of `info` below `root`: at `synced`, which are on the device now, and at
    /// those that were written `meanwhile`. What resume data said before they were brought there is
    /// true of the device.
    pub(crate) fn take(
        &self,
        info: &Info,
        root: &Path,
        synced: BTreeSet<u32>,
        meanwhile: impl Fn() -> BTreeSet<u32>,
    ) -> Option<Stamp> {
        let folder = fs::canonicalize(root).ok()?;
        let (journal, mut seen) = {
            let mut state = lock(&self.state);
            let under_way = state.under_way.iter().copied().min();
            let seen = std::mem::take(&mut state.seen);
            (under_way.unwrap_or(state.bytes), seen)
        };
        let mut changed = synced;
        // Files written meanwhile look otherwise by now; the journal tells of them.
        changed.extend(meanwhile());
        let count = info.files.len() + 1;
        let one = |index: usize| match info.files.get(index) {
            Some(file) if file.pad => None,
            Some(file) => look(&folder, &file.path),
            None => look_beside(&folder, info),
        };
        if seen.len() == count {
            // Others' changes are not looked for: they must not be taken for our own.
            for index in changed.into_iter().map(|index| index as usize) {
                seen[index] = one(index);
            }
        } else {
            seen = (0..count).map(one).collect();
        }
        let mut state = lock(&self.state);
        state.saved = journal;
        state.seen.clone_from(&seen);
        Some(Stamp {
            folder,
            files: seen,
            journal,
        })
    }

    /// No write follows.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.tidy();
    }

    /// Resume data with the last stamp is saved, or no write follows: removes the journal once
    /// both are so and the stamp tells everything.
    pub(crate) fn tidy(&self) {
        let mut state = lock(&self.state);
        if state.closed && state.journal.is_some() && state.saved == state.bytes {
            state.journal = None;
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn look(root: &Path, path: &[String]) -> Seen {
    let meta = metadata_below(root, path).ok()?;
    Some((meta.len(), changed(&meta)?))
}

/// What is kept beside the content, of pieces that reach into files which were not asked for.
fn look_beside(root: &Path, info: &Info) -> Seen {
    look(root, &[parts_name(info)])
}

/// Nanoseconds since 1970.
fn changed(meta: &fs::Metadata) -> Option<u64> {
    let since = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_nanos() as u64)
}

#[cfg(test)]
mod tests;
