//! The virtual disk, and content that many hosts share.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sha1::{Digest as _, Sha1};
use trackerless_core::id::Id20;
use trackerless_core::io::{Digest, JobError, JobResult, Opened, StateKind, TorrentId};
use trackerless_core::metainfo::Info;
use trackerless_core::swarm::picker::BLOCK_LENGTH;

use super::directory::Quick;
use super::draw::{Purpose, below, chance, draw, flip};

/// Smallest part of a disk that is written as a whole.
const SECTOR: usize = 4_096;

/// How a host's disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpec {
    /// What every job takes besides its bytes; jobs wait for it side by side.
    pub latency: Duration,
    /// Bytes read per second, one job after another; 0 is without limit.
    pub read_rate: u64,
    /// The same of bytes written.
    pub write_rate: u64,
    /// From the moment a piece is committed, or state saved, until a power cut cannot take it any
    /// more.
    pub sync: Duration,
    /// Bytes that fit, content from the start included; `None` is without limit.
    pub capacity: Option<u64>,
    /// Reads that fail, parts per million.
    pub read_error_ppm: u32,
    /// Writes that fail, parts per million.
    pub write_error_ppm: u32,
    /// Reads that give a wrong bit, parts per million.
    pub corrupt_ppm: u32,
    /// Pieces not yet on the platter of which a power cut leaves a part, parts per million; of the
    /// others it leaves nothing.
    pub torn_ppm: u32,
}

impl Default for DiskSpec {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(200),
            read_rate: 0,
            write_rate: 0,
            sync: Duration::from_secs(5),
            capacity: None,
            read_error_ppm: 0,
            write_error_ppm: 0,
            corrupt_ppm: 0,
            torn_ppm: 500_000,
        }
    }
}

/// How a host goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Its process is killed: what was written stays, what it held in memory is gone.
    Process,
    /// Its power is cut: what is not on the platter yet is gone, or torn.
    Power,
}

/// The bytes of a torrent, kept once however many hosts have them.
#[derive(Debug, Clone)]
pub struct Content {
    /// All bytes in piece space.
    pub bytes: Bytes,
    /// Bytes per piece.
    pub piece_length: u32,
}

impl Content {
    /// `length` bytes that depend on `seed` only.
    #[must_use]
    pub fn generate(seed: u64, length: usize, piece_length: u32) -> Self {
        let mut bytes = Vec::with_capacity(length + 8);
        let mut counter = 0;
        while bytes.len() < length {
            bytes.extend_from_slice(&draw(seed, 0xc0de, 0, counter).to_le_bytes());
            counter += 1;
        }
        bytes.truncate(length);
        Self {
            bytes: bytes.into(),
            piece_length,
        }
    }

    /// The SHA-1 of every piece, one after another (BEP 3).
    #[must_use]
    pub fn piece_hashes(&self) -> Vec<u8> {
        let pieces = self.bytes.chunks(self.piece_length as usize);
        pieces
            .flat_map(|piece| <[u8; 20]>::from(Sha1::digest(piece)))
            .collect()
    }
}

/// Pieces of all content of a run by their SHA-1: whoever has one of them refers to it here.
#[derive(Debug, Default)]
pub(crate) struct Library {
    pieces: HashMap<[u8; 20], Bytes, Quick>,
    /// Where contents that are known already begin in memory, and how long they are.
    known: Vec<(usize, usize)>,
}

impl Library {
    pub(crate) fn add(&mut self, content: &Content) {
        let place = (content.bytes.as_ptr() as usize, content.bytes.len());
        if self.known.contains(&place) {
            return;
        }
        self.known.push(place);
        let length = content.piece_length.max(1) as usize;
        for start in (0..content.bytes.len()).step_by(length) {
            let piece = content
                .bytes
                .slice(start..content.bytes.len().min(start + length));
            self.pieces.insert(Sha1::digest(&piece).into(), piece);
        }
    }

