//! Bencoding (BEP 3): read without copying, written in canonical order.
