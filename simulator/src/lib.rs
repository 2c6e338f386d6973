//! Whole swarms of production Trackerless engines in one process, from one seed.
