//! Cross-crate tests of Trackerless, and the bodies of its fuzz targets.

pub mod fuzzing;
