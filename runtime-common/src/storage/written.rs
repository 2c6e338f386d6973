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
pub(super) struct Written(Mutex<BTreeSet<u32>>);

impl Written {
    /// Writes to these files are over, well or not.
    pub(super) fn add(&self, files: impl IntoIterator<Item = u32>) {
        lock(&self.0).extend(files);
    }

    /// What is to be brought to the device by now.
    pub(super) fn now(&self) -> BTreeSet<u32> {
        lock(&self.0).clone()
    }

    /// Has `sync` bring everything to the device; where that fails it is asked again next time.
    ///
    /// # Errors
    /// Those of `sync`.
    pub(super) fn bring(
        &self,
        sync: impl FnOnce(&BTreeSet<u32>) -> io::Result<()>,
    ) -> io::Result<BTreeSet<u32>> {
        let written = std::mem::take(&mut *lock(&self.0));
        match sync(&written) {
            Ok(()) => Ok(written),
            Err(error) => {
                self.add(written);
                Err(error)
            }
        }
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
        let meanwhile = |_: &BTreeSet<u32>| {
            written.add([7, 9]);
            Ok(())
        };
        assert_eq!(written.bring(meanwhile).unwrap(), [0, 7].into());
        assert_eq!(written.bring(|_| Ok(())).unwrap(), [7, 9].into());
        assert_eq!(written.bring(|_| Ok(())).unwrap(), [].into());
    }
}
