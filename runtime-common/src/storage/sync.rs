//! How what was written comes to the device.
//!
//! Resume data names pieces, and is saved only after every file that was written before it was made
//! is on the device: so it never says more than the disk has, whatever happens in between. Each
//! file is brought there by itself while they are few. Of many small files each would wait for a
//! turn of the file system's journal; then the file system is asked for everything at once, which
//! on Linux returns when it is there, and reports what could not be written.

use std::io;

use super::changes::is_changed;
use super::files::FileStore;
use super::lock;
use super::parts::Parts;

impl FileStore {
    /// Brings everything that was written before this call to the device.
    ///
    /// # Errors
    /// Those of the file system; then the same files are brought there next time.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.written.bring(|written| {
            if written.len() <= self.sync_one_by_one {
                return self.sync_each(written.iter().copied());
            }
            if !self.sync_devices()? {
                return self.sync_each(written.iter().copied());
            }
            let mut apart = lock(&self.open).apart.clone();
            apart.insert(self.parts_index());
            self.sync_each(apart.into_iter().filter(|index| written.contains(index)))
        })
    }

    fn sync_each(&self, files: impl Iterator<Item = u32>) -> io::Result<()> {
        for index in files {
            if index == self.parts_index() {
                self.parts.as_ref().map_or(Ok(()), Parts::sync)?;
                continue;
            }
            match self.file(index, false) {
                Ok(file) => file.sync_data()?,
                // Somebody took it away: there is nothing to bring anywhere, and what it looks like
                // by now vouches for no piece.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if is_changed(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Has every file system that was written to bring everything to its device; false where none
    /// can be asked. The folders that are asked through are those that files were made in.
    #[cfg(target_os = "linux")]
    fn sync_devices(&self) -> io::Result<bool> {
        let folders = lock(&self.open).folders.devices();
        for folder in &folders {
            rustix::fs::syncfs(&**folder)?;
        }
        Ok(!folders.is_empty())
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_devices(&self) -> io::Result<bool> {
        Ok(false)
    }
}
