//! What both Trackerless drivers share: storage, command line, display, state.