    /// The hash of a piece that is said to have the hash `expected`, and the piece as it is kept
    /// here, where the two are the same.
    fn hash(&self, piece: Bytes, expected: Option<[u8; 20]>) -> ([u8; 20], Bytes) {
        if let Some(expected) = expected
            && let Some(known) = self.pieces.get(&expected)
        {
            let same = known.as_ptr() == piece.as_ptr() && known.len() == piece.len();
            if same || known == &piece {
                return (expected, known.clone());
            }
        }
        (Sha1::digest(&piece).into(), piece)
    }
}

/// A piece that was committed.
#[derive(Debug)]
struct Kept {
    data: Bytes,
    /// When a power cut cannot take it any more.
    safe_at: u64,
}

/// What one host has of a torrent.
#[derive(Debug, Default)]
struct Files {
    /// Content that was there before the run.
    given: Option<Bytes>,
    /// Blocks that wait for the rest of their piece.
    memory: BTreeMap<u32, Vec<(u32, Bytes)>>,
    pieces: BTreeMap<u32, Kept>,
}

/// What was saved under a name, before and after the last save.
#[derive(Debug, Default)]
struct Saved {
    before: Option<Bytes>,
    last: Bytes,
    safe_at: u64,
}

/// What one host has on disk, and how the disk is doing.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    open: BTreeMap<TorrentId, (Id20, Arc<Info>)>,
    files: BTreeMap<Id20, Files>,
    saved: BTreeMap<StateKind, Saved>,
    used: u64,
    /// When what was asked for is read and written, nanoseconds.
    free: u64,
    operations: u64,
}

/// What surrounds a disk job.
#[derive(Clone, Copy)]
pub(crate) struct At<'w> {
    pub(crate) spec: &'w DiskSpec,
    pub(crate) library: &'w Library,
    pub(crate) seed: u64,
    pub(crate) host: u32,
    pub(crate) now: u64,
}

impl At<'_> {
    fn chance(&self, purpose: Purpose, operation: u64, ppm: u32) -> bool {
        ppm > 0 && chance(self.draw(purpose, operation), ppm)
    }

    fn draw(&self, purpose: Purpose, operation: u64) -> u64 {
        draw(self.seed, purpose as u64, u64::from(self.host), operation)
    }
}

impl Disk {
    /// When a job that begins now and moves so many bytes is done.
    fn time(&mut self, at: At<'_>, bytes: u64, rate: u64) -> u64 {
        let now = at.now * 1_000;
        let nanos = match rate {
            0 => 0,
            rate => (u128::from(bytes) * 1_000_000_000 / u128::from(rate)) as u64,
        };
        if nanos > 0 {
            self.free = self.free.max(now) + nanos;
        }
        let moved = if nanos > 0 { self.free } else { now };
        moved.div_ceil(1_000) + at.spec.latency.as_micros() as u64
    }

    fn quick(&self, at: At<'_>) -> u64 {
        at.now + at.spec.latency.as_micros() as u64
    }

    pub(crate) fn open(
        &mut self,
        at: At<'_>,
        torrent: TorrentId,
        info: Arc<Info>,
        given: Option<&Content>,
    ) -> (JobResult, u64) {
        let name = info.hashes.short();
        let files = self.files.entry(name).or_insert_with(|| {
            let given = given.map(|content| content.bytes.clone());
            self.used += given.as_ref().map_or(0, |bytes| bytes.len() as u64);
            Files {
                given,
                ..Files::default()
            }
        });
        let mut present = vec![0u8; (info.piece_count as usize).div_ceil(8)];
        for piece in 0..info.piece_count {
            if files.given.is_some() || files.pieces.contains_key(&piece) {
                present[piece as usize / 8] |= 0x80 >> (piece % 8);
            }
        }
        self.open.insert(torrent, (name, info));
        (
            JobResult::Opened(Box::new(Opened { present })),
            self.quick(at),
        )
    }

    fn files(&mut self, torrent: TorrentId) -> Option<(&mut Files, &Arc<Info>)> {
        let (name, info) = self.open.get(&torrent)?;
        Some((self.files.get_mut(name)?, info))
    }

