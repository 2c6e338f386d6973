//! What holds of the lookups of any DHT node, whatever it is fed. Included where nodes are fed
//! anything, inside this package and outside.

use std::vec::Vec;

use super::{Event, LookupId};

/// Takes what a node tells of its `open` lookups: nothing of any other, and of each one end.
pub(super) fn follow(open: &mut Vec<LookupId>, event: &Event) {
    match event {
        Event::Found(id, _) => assert!(open.contains(id), "{id:?} is over"),
        Event::Done(id, _) | Event::Refused(id) => {
            let at = open.iter().position(|open| open == id);
            open.remove(at.expect("a lookup ends once"));
        }
        _ => {}
    }
}
