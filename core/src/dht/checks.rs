//! Signatures that the host checks for us, and who waits for them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use super::CheckId;
use super::item::Item;
use super::item_server::Put;

/// Who waits.
#[derive(Debug)]
pub(super) enum Whose {
    /// A search that was told of the item.
    Search(u32),
    /// Somebody who wants it to be kept.
    Put(Box<Put>),
}

/// Checks under way.
#[derive(Debug, Default)]
pub(super) struct Checks {
    waiting: BTreeMap<CheckId, (Arc<Item>, Whose)>,
    next: u32,
}

impl Checks {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn begin(&mut self, item: Arc<Item>, whose: Whose) -> CheckId {
        let id = CheckId(self.next);
        self.next = self.next.wrapping_add(1);
        self.waiting.insert(id, (item, whose));
        id
    }

    pub(super) fn end(&mut self, id: CheckId) -> Option<(Arc<Item>, Whose)> {
        self.waiting.remove(&id)
    }
}
