//! What a torrent holds once its metadata is known: which pieces are wanted, had and checked.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::bitfield::Bitfield;
use super::picker::{Picker, PickerConfig};
use crate::config::SwarmConfig;
use crate::metainfo::Info;

/// Pieces, and how much of them is there.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) info: Arc<Info>,
    pub(super) picker: Picker,
    wanted: Bitfield,
    /// Bytes of wanted pieces, pad files excluded.
    pub(super) total: u64,
    /// Those that are verified and in their files.
    pub(super) done: u64,
    /// Pad files: first byte and end in piece space.
    pads: Vec<(u64, u64)>,
    pub(super) check: Check,
    /// A wanted piece is known not to be there, so this is no seed, whatever the check finds.
    pub(super) lacks: bool,
    /// Pieces that storage lost, and how often.
    pub(super) lost: BTreeMap<u32, u8>,
}

/// The check of what was on disk.
#[derive(Debug, Default)]
pub(super) struct Check {
    /// Pieces are being looked at.
    survey: Option<Box<Survey>>,
    /// Pieces to be hashed.
    pub(super) pieces: Option<Bitfield>,
    /// The next one.
    pub(super) next: u32,
    pub(super) running: u8,
    pub(super) bad: u32,
}

/// What was found on disk, piece by piece: of a few million pieces not all at once.
#[derive(Debug)]
struct Survey {
    /// What storage says may be there.
    present: Vec<u8>,
    /// What saved state vouches for.
    trusted: Option<Bitfield>,
    /// To be hashed, so far.
    pieces: Bitfield,
    next: u32,
}

impl Content {
    pub(super) fn new(
        info: Arc<Info>,
        select: &[u32],
        sequential: bool,
        config: &SwarmConfig,
    ) -> Self {
        let count = info.piece_count;
        let ranges = wanted_ranges(&info, select);
        let mut wanted = Bitfield::new(count);
        for range in &ranges {
            wanted.set_range(range.clone());
        }
        let mut picker = Picker::unlisted(
            count,
            info.piece_length,
            info.total_length,
            PickerConfig::from(config),
        );
        picker.set_sequential(sequential);
        let pads = info.files.iter().filter(|file| file.pad && file.length > 0);
        let pads: Vec<(u64, u64)> = pads
            .map(|file| (file.offset, file.offset + file.length))
            .collect();
        picker.set_pads(pads.iter().map(|&(start, end)| start..end));
        let mut content = Self {
            info,
            picker,
            wanted,
            total: 0,
            done: 0,
            pads,
            check: Check::default(),
            lacks: false,
            lost: BTreeMap::new(),
        };
        let all = ranges.into_iter().map(|range| content.bytes_of(range));
        content.total = all.sum();
        content
    }

    /// Storage has been opened: nobody has looked yet at which pieces are there.
    pub(super) fn begin_survey(&mut self, present: Vec<u8>, trusted: Option<Bitfield>) {
        self.check.survey = Some(Box::new(Survey {
            present,
            trusted,
            pieces: Bitfield::new(self.info.piece_count),
            next: 0,
        }));
    }

    /// Whether [`Content::survey`] has more to look at.
    pub(super) fn is_surveying(&self) -> bool {
        self.check.survey.is_some()
    }

    /// Takes note of the next `slice` pieces: those that are trusted are had, the rest of those
    /// that may be there is to be hashed. Returns whether that was all of them.
    pub(super) fn survey(&mut self, slice: u32) -> bool {
        let Some(mut survey) = self.check.survey.take() else {
            return true;
        };
        let count = self.info.piece_count;
        let end = survey.next.saturating_add(slice).min(count);
        for piece in survey.next..end {
            if !self.wanted.get(piece) {
                self.picker.set_wanted(piece, false);
            }
            let byte = survey.present.get(piece as usize / 8);
            let is_there = byte.is_some_and(|byte| byte & (0x80 >> (piece % 8)) != 0);
            if self.picker.is_padding(piece) {
                // There is nothing to fetch; its zeros are hashed like what is on disk.
                survey.pieces.set(piece);
            } else if !is_there {
                self.lacks |= self.wanted.get(piece);
            } else if survey.trusted.as_ref().is_some_and(|it| it.get(piece)) {
                self.on_had(piece);
                self.picker.set_have(piece);
            } else {
                survey.pieces.set(piece);
            }
        }
        self.picker.list(end - survey.next);
        survey.next = end;
        if end < count {
            self.check.survey = Some(survey);
            return false;
        }
        self.check.pieces = Some(survey.pieces);
        true
    }

    /// `piece` is verified and in its files.
    pub(super) fn on_had(&mut self, piece: u32) {
        if self.wanted.get(piece) && !self.picker.have().get(piece) {
            self.done += self.bytes_of(piece..piece + 1);
        }
    }

    /// `piece`, which was had, is not there any more.
    pub(super) fn on_not_had(&mut self, piece: u32) {
        if self.wanted.get(piece) && self.picker.have().get(piece) {
            self.done -= self.bytes_of(piece..piece + 1);
        }
    }

