//! What was written and is not known to be on the device.

use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;

use super::lock;

/// Files that were written since they were brought to the device.
///
/// A file is added when a write to it ends. Whoever brings files to the device takes them first:
/// a write that ends meanwhile adds its file again, for the next time. So a piece that was written
/// before a call of [`Self::bring`] is on the device after it, and resume data that was made
/// before, too, says nothing that the device has not.
#[derive(Debug, Default)]
pub(super) struct Written {
    state: Mutex<State>,
    /// One at a time: who comes second must not take what is on its way for what is there.
    bringing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    written: BTreeSet<u32>,
    /// Those that are on the device, and were not looked at since.
    brought: BTreeSet<u32>,
}

impl Written {
    /// Writes to these files are over, well or not.
    pub(super) fn add(&self, files: impl IntoIterator<Item = u32>) {
        lock(&self.state).written.extend(files);
    }

    /// What is to be brought to the device by now.
    pub(super) fn now(&self) -> BTreeSet<u32> {
        lock(&self.state).written.clone()
    }

    /// What was brought to the device since this was asked last.
    pub(super) fn take_brought(&self) -> BTreeSet<u32> {
        std::mem::take(&mut lock(&self.state).brought)
    }

    /// Has `sync` bring everything to the device; where that fails it is asked again next time.
    ///
    /// # Errors
    /// Those of `sync`.
    pub(super) fn bring(
        &self,
        sync: impl FnOnce(&BTreeSet<u32>) -> io::Result<()>,
    ) -> io::Result<()> {
        let _alone = lock(&self.bringing);
        let written = std::mem::take(&mut lock(&self.state).written);
        let done = sync(&written);
        let mut state = lock(&self.state);
        match done {
            Ok(()) => state.brought.extend(written),
            Err(_) => state.written.extend(written),
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_device_is_asked_again_and_what_is_written_meanwhile_next_time() {
        let written = Written::default();
        written.add([0, 7]);
        let fails = |_: &BTreeSet<u32>| Err(io::ErrorKind::Other.into());
        assert!(written.bring(fails).is_err());
        assert_eq!(written.take_brought(), [].into());
        let meanwhile = |all: &BTreeSet<u32>| {
            assert_eq!(*all, [0, 7].into());
            written.add([7, 9]);
            Ok(())
        };
        written.bring(meanwhile).unwrap();
        assert_eq!(written.now(), [7, 9].into());
        written.bring(|_| Ok(())).unwrap();
        // Whoever closes a torrent brings files there, too, and looks at none.
        assert_eq!(written.take_brought(), [0, 7, 9].into());
        assert_eq!(written.take_brought(), [].into());
    }

    #[test]
    fn who_comes_second_waits_for_what_is_on_its_way() {
        let written = Written::default();
        written.add([3]);
        let (begun, begins) = std::sync::mpsc::channel();
        let there = Mutex::new(false);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                written.bring(|_| {
                    begun.send(()).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    *lock(&there) = true;
                    Ok(())
                })
            });
            begins.recv().unwrap();
            written.bring(|_| Ok(())).unwrap();
            assert!(*lock(&there));
            first.join().unwrap().unwrap();
        });
        assert_eq!(written.take_brought(), [3].into());
    }
}
