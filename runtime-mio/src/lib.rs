//! Trackerless on mio: library and command.