    pub(crate) fn write(
        &mut self,
        at: At<'_>,
        torrent: TorrentId,
        (piece, begin): (u32, u32),
        data: Bytes,
    ) -> (JobResult, u64) {
        self.operations += 1;
        let bytes = data.len() as u64;
        let full = at
            .spec
            .capacity
            .is_some_and(|capacity| self.used + bytes > capacity);
        let fails = at.chance(Purpose::DiskWrite, self.operations, at.spec.write_error_ppm);
        let result = match self.files(torrent) {
            None => JobResult::Failed(JobError::Missing),
            Some(_) if full => JobResult::Failed(JobError::NoSpace),
            Some(_) if fails => JobResult::Failed(JobError::Io),
            Some((files, _)) => {
                files.memory.entry(piece).or_default().push((begin, data));
                self.used += bytes;
                JobResult::Written
            }
        };
        (result, self.time(at, bytes, at.spec.write_rate))
    }

    /// The bytes of a piece, or of a part of it.
    fn stored(&mut self, torrent: TorrentId, piece: u32, from: usize, to: usize) -> Option<Bytes> {
        let (files, info) = self.files(torrent)?;
        if let Some(parts) = files.memory.get(&piece) {
            if let [(0, whole)] = parts.as_slice()
                && to <= whole.len()
            {
                return Some(whole.slice(from..to));
            }
            let whole = whole_of(info, piece, parts)?;
            return (to <= whole.len()).then(|| whole.slice(from..to));
        }
        if let Some(kept) = files.pieces.get(&piece) {
            return (to <= kept.data.len()).then(|| kept.data.slice(from..to));
        }
        let Some(given) = &files.given else {
            let whole = whole_of(info, piece, &[])?;
            return (to <= whole.len()).then(|| whole.slice(from..to));
        };
        let start = piece as usize * info.piece_length as usize;
        (start + to <= given.len()).then(|| given.slice(start + from..start + to))
    }

    pub(crate) fn read(
        &mut self,
        at: At<'_>,
        torrent: TorrentId,
        piece: u32,
        begin: u32,
        length: u32,
    ) -> (JobResult, u64) {
        self.operations += 1;
        let number = self.operations;
        let to = begin as usize + length as usize;
        let mut result = match self.stored(torrent, piece, begin as usize, to) {
            Some(data) => JobResult::Read(data),
            None => JobResult::Failed(JobError::Missing),
        };
        if at.chance(Purpose::DiskRead, number, at.spec.read_error_ppm) {
            result = JobResult::Failed(JobError::Io);
        } else if at.chance(Purpose::DiskCorrupt, number, at.spec.corrupt_ppm)
            && let JobResult::Read(data) = &mut result
        {
            let mut wrong = BytesMut::from(&data[..]);
            flip(&mut wrong, at.draw(Purpose::DiskCorrupt, !number) as usize);
            *data = wrong.freeze();
        }
        (result, self.time(at, u64::from(length), at.spec.read_rate))
    }

    pub(crate) fn hash(&mut self, at: At<'_>, torrent: TorrentId, piece: u32) -> (JobResult, u64) {
        let done = self.quick(at);
        let Some((_, info)) = self.files(torrent) else {
            return (JobResult::Failed(JobError::Missing), done);
        };
        let (size, expected) = (info.piece_size(piece), info.piece_hash(piece));
        let Some(whole) = self.stored(torrent, piece, 0, size as usize) else {
            return (JobResult::Failed(JobError::Missing), done);
        };
        let (digest, whole) = at.library.hash(whole, expected);
        let mut done = done;
        if let Some((files, _)) = self.files(torrent) {
            match files.memory.get_mut(&piece) {
                Some(parts) => *parts = vec![(0, whole)],
                None => done = self.time(at, u64::from(size), at.spec.read_rate),
            }
        }
        (JobResult::Hashed(Digest::Sha1(digest)), done)
    }

    /// The hash of each block of a piece by itself.
    pub(crate) fn hash_blocks(
        &mut self,
        at: At<'_>,
        torrent: TorrentId,
        piece: u32,
    ) -> (JobResult, u64) {
        let done = self.quick(at);
        let size = self.files(torrent).map(|(_, info)| info.piece_size(piece));
        let whole = size.and_then(|size| self.stored(torrent, piece, 0, size as usize));
        let result = match whole {
            Some(whole) => {
                let blocks = whole.chunks(BLOCK_LENGTH as usize);
                JobResult::BlocksHashed(blocks.map(|block| Sha1::digest(block).into()).collect())
            }
            None => JobResult::Failed(JobError::Missing),
        };
        (result, done)
    }

