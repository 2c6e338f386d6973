//! Our own address, as others see it (BEP 42).

use alloc::vec::Vec;
use core::net::IpAddr;

use super::security;

/// Votes of distinct networks on our address in one family.
#[derive(Debug)]
pub struct Votes {
    votes: Vec<(u128, IpAddr)>,
    next: usize,
    current: Option<IpAddr>,
    voters: usize,
    quorum: usize,
}

impl Votes {
    /// No votes yet; of at most `voters` networks, and fewer than `quorum` of them change nothing.
    #[must_use]
    pub fn new(voters: u8, quorum: u8) -> Self {
        Self {
            votes: Vec::new(),
            next: 0,
            current: None,
            voters: usize::from(voters.max(1)),
            quorum: usize::from(quorum),
        }
    }

    /// The address believed.
    #[must_use]
    pub fn current(&self) -> Option<IpAddr> {
        self.current
    }

    /// Believes `ip` for now, because the host bound it.
    pub fn assume(&mut self, ip: IpAddr) {
        if !security::is_local(ip) {
            self.current = Some(ip);
        }
    }

    /// `voter` says that we are at `claim`. Returns the address if that changes what is believed:
    /// it takes two thirds of the voters to do so.
    pub fn vote(&mut self, voter: IpAddr, claim: IpAddr) -> Option<IpAddr> {
        if security::is_local(claim) || is_nobody(claim) || claim.is_ipv4() != voter.is_ipv4() {
            return None;
        }
        let network = security::network(voter);
        if let Some(known) = self.votes.iter_mut().find(|(known, _)| *known == network) {
            known.1 = claim;
        } else if self.votes.len() < self.voters {
            self.votes.push((network, claim));
        } else {
            self.votes[self.next % self.voters] = (network, claim);
            self.next = (self.next + 1) % self.voters;
        }
        let agree = self.votes.iter().filter(|(_, ip)| *ip == claim).count();
        let wins = agree >= self.quorum && agree * 3 >= self.votes.len() * 2;
        if !wins || self.current == Some(claim) {
            return None;
        }
        self.current = Some(claim);
        Some(claim)
    }
}

/// Addresses no host can have.
fn is_nobody(ip: IpAddr) -> bool {
    ip.is_multicast()
        || matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 0 || ip.octets()[0] >= 240)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn voter(n: u32) -> IpAddr {
        IpAddr::V4((0x0800_0000 + (n << 8)).into())
    }

    #[test]
    fn four_networks_are_believed_and_one_with_many_hosts_is_not() {
        let mut votes = Votes::new(32, 4);
        for n in 0..200 {
            let near = IpAddr::V4((0x0900_0000 + n).into());
            assert_eq!(votes.vote(near, ip("1.2.3.4")), None);
        }
        assert_eq!(votes.vote(voter(1), ip("1.2.3.4")), None);
        assert_eq!(votes.vote(voter(2), ip("1.2.3.4")), None);
        assert_eq!(votes.vote(voter(3), ip("1.2.3.4")), Some(ip("1.2.3.4")));
        assert_eq!(votes.vote(voter(4), ip("1.2.3.4")), None);
    }

    #[test]
    fn a_challenger_needs_two_thirds_and_local_claims_count_nothing() {
        let mut votes = Votes::new(32, 4);
        for n in 0..9 {
            votes.vote(voter(n), ip("1.2.3.4"));
        }
        let change = (9..60).find(|n| votes.vote(voter(*n), ip("5.6.7.8")).is_some());
        assert_eq!(change, Some(26));
        for n in 60..100 {
            assert_eq!(votes.vote(voter(n), ip("192.168.0.1")), None);
            assert_eq!(votes.vote(voter(n), ip("2001:db8::1")), None);
        }
        assert_eq!(votes.current(), Some(ip("5.6.7.8")));
    }

    #[test]
    fn voters_are_remembered_up_to_the_limit_and_nobody_is_at_an_address_for_nobody() {
        let mut votes = Votes::new(8, 4);
        for n in 0..100 {
            votes.vote(voter(n), ip("1.2.3.4"));
            assert!(votes.votes.len() <= 8);
        }
        assert_eq!(
            (votes.votes.len(), votes.current()),
            (8, Some(ip("1.2.3.4")))
        );
        for claim in [
            "0.1.2.3",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "100.64.0.1",
        ] {
            for n in 0..40 {
                assert_eq!(votes.vote(voter(n), ip(claim)), None, "{claim}");
            }
        }
        // Families are kept apart: an IPv6 voter knows nothing of our IPv4 address.
        for n in 0..40u128 {
            let six = IpAddr::V6(((0x2001_0db8 << 96) | n << 64).into());
            assert_eq!(votes.vote(six, ip("5.6.7.8")), None);
        }
        assert_eq!(votes.current(), Some(ip("1.2.3.4")));
    }
}
