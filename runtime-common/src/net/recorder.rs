use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use trackerless_core::record::Writer;
use trackerless_core::time::Instant;
use trackerless_core::{Config, Input};

/// Bytes gathered before they are written.
const BUFFER: usize = 256 * 1024;

/// Writes every input of one engine to a file, for replay.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: BufWriter<File>,
    writer: Writer,
    scratch: Vec<u8>,
    failed: Option<io::Error>,
}

impl Recorder {
    pub(crate) fn create(
        path: &Path,
        config: &Config,
        seed: &[u8; 32],
        start: Instant,
    ) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        // The seed is in it, and with it every secret of the engine.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        let mut scratch = Vec::new();
        let mut this = Self {
            file: BufWriter::with_capacity(BUFFER, file),
            writer: Writer::begin(config, seed, start, &mut scratch),
            scratch,
            failed: None,
        };
        this.write();
        // From here on whatever is there can be replayed, however we end.
        this.flush()?;
        Ok(this)
    }

    pub(crate) fn record(&mut self, now: Instant, input: &Input<'_>) {
        self.writer.record(now, input, &mut self.scratch);
        self.write();
    }

    /// Hands what was gathered to the kernel, and tells of the first failure.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.file.flush(),
        }
    }

    fn write(&mut self) {
        if self.failed.is_none() {
            self.failed = self.file.write_all(&self.scratch).err();
        }
        self.scratch.clear();
    }
}
