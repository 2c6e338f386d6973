//! What a torrent holds once its metadata is known: which pieces are wanted, had and checked.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

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
    /// Pieces to be hashed.
    pub(super) pieces: Option<Bitfield>,
    /// The next one.
    pub(super) next: u32,
    pub(super) running: u8,
    pub(super) bad: u32,
}

impl Content {
    pub(super) fn new(
        info: Arc<Info>,
        select: &[u32],
        sequential: bool,
        config: &SwarmConfig,
    ) -> Self {
        let count = info.piece_count;
        let wanted = wanted_pieces(&info, select);
        let mut picker = Picker::new(
            count,
            info.piece_length,
            info.total_length,
            PickerConfig::from(config),
        );
        picker.set_sequential(sequential);
        if !wanted.is_full() {
            for piece in (0..count).filter(|piece| !wanted.get(*piece)) {
                picker.set_wanted(piece, false);
            }
        }
        let pads = info.files.iter().filter(|file| file.pad && file.length > 0);
        let pads = pads
            .map(|file| (file.offset, file.offset + file.length))
            .collect();
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
        content.total = content
            .wanted
            .iter_ones()
            .map(|piece| content.bytes_of(piece))
            .sum();
        content
    }

    /// `piece` is verified and in its files.
    pub(super) fn on_had(&mut self, piece: u32) {
        self.lost.remove(&piece);
        if self.wanted.get(piece) && !self.picker.have().get(piece) {
            self.done += self.bytes_of(piece);
        }
    }

    /// Bytes of a piece that are not of pad files.
    fn bytes_of(&self, piece: u32) -> u64 {
        let start = u64::from(piece) * u64::from(self.info.piece_length);
        let end = start + u64::from(self.info.piece_size(piece));
        let first = self.pads.partition_point(|(_, pad_end)| *pad_end <= start);
        let pads = self.pads[first..].iter().take_while(|(pad, _)| *pad < end);
        let padding: u64 = pads
            .map(|(pad, pad_end)| end.min(*pad_end) - start.max(*pad))
            .sum();
        end - start - padding
    }
}

/// The pieces that hold a byte of a wanted file; every piece when nothing is selected.
fn wanted_pieces(info: &Info, select: &[u32]) -> Bitfield {
    if select.is_empty() {
        return Bitfield::full(info.piece_count);
    }
    let mut wanted = Bitfield::new(info.piece_count);
    let files = select
        .iter()
        .filter_map(|index| info.files.get(*index as usize));
    for file in files.filter(|file| !file.pad && file.length > 0) {
        let length = u64::from(info.piece_length.max(1));
        let first = file.offset / length;
        let last = (file.offset + file.length - 1) / length;
        for piece in first..=last {
            wanted.set(u32::try_from(piece).unwrap_or(u32::MAX));
        }
    }
    wanted
}
