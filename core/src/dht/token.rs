//! Write tokens (BEP 5): a keyed hash that shows that an asker receives at its address.

use core::net::IpAddr;

use sha1::{Digest, Sha1};

use crate::id::Id20;
use crate::rng::Secrets;
use crate::time::{Duration, Instant};

/// Bytes of our tokens.
pub const LEN: usize = 8;

/// The secrets that tokens are made with: the present one and the one before.
pub struct Tokens {
    current: [u8; 16],
    previous: [u8; 16],
    changed: Instant,
    every: Duration,
}

impl Tokens {
    /// Secrets that change `every` so often.
    #[must_use]
    pub fn new(secrets: &mut Secrets, every: Duration, now: Instant) -> Self {
        Self {
            current: secrets.bytes(),
            previous: secrets.bytes(),
            changed: now,
            every,
        }
    }

    /// The token of `ip` for `target`.
    pub fn make(
        &mut self,
        ip: IpAddr,
        target: &Id20,
        secrets: &mut Secrets,
        now: Instant,
    ) -> [u8; LEN] {
        self.rotate(secrets, now);
        digest(&self.current, ip, target)
    }

    /// Whether `token` was made for `ip` and `target` with one of the last two secrets.
    pub fn check(
        &mut self,
        token: &[u8],
        ip: IpAddr,
        target: &Id20,
        secrets: &mut Secrets,
        now: Instant,
    ) -> bool {
        self.rotate(secrets, now);
        let same = |secret| {
            let expected = digest(secret, ip, target);
            let differing = expected
                .iter()
                .zip(token)
                .fold(0, |sum, (a, b)| sum | (a ^ b));
            token.len() == LEN && differing == 0
        };
        same(&self.current) | same(&self.previous)
    }

    fn rotate(&mut self, secrets: &mut Secrets, now: Instant) {
        let age = now.saturating_since(self.changed);
        if age < self.every {
            return;
        }
        // After a long silence even the current secret is older than a previous one may be.
        self.previous = if age < self.every * 2 {
            self.current
        } else {
            secrets.bytes()
        };
        self.current = secrets.bytes();
        self.changed = now;
    }
}

// The length of everything hashed is fixed per family, so a plain prefix key is a sound MAC.
fn digest(secret: &[u8; 16], ip: IpAddr, target: &Id20) -> [u8; LEN] {
    let hash = Sha1::new().chain_update(secret);
    let hash = match ip {
        IpAddr::V4(ip) => hash.chain_update([4]).chain_update(ip.octets()),
        IpAddr::V6(ip) => hash.chain_update([6]).chain_update(ip.octets()),
    };
    let full = hash.chain_update(target.0).finalize();
    let mut out = [0; LEN];
    out.copy_from_slice(&full[..LEN]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Label;

    #[test]
    fn a_token_is_good_for_its_address_and_target_for_two_periods() {
        let mut secrets = Secrets::new(&[1; 32], Label::Dht(4));
        let start = Instant::from_micros(1);
        let every = Duration::from_secs(300);
        let mut tokens = Tokens::new(&mut secrets, every, start);
        let (ip, other) = ("1.2.3.4".parse().unwrap(), "1.2.3.5".parse().unwrap());
        let (hash, wrong) = (Id20([7; 20]), Id20([8; 20]));
        let token = tokens.make(ip, &hash, &mut secrets, start);
        let mut check = |token: &[u8], ip, hash: &Id20, after| {
            tokens.check(
                token,
                ip,
                hash,
                &mut secrets,
                start + Duration::from_secs(after),
            )
        };
        assert!(check(&token, ip, &hash, 0));
        assert!(!check(&token, other, &hash, 0));
        assert!(!check(&token, ip, &wrong, 0));
        assert!(!check(&token[..7], ip, &hash, 0));
        assert!(!check(&[], ip, &hash, 0));
        assert!(check(&token, ip, &hash, 299));
        assert!(check(&token, ip, &hash, 301));
        assert!(!check(&token, ip, &hash, 602));
    }

    #[test]
    fn a_long_silence_ends_a_token() {
        let mut secrets = Secrets::new(&[1; 32], Label::Dht(4));
        let start = Instant::from_micros(1);
        let mut tokens = Tokens::new(&mut secrets, Duration::from_secs(300), start);
        let ip = "::1".parse().unwrap();
        let token = tokens.make(ip, &Id20([7; 20]), &mut secrets, start);
        let late = start + Duration::from_secs(3_000);
        assert!(!tokens.check(&token, ip, &Id20([7; 20]), &mut secrets, late));
    }
}
