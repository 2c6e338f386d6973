//! Trackerless on tokio: library and command.