    pub(crate) fn commit(
        &mut self,
        at: At<'_>,
        torrent: TorrentId,
        piece: u32,
    ) -> (JobResult, u64) {
        let done = self.quick(at);
        let safe_at = done + at.spec.sync.as_micros() as u64;
        let Some((files, info)) = self.files(torrent) else {
            return (JobResult::Failed(JobError::Missing), done);
        };
        let size = info.piece_size(piece) as usize;
        let Some(parts) = files.memory.remove(&piece) else {
            return (JobResult::Committed, done);
        };
        let written: u64 = parts.iter().map(|(_, data)| data.len() as u64).sum();
        match whole_of(info, piece, &parts) {
            Some(data) => {
                let over = files.pieces.insert(piece, Kept { data, safe_at });
                let freed = over.map_or(0, |kept| kept.data.len() as u64);
                self.used = (self.used + size as u64).saturating_sub(written + freed);
                (JobResult::Committed, done)
            }
            None => {
                files.memory.insert(piece, parts);
                (JobResult::Failed(JobError::Missing), done)
            }
        }
    }

    pub(crate) fn discard(
        &mut self,
        at: At<'_>,
        torrent: TorrentId,
        piece: u32,
    ) -> (JobResult, u64) {
        let parts = match self.files(torrent) {
            Some((files, _)) => files.memory.remove(&piece),
            None => None,
        };
        let freed: u64 = parts
            .iter()
            .flatten()
            .map(|(_, data)| data.len() as u64)
            .sum();
        self.used = self.used.saturating_sub(freed);
        (JobResult::Discarded, self.quick(at))
    }

    pub(crate) fn close(&mut self, at: At<'_>, torrent: TorrentId) -> (JobResult, u64) {
        if let Some((files, _)) = self.files(torrent) {
            let memory = std::mem::take(&mut files.memory);
            self.forget_memory(memory);
        }
        self.open.remove(&torrent);
        (JobResult::ClosedStorage, self.quick(at))
    }

    fn forget_memory(&mut self, memory: BTreeMap<u32, Vec<(u32, Bytes)>>) {
        let parts = memory.into_values().flatten();
        let freed: u64 = parts.map(|(_, data)| data.len() as u64).sum();
        self.used = self.used.saturating_sub(freed);
    }

    pub(crate) fn save(&mut self, at: At<'_>, kind: StateKind, data: Bytes) -> (JobResult, u64) {
        let done = self.quick(at);
        let saved = self.saved.entry(kind).or_default();
        if saved.safe_at > 0 && saved.safe_at <= at.now {
            saved.before = Some(std::mem::take(&mut saved.last));
        }
        saved.last = data;
        saved.safe_at = done + at.spec.sync.as_micros() as u64;
        (JobResult::Saved, done)
    }

