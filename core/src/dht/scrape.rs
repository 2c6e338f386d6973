//! Bloom filters of the peers of an info-hash (BEP 33).
//!
//! Each node tells of the peers it keeps in two filters: who has everything, and who does not. The
//! union over several nodes counts each peer once.

use core::fmt;
use core::net::IpAddr;

use sha1::{Digest as _, Sha1};

/// Bytes of a filter.
pub const LEN: usize = 256;
/// Bits of a filter.
const BITS: u32 = LEN as u32 * 8;

/// A set of addresses: whether one is in it may be wrong, how many are in it is an estimate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Filter(pub [u8; LEN]);

impl Default for Filter {
    fn default() -> Self {
        Self([0; LEN])
    }
}

impl Filter {
    /// Adds an address; its port does not count.
    pub fn insert(&mut self, ip: IpAddr) {
        let hash = match ip {
            IpAddr::V4(ip) => Sha1::digest(ip.octets()),
            IpAddr::V6(ip) => Sha1::digest(ip.octets()),
        };
        for at in [0, 2] {
            let bit = u32::from(u16::from_le_bytes([hash[at], hash[at + 1]])) % BITS;
            self.0[bit as usize / 8] |= 1 << (bit % 8);
        }
    }

    /// Adds every address of another filter.
    pub fn merge(&mut self, other: &[u8; LEN]) {
        for (byte, more) in self.0.iter_mut().zip(other) {
            *byte |= more;
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; LEN]
    }

    /// About how many addresses are in it; a full filter says 7,806, whatever is in it.
    #[must_use]
    pub fn estimate(&self) -> u32 {
        (self.thousandths() + 500) / 1_000
    }

    /// The same in thousandths of an address.
    ///
    /// That is ln(c / m) / (2 ln(1 - 1 / m)) with c of m bits not set: each address leaves
    /// (1 - 1 / m)² of the bits that were not set. So addresses are added, to a number and not to a
    /// filter, until as few are left: whole numbers have the same result on every machine.
    #[must_use]
    pub fn thousandths(&self) -> u32 {
        const SHIFT: u32 = 44;
        let set: u32 = self.0.iter().map(|byte| byte.count_ones()).sum();
        let unset = (BITS - set).clamp(1, BITS - 1);
        if set == 0 {
            return 0;
        }
        let wanted = u64::from(unset) << SHIFT;
        let mut left = u64::from(BITS) << SHIFT;
        let mut addresses = 0;
        loop {
            let once = left - left / u64::from(BITS);
            let next = once - once / u64::from(BITS);
            if next <= wanted {
                let part = (left - wanted) * 1_000 / (left - next);
                return addresses * 1_000 + part as u32;
            }
            left = next;
            addresses += 1;
        }
    }
}

/// The two filters of an info-hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filters {
    /// Peers that have everything.
    pub seeds: Filter,
    /// Peers that lack something.
    pub downloaders: Filter,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter(about {})", self.estimate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use quickcheck::quickcheck;
    use std::string::String;
    use std::vec::Vec;

    const VECTOR: &str = "\
        F6C3F5EAA07FFD91BDE89F777F26FB2BFF37BDB8FB2BBAA2FD3DDDE7BACFFF75EE7CCBAE\
        FE5EEDB1FBFAFF67F6ABFF5E43DDBCA3FD9B9FFDF4FFD3E9DFF12D1BDF59DB53DBE9FA5B\
        7FF3B8FDFCDE1AFB8BEDD7BE2F3EE71EBBBFE93BCDEEFE148246C2BC5DBFF7E7EFDCF24F\
        D8DC7ADFFD8FFFDFDDFFF7A4BBEEDF5CB95CE81FC7FCFF1FF4FFFFDFE5F7FDCBB7FD79B3\
        FA1FC77BFE07FFF905B7B7FFC7FEFEFFE0B8370BB0CD3F5B7F2BD93FEB4386CFDD6F7FD5\
        BFAF2E9EBFFFFEECD67ADBF7C67F17EFD5D75EBA6FFEBA7FFF47A91EB1BFBB53E8ABFB57\
        62ABE8FF237279BFEFBFEEF5FFC5FEBFDFE5ADFFADFEE1FB737FFFFBFD9F6AEFFEEE76B6\
        FD8F72EF";

    #[test]
    fn the_vector_of_bep_33_comes_out() {
        let mut filter = Filter::default();
        for n in 0..256 {
            filter.insert(Ipv4Addr::from(0xc000_0200 + n).into());
        }
        for n in 0..=0x3e7 {
            filter.insert(Ipv6Addr::from(0x2001_0db8_u128 << 96 | n).into());
        }
        let hex: String = filter.0.iter().map(|b| std::format!("{b:02X}")).collect();
        assert_eq!(hex, VECTOR);
        // 1,224.9308 in the text.
        assert_eq!(
            (filter.thousandths(), filter.estimate()),
            (1_224_930, 1_225)
        );
    }

    #[test]
    fn nothing_and_everything_have_their_estimates() {
        assert_eq!(Filter::default().estimate(), 0);
        assert_eq!(Filter([0xff; LEN]).estimate(), 7_806);
        assert!(Filter::default().is_empty() && !Filter([1; LEN]).is_empty());
    }

    quickcheck! {
        fn a_union_is_the_filter_of_all(a: Vec<u32>, b: Vec<u128>) -> bool {
            let (mut first, mut second, mut all) = Default::default();
            for ip in a {
                let ip = Ipv4Addr::from(ip).into();
                Filter::insert(&mut first, ip);
                Filter::insert(&mut all, ip);
            }
            for ip in b {
                let ip = Ipv6Addr::from(ip).into();
                Filter::insert(&mut second, ip);
                Filter::insert(&mut all, ip);
            }
            first.merge(&second.0);
            first == all
        }

        fn some_hundred_addresses_are_estimated_closely(start: u32, count: u16) -> bool {
            let count = u32::from(count) % 600;
            let mut filter = Filter::default();
            for n in 0..count {
                filter.insert(Ipv4Addr::from(start.wrapping_add(n)).into());
            }
            filter.estimate().abs_diff(count) <= 3 + count / 8
        }
    }
}
