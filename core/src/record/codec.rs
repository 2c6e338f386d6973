//! How plain values become bytes: fixed-width little-endian numbers, counted sequences.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Bytes, BytesMut};

use super::RecordError;
use crate::id::Id20;
use crate::io::{ConnId, JobId, SocketId, Tag, Ticket, TorrentId};
use crate::time::{Duration, Instant};

/// Bytes that have not been read yet.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next value of a type.
    pub(super) fn value<T: Codec>(&mut self) -> Result<T, RecordError> {
        T::take(self)
    }

    /// Nothing is left.
    pub(super) fn end(&self) -> Result<(), RecordError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(RecordError::Invalid("length of a record"))
        }
    }

    /// A number that [`put_varint`] wrote.
    pub(super) fn varint(&mut self) -> Result<u64, RecordError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = u8::take(self)?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(RecordError::Invalid("number"))
    }

    fn counted(&mut self) -> Result<&'a [u8], RecordError> {
        let count = u32::take(self)? as usize;
        self.bytes(count)
    }
}

/// A value that can be written and read back.
pub(super) trait Codec: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError>;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Codec for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
                let bytes = reader.bytes(size_of::<Self>())?;
                bytes.try_into().map(Self::from_le_bytes).map_err(|_| RecordError::Truncated)
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, i64);

macro_rules! ids {
    ($($id:ident: $to:expr, $from:expr;)*) => {$(
        impl Codec for $id {
            fn put(&self, out: &mut Vec<u8>) {
                #[allow(clippy::redundant_closure_call)]
                $to(self).put(out);
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
                Codec::take(reader).map($from)
            }
        }
    )*};
}
ids! {
    ConnId: |id: &ConnId| id.to_bits(), ConnId::from_bits;
    TorrentId: |id: &TorrentId| id.to_bits(), TorrentId::from_bits;
    JobId: |id: &JobId| id.to_bits(), JobId::from_bits;
    SocketId: |id: &SocketId| id.0, SocketId;
    Ticket: |id: &Ticket| id.0, Ticket;
    Tag: |id: &Tag| id.0, Tag;
    Instant: |at: &Instant| at.as_micros(), Instant::from_micros;
    Duration: |time: &Duration| time.as_micros() as u64, Duration::from_micros;
    Id20: |id: &Id20| id.0, Id20;
}

impl Codec for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        match u8::take(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::Invalid("flag")),
        }
    }
}

impl<const N: usize> Codec for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        reader
            .bytes(N)?
            .try_into()
            .map_err(|_| RecordError::Truncated)
    }
}

impl Codec for [u16; 4] {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|number| number.put(out));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let mut all = [0; 4];
        for number in &mut all {
            *number = u16::take(reader)?;
        }
        Ok(all)
    }
}

/// Appends a number in as few bytes as it needs: seven bits each, the lowest first.
pub(super) fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    (bytes.len() as u32).put(out);
    out.extend_from_slice(bytes);
}

impl Codec for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self, out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        reader.counted().map(Self::copy_from_slice)
    }
}

impl Codec for BytesMut {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self, out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        reader.counted().map(Self::from)
    }
}

impl Codec for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let bytes = reader.counted()?.to_vec();
        Self::from_utf8(bytes).map_err(|_| RecordError::Invalid("text"))
    }
}

impl<T: Codec> Codec for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        if bool::take(reader)? {
            T::take(reader).map(Some)
        } else {
            Ok(None)
        }
    }
}

impl<T: Codec> Codec for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        T::take(reader).map(Self::new)
    }
}

impl<A: Codec, B: Codec> Codec for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok((A::take(reader)?, B::take(reader)?))
    }
}

/// Items one by one: what is allocated never exceeds a small multiple of what was read.
impl<T: Codec> Codec for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        self.iter().for_each(|item| item.put(out));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let count = u32::take(reader)?;
        let mut all = Self::new();
        for _ in 0..count {
            all.push(T::take(reader)?);
        }
        Ok(all)
    }
}

/// In the order of their keys; any other order is none that was written.
impl<K: Codec + Ord, V: Codec> Codec for BTreeMap<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let all = Vec::<(K, V)>::take(reader)?;
        if !all.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(RecordError::Invalid("order of keys"));
        }
        Ok(all.into_iter().collect())
    }
}

impl Codec for IpAddr {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::V4(ip) => {
                4u8.put(out);
                ip.octets().put(out);
            }
            Self::V6(ip) => {
                6u8.put(out);
                ip.octets().put(out);
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        match u8::take(reader)? {
            4 => Ok(Ipv4Addr::from(<[u8; 4]>::take(reader)?).into()),
            6 => Ok(Ipv6Addr::from(<[u8; 16]>::take(reader)?).into()),
            _ => Err(RecordError::Invalid("address family")),
        }
    }
}

/// The scope and flow label of IPv6 decide nothing in the engine and are not kept.
impl Codec for SocketAddr {
    fn put(&self, out: &mut Vec<u8>) {
        self.ip().put(out);
        self.port().put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(Self::new(IpAddr::take(reader)?, u16::take(reader)?))
    }
}

/// Implements [`Codec`] for a struct, field by field; a field left out does not compile.
macro_rules! codec_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl Codec for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.put(out);)*
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
                Ok(Self { $($field: Codec::take(reader)?),* })
            }
        }
    };
}

/// Implements [`Codec`] for an enum of unit and tuple variants with stable numbers.
macro_rules! codec_enum {
    ($name:ident { $($number:literal => $variant:ident $(($($field:ident),*))?),* $(,)? }) => {
        impl Codec for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $(($($field),*))? => {
                        let number: u8 = $number;
                        number.put(out);
                        $($($field.put(out);)*)?
                    })*
                }
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
                match u8::take(reader)? {
                    $($number => {
                        $($(let $field = Codec::take(reader)?;)*)?
                        Ok(Self::$variant $(($($field),*))?)
                    })*
                    _ => Err(RecordError::Invalid(stringify!($name))),
                }
            }
        }
    };
}

pub(super) use {codec_enum, codec_struct};

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn varints_round_trip(number: u64, shift: u8) -> bool {
            let number = number >> (shift % 64);
            let mut bytes = Vec::new();
            put_varint(number, &mut bytes);
            let bits = 64 - number.leading_zeros() as usize;
            let mut reader = Reader(&bytes);
            bytes.len() == bits.div_ceil(7).max(1)
                && reader.varint() == Ok(number)
                && reader.end().is_ok()
        }
    }

    #[test]
    fn a_varint_that_fits_no_number_is_refused() {
        let mut most = Vec::new();
        put_varint(u64::MAX, &mut most);
        assert_eq!(Reader(&most).varint(), Ok(u64::MAX));
        most[9] = 2;
        assert_eq!(Reader(&most).varint(), Err(RecordError::Invalid("number")));
        assert!(Reader(&[0x80; 11]).varint().is_err());
        assert_eq!(Reader(&[0x80]).varint(), Err(RecordError::Truncated));
    }
}