    /// Bytes of pieces that are not of pad files.
    fn bytes_of(&self, pieces: Range<u32>) -> u64 {
        let at = |piece| {
            let start = u64::from(piece) * u64::from(self.info.piece_length);
            start.min(self.info.total_length)
        };
        let (start, end) = (at(pieces.start), at(pieces.end));
        let first = self.pads.partition_point(|(_, pad_end)| *pad_end <= start);
        let pads = self.pads[first..].iter().take_while(|(pad, _)| *pad < end);
        let padding: u64 = pads
            .map(|(pad, pad_end)| end.min(*pad_end) - start.max(*pad))
            .sum();
        end - start - padding
    }
}

/// The smallest index of `select` that is none of a file.
pub(crate) fn beyond(select: &[u32], info: &Info) -> Option<u32> {
    let files = info.files.len();
    let beyond = select.iter().copied().filter(|&it| it as usize >= files);
    beyond.min()
}

/// The pieces that hold a byte of a wanted file, in rising ranges that do not meet; every piece
/// when nothing is selected.
fn wanted_ranges(info: &Info, select: &[u32]) -> Vec<Range<u32>> {
    let everything = 0..info.piece_count;
    if select.is_empty() {
        return Vec::from([everything]);
    }
    let files = select
        .iter()
        .filter_map(|index| info.files.get(*index as usize));
    let length = u64::from(info.piece_length.max(1));
    let piece = |at: u64| u32::try_from(at / length).map_or(info.piece_count, |piece| piece);
    let mut ranges: Vec<Range<u32>> = files
        .filter(|file| !file.pad && file.length > 0)
        .map(|file| piece(file.offset)..piece(file.offset + file.length - 1).saturating_add(1))
        .collect();
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<u32>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        let end = range.end.min(everything.end);
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(end),
            _ => merged.push(range.start..end),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quickcheck::quickcheck;
    use std::format;
    use std::string::String;

    const PIECE: u64 = 16;

    /// A torrent of files of these lengths, every other of which may be padding.
    fn info(files: &[(u8, bool)]) -> Option<Info> {
        let mut list = String::new();
        let mut total = 0;
        for (at, (length, pad)) in files.iter().enumerate() {
            let attributes = if *pad { "4:attr1:p" } else { "" };
            let name = format!("{at:03}");
            list += &format!("d{attributes}6:lengthi{length}e4:pathl3:{name}ee");
            total += u64::from(*length);
        }
        let hashes = "#".repeat(20 * total.div_ceil(PIECE) as usize);
        let text = format!(
            "d5:filesl{list}e4:name1:x12:piece lengthi{PIECE}e6:pieces{}:{hashes}e",
            hashes.len()
        );
        Info::parse(Bytes::from(text)).ok()
    }

    quickcheck! {
        fn totals_and_wanted_pieces_are_what_counting_gives(
            files: Vec<(u8, bool)>,
            select: Vec<u8>
        ) -> bool {
            let Some(info) = info(&files) else { return true };
            let select: Vec<u32> = select.iter().map(|index| u32::from(*index) % 20).collect();
            let info = Arc::new(info);
            let content = Content::new(info.clone(), &select, false, &SwarmConfig::default());
            let all: Vec<_> = info.files.iter().enumerate().flat_map(|(index, file)| {
                (0..file.length).map(move |_| (index as u32, file.pad))
            }).collect();
            let mut total = 0;
            for (piece, bytes) in all.chunks(PIECE as usize).enumerate() {
                let wanted = select.is_empty()
                    || bytes.iter().any(|(index, pad)| !pad && select.contains(index));
                assert_eq!(content.wanted.get(piece as u32), wanted, "{piece}");
                let real = bytes.iter().filter(|(_, pad)| !pad).count() as u64;
                total += if wanted { real } else { 0 };
            }
            content.total == total
        }

        fn a_survey_in_slices_is_one_survey(
            files: Vec<(u8, bool)>,
            select: Vec<u8>,
            present: Vec<u8>,
            slice: u8
        ) -> bool {
            let Some(info) = info(&files) else { return true };
            let select: Vec<u32> = select.iter().map(|index| u32::from(*index) % 20).collect();
            let info = Arc::new(info);
            let surveyed = |slice: u32| {
                let config = SwarmConfig::default();
                let mut content = Content::new(info.clone(), &select, false, &config);
                let mut trusted = Bitfield::new(info.piece_count);
                (0..info.piece_count).step_by(2).for_each(|piece| {
                    trusted.set(piece);
                });
                content.begin_survey(present.clone(), Some(trusted));
                let mut slices = 1;
                while !content.survey(slice) {
                    slices += 1;
                }
                assert!(!content.is_surveying());
                assert_eq!(slices, info.piece_count.div_ceil(slice));
                let have = content.picker.have().clone();
                let missing = content.picker.missing();
                (content.check.pieces, have, missing, content.done, content.lacks)
            };
            surveyed(u32::from(slice % 7) + 1) == surveyed(u32::MAX)
        }
    }
}
