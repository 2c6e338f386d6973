//! Bencoding (BEP 3), read without copying and without recursion.
//!
//! [`decode`] checks a whole message and lists its parts as spans of the input; a [`Value`] is a
//! cheap look at one of them. What is wrong but harmless (unsorted keys, leading zeros) is accepted
//! and reported by [`View::flaw`], for those who must refuse it.

mod decode;
mod error;
mod value;
mod write;

pub use decode::{Document, Limits, Scratch, View, decode, decode_in, decode_prefix};
pub use error::{Error, ErrorKind, Flaw, FlawKind};
pub use value::{Dict, DictIter, List, ListIter, Value};
pub use write::Writer;

#[cfg(test)]
mod tests;