    /// What was saved under a name.
    pub(crate) fn saved(&self, kind: StateKind) -> Option<&Bytes> {
        self.saved.get(&kind).map(|saved| &saved.last)
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// What is left after the host went down.
    pub(crate) fn crash(&mut self, at: At<'_>, crash: Crash) {
        self.open.clear();
        self.free = 0;
        let mut freed = 0;
        let mut operation = self.operations;
        for files in self.files.values_mut() {
            for (_, data) in std::mem::take(&mut files.memory).into_values().flatten() {
                freed += data.len() as u64;
            }
            if crash == Crash::Process {
                continue;
            }
            files.pieces.retain(|_, kept| {
                if kept.safe_at <= at.now {
                    return true;
                }
                operation += 1;
                if !at.chance(Purpose::Torn, operation, at.spec.torn_ppm) {
                    freed += kept.data.len() as u64;
                    return false;
                }
                kept.data = torn(&kept.data, at.draw(Purpose::Torn, !operation));
                true
            });
        }
        self.operations = operation;
        self.used = self.used.saturating_sub(freed);
        if crash == Crash::Power {
            self.saved.retain(|_, saved| {
                if saved.safe_at > at.now {
                    match saved.before.take() {
                        Some(before) => saved.last = before,
                        None => return false,
                    }
                }
                true
            });
        }
    }
}

/// A piece of which some sectors, from a place that was drawn on, were never written.
fn torn(data: &Bytes, bits: u64) -> Bytes {
    let sectors = data.len().div_ceil(SECTOR);
    let first = below(bits, sectors as u64) as usize * SECTOR;
    let mut torn = BytesMut::from(&data[..]);
    torn[first..].fill(0);
    torn.freeze()
}

/// A whole piece of what was written; what lies in pad files (BEP 47) is zeros.
fn whole_of(info: &Info, piece: u32, parts: &[(u32, Bytes)]) -> Option<Bytes> {
    let size = info.piece_size(piece);
    if let [(0, whole)] = parts
        && whole.len() == size as usize
    {
        return Some(whole.clone());
    }
    let mut at = 0;
    let mut pads = Vec::new();
    for span in info.spans(piece, 0, size) {
        let end = at + span.len as usize;
        if span.pad {
            pads.push((at, end));
        }
        at = end;
    }
    assemble(parts, pads, size as usize)
}

/// `size` bytes of these parts, later ones over earlier ones, and of zeros from the first to the
/// end of each of `pads`; nothing when some are missing.
fn assemble(parts: &[(u32, Bytes)], pads: Vec<(usize, usize)>, size: usize) -> Option<Bytes> {
    let mut whole = BytesMut::zeroed(size);
    let mut covered = pads;
    for (begin, data) in parts {
        let begin = *begin as usize;
        whole
            .get_mut(begin..begin + data.len())?
            .copy_from_slice(data);
        covered.push((begin, begin + data.len()));
    }
    covered.sort_unstable();
    let mut reached = 0;
    for (begin, end) in covered {
        if begin > reached {
            return None;
        }
        reached = reached.max(end);
    }
    (reached == size).then(|| whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackerless_core::slab::Key;

    const TORRENT: TorrentId = TorrentId(Key {
        index: 0,
        generation: 0,
    });

    fn published(length: usize, piece_length: u32) -> (Content, Arc<Info>) {
        let content = Content::generate(1, length, piece_length);
        let hashes = content.piece_hashes();
        let mut info = format!(
            "d6:lengthi{length}e4:name1:x12:piece lengthi{piece_length}e6:pieces{}:",
            hashes.len()
        )
        .into_bytes();
        info.extend_from_slice(&hashes);
        info.push(b'e');
        let info = Info::parse(info.into()).expect("it was written by the rules");
        (content, Arc::new(info))
    }

    fn at<'w>(spec: &'w DiskSpec, library: &'w Library, now: u64) -> At<'w> {
        At {
            spec,
            library,
            seed: 3,
            host: 1,
            now,
        }
    }

    /// Writes and commits a piece, as an engine does.
    fn download(disk: &mut Disk, at: At<'_>, content: &Content, piece: u32) {
        let start = (piece * content.piece_length) as usize;
        let end = content
            .bytes
            .len()
            .min(start + content.piece_length as usize);
        // As it comes from the network: bytes of its own.
        let data = Bytes::copy_from_slice(&content.bytes[start..end]);
        let half = data.len() / 2;
        let (first, second) = (data.slice(..half), data.slice(half..));
        let first = disk.write(at, TORRENT, (piece, 0), first);
        assert_eq!(first.0, JobResult::Written);
        let second = disk.write(at, TORRENT, (piece, half as u32), second);
        assert_eq!(second.0, JobResult::Written);
        let expected: [u8; 20] = Sha1::digest(&data).into();
        let hashed = disk.hash(at, TORRENT, piece).0;
        assert_eq!(hashed, JobResult::Hashed(Digest::Sha1(expected)));
        assert_eq!(disk.commit(at, TORRENT, piece).0, JobResult::Committed);
    }

    fn whole(disk: &mut Disk, at: At<'_>, piece: u32, length: u32) -> JobResult {
        disk.read(at, TORRENT, piece, 0, length).0
    }

    #[test]
    fn a_piece_with_a_hole_is_not_whole() {
        let part = |at: u32, len: usize| (at, Bytes::from(vec![at as u8 + 1; len]));
        assert_eq!(
            assemble(&[part(4, 4), part(0, 4)], vec![], 8).unwrap()[..],
            [1, 1, 1, 1, 5, 5, 5, 5]
        );
        assert_eq!(assemble(&[part(5, 3), part(0, 4)], vec![], 8), None);
        assert_eq!(assemble(&[part(0, 4)], vec![], 8), None);
        assert_eq!(assemble(&[part(6, 4)], vec![], 8), None);
        let padded = assemble(&[part(0, 2)], vec![(4, 8), (2, 4)], 8).unwrap();
        assert_eq!(padded[..], [1, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(assemble(&[part(0, 2)], vec![(3, 8)], 8), None);
    }

    #[test]
    fn a_swarm_of_a_thousand_costs_one_copy() {
        let (content, info) = published(100_000, 1 << 15);
        let (spec, mut library) = (DiskSpec::default(), Library::default());
        library.add(&content);
        let range = content.bytes.as_ptr_range();
        for _ in 0..1_000 {
            let mut disk = Disk::default();
            let at = at(&spec, &library, 1);
            disk.open(at, TORRENT, Arc::clone(&info), None);
            for piece in 0..4 {
                download(&mut disk, at, &content, piece);
                let JobResult::Read(data) = whole(&mut disk, at, piece, 1_000) else {
                    panic!("it is there");
                };
                assert!(range.contains(&data.as_ptr()), "a copy of its own");
            }
            assert_eq!(disk.used(), 100_000);
        }
    }

    #[test]
    fn a_wrong_piece_has_its_own_bytes_and_its_own_hash() {
        let (content, info) = published(1 << 15, 1 << 15);
        let (spec, mut library) = (DiskSpec::default(), Library::default());
        library.add(&content);
        let mut disk = Disk::default();
        let at = at(&spec, &library, 1);
        disk.open(at, TORRENT, Arc::clone(&info), None);
        let mut wrong = content.bytes.to_vec();
        wrong[77] ^= 1;
        disk.write(at, TORRENT, (0, 0), wrong.clone().into());
        let digest = Digest::Sha1(Sha1::digest(&wrong).into());
        assert_eq!(disk.hash(at, TORRENT, 0).0, JobResult::Hashed(digest));
        assert_ne!(digest, Digest::Sha1(info.piece_hash(0).unwrap()));
        disk.discard(at, TORRENT, 0);
        assert_eq!(disk.used(), 0);
        assert_eq!(
            whole(&mut disk, at, 0, 9),
            JobResult::Failed(JobError::Missing)
        );
    }

    #[test]
    fn jobs_take_turns_for_their_bytes_and_wait_side_by_side_for_the_rest() {
        let (content, info) = published(1 << 17, 1 << 15);
        let spec = DiskSpec {
            latency: Duration::from_millis(10),
            read_rate: 1_000_000,
            ..DiskSpec::default()
        };
        let library = Library::default();
        let mut disk = Disk::default();
        let at = at(&spec, &library, 5_000);
        disk.open(at, TORRENT, info, Some(&content));
        let done = [0, 1, 2].map(|piece| disk.read(at, TORRENT, piece, 0, 10_000).1);
        assert_eq!(done, [25_000, 35_000, 45_000]);
        assert_eq!(disk.hash_blocks(at, TORRENT, 3).1, 15_000);
    }

    #[test]
    fn a_full_disk_takes_nothing_until_there_is_room() {
        let (content, info) = published(3 << 15, 1 << 15);
        let mut spec = DiskSpec {
            capacity: Some(70_000),
            ..DiskSpec::default()
        };
        let library = Library::default();
        let mut disk = Disk::default();
        disk.open(at(&spec, &library, 1), TORRENT, info, None);
        download(&mut disk, at(&spec, &library, 2), &content, 0);
        download(&mut disk, at(&spec, &library, 3), &content, 1);
        let third = content.bytes.slice(2 << 15..);
        let written = disk.write(at(&spec, &library, 4), TORRENT, (2, 0), third);
        assert_eq!(written.0, JobResult::Failed(JobError::NoSpace));
        spec.capacity = Some(100_000);
        download(&mut disk, at(&spec, &library, 5), &content, 2);
        assert_eq!(disk.used(), 3 << 15);
    }

    #[test]
    fn errors_come_as_often_as_they_are_to() {
        let (content, info) = published(1 << 15, 1 << 15);
        let spec = DiskSpec {
            read_error_ppm: 100_000,
            write_error_ppm: 200_000,
            corrupt_ppm: 50_000,
            ..DiskSpec::default()
        };
        let library = Library::default();
        let at = at(&spec, &library, 1);
        let mut disk = Disk::default();
        disk.open(at, TORRENT, info, Some(&content));
        let (mut failed, mut wrong) = (0, 0);
        for _ in 0..5_000 {
            match disk.read(at, TORRENT, 0, 0, 64).0 {
                JobResult::Read(data) => wrong += usize::from(data[..] != content.bytes[..64]),
                _ => failed += 1,
            }
        }
        assert!((420..580).contains(&failed), "{failed}");
        assert!((170..290).contains(&wrong), "{wrong}");
        let write = |_: &u32| disk.write(at, TORRENT, (0, 0), Bytes::new()).0 != JobResult::Written;
        let failed = (0..5_000).filter(write).count();
        assert!((880..1_120).contains(&failed), "{failed}");
    }

    /// What was committed so long before the power was cut.
    fn after_a_crash(crash: Crash, seconds: u64, torn_ppm: u32) -> (usize, usize, usize) {
        let (content, info) = published(1 << 20, 1 << 15);
        let spec = DiskSpec {
            torn_ppm,
            ..DiskSpec::default()
        };
        let (library, mut disk) = (Library::default(), Disk::default());
        disk.open(at(&spec, &library, 1), TORRENT, Arc::clone(&info), None);
        for piece in 0..32 {
            download(&mut disk, at(&spec, &library, 1), &content, piece);
        }
        let now = 1 + seconds * 1_000_000;
        disk.crash(at(&spec, &library, now), crash);
        disk.open(at(&spec, &library, now), TORRENT, info, None);
        let (mut right, mut torn, mut gone) = (0, 0, 0);
        for piece in 0..32u32 {
            match whole(&mut disk, at(&spec, &library, now), piece, 1 << 15) {
                JobResult::Read(data) => {
                    let start = piece as usize * (1 << 15);
                    let same = data == content.bytes[start..start + (1 << 15)];
                    right += usize::from(same);
                    torn += usize::from(!same);
                }
                _ => gone += 1,
            }
        }
        assert_eq!(disk.used(), (right + torn) as u64 * (1 << 15));
        (right, torn, gone)
    }

    #[test]
    fn a_power_cut_takes_or_tears_what_is_not_safe_and_nothing_else() {
        assert_eq!(after_a_crash(Crash::Process, 1, 500_000), (32, 0, 0));
        assert_eq!(after_a_crash(Crash::Power, 6, 500_000), (32, 0, 0));
        assert_eq!(after_a_crash(Crash::Power, 1, 0), (0, 0, 32));
        assert_eq!(after_a_crash(Crash::Power, 1, 1_000_000), (0, 32, 0));
        let (right, torn, gone) = after_a_crash(Crash::Power, 1, 500_000);
        assert!(
            right == 0 && torn > 5 && gone > 5,
            "{torn} torn, {gone} gone"
        );
    }

    #[test]
    fn a_power_cut_leaves_the_save_before_the_last() {
        let (spec, library) = (DiskSpec::default(), Library::default());
        let mut disk = Disk::default();
        let kind = StateKind::DhtTable;
        let second = |second: u64| at(&spec, &library, second * 1_000_000);
        disk.save(second(1), kind, Bytes::from_static(b"one"));
        disk.save(second(10), kind, Bytes::from_static(b"two"));
        disk.save(second(11), kind, Bytes::from_static(b"three"));
        disk.crash(second(12), Crash::Process);
        assert_eq!(disk.saved(kind).unwrap(), &b"three"[..]);
        disk.crash(second(12), Crash::Power);
        assert_eq!(disk.saved(kind).unwrap(), &b"one"[..]);
    }
}
