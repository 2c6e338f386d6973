//! Whom we know, in which order they are tried, and who is forgotten.

use super::*;
use quickcheck::quickcheck;
use std::vec::Vec;

const MODE: EncryptionMode = EncryptionMode::Allow;

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 6881))
}

fn at(secs: u64) -> Instant {
    Instant::from_micros(secs * 1_000_000 + 1)
}

fn next(peers: &mut Peers, now: Instant) -> Option<SocketAddr> {
    match peers.next_to_connect(&SwarmConfig::default(), now, &Crowd::default(), false)? {
        Candidate::Take(addr, _) => Some(addr),
        Candidate::PutOff => None,
    }
}

/// An address in a network of its own.
fn far(n: u32) -> SocketAddr {
    SocketAddr::from(((0x1000_0001 + n * 256).to_be_bytes(), 6881))
}

#[test]
fn equals_are_tried_in_an_order_of_our_own() {
    let config = SwarmConfig::default();
    let honest = far(200);
    let mut early = 0;
    for key in 0..64 {
        let mut peers = Peers::new(key, false, MODE);
        for n in 0..=200 {
            assert!(peers.on_found(&config, PeerSource::Dht, far(n)));
        }
        let tried = (0..100).filter_map(|_| next(&mut peers, at(0)));
        early += u32::from(tried.collect::<Vec<_>>().contains(&honest));
    }
    // Half of all, give or take.
    assert!((16..=48).contains(&early), "{early}");
}

#[test]
fn a_flood_of_addresses_has_its_share_and_no_more() {
    let config = SwarmConfig {
        max_known_peers: 100,
        ..SwarmConfig::default()
    };
    for honest_first in [true, false] {
        let mut peers = Peers::new(1, false, MODE);
        peers.on_found(&config, PeerSource::Manual, far(9_999));
        assert_eq!(next(&mut peers, at(0)), Some(far(9_999)));
        peers.on_closed(&config, far(9_999), End::Failed, at(0));
        let find = |peers: &mut Peers, numbers: core::ops::Range<u32>| {
            for n in numbers {
                peers.on_found(&config, PeerSource::Dht, far(n));
            }
        };
        if honest_first {
            find(&mut peers, 1_000..1_100);
        }
        find(&mut peers, 0..400);
        find(&mut peers, 1_000..1_100);
        // Telling of them again and again changes nothing.
        for _ in 0..3 {
            find(&mut peers, 0..400);
        }
        for n in 0..50 {
            peers.on_found(&config, PeerSource::Pex, far(2_000 + n));
        }
        let kept = (1_000..1_100).filter(|n| peers.known.contains_key(&far(*n)));
        let kept = kept.count();
        assert!((10..=30).contains(&kept), "{kept} of a fair share of 20");
        assert_eq!(peers.len(), 100);
        // Neither did they push out what the user named, though it failed.
        assert!(peers.known.contains_key(&far(9_999)));
    }
}

#[test]
fn one_address_fills_neither_the_list_nor_the_connections() {
    let config = SwarmConfig::default();
    let mut peers = Peers::new(1, false, MODE);
    let port = |n| SocketAddr::from(([16, 0, 0, 1], n));
    for n in 1..100 {
        peers.on_found(&config, PeerSource::Dht, port(n));
    }
    assert_eq!(peers.len(), usize::from(config.known_crowding.per_address));
    let mut connected = Crowd::default();
    connected.add(port(1).ip());
    let mut taken = 0;
    while peers.has_candidate() {
        match peers.next_to_connect(&config, at(0), &connected, false) {
            Some(Candidate::Take(..)) => taken += 1,
            Some(Candidate::PutOff) => {}
            None => panic!("there is a candidate"),
        }
    }
    assert_eq!(taken + 1, u32::from(config.peer_crowding.per_address));
    // Who is forgotten or banned makes room for others.
    peers.ban(&config, port(1));
    for n in 1..=8 {
        peers.forget(port(n));
    }
    assert_eq!(peers.connecting(), 0);
    assert!(
        peers
            .connecting_to
            .admits(port(1).ip(), config.peer_crowding, false, &[])
    );
}

#[test]
fn what_we_had_no_room_for_is_no_failure() {
    use crate::io::IoReason;
    let config = SwarmConfig::default();
    let mut peers = Peers::new(1, false, MODE);
    peers.on_found(&config, PeerSource::Dht, addr(1));
    let limit = End::of_attempt(CloseReason::Limit("limits.max_connections"));
    let own = End::of_attempt(CloseReason::Io(IoReason::NoBuffers));
    assert_eq!((limit, own), (End::Ours, End::Ours));
    let refused = End::of_attempt(CloseReason::Io(IoReason::Refused));
    assert_eq!(refused, End::Failed);
    for round in 0..20 {
        assert_eq!(next(&mut peers, at(round * 60)), Some(addr(1)));
        peers.on_closed(&config, addr(1), limit, at(round * 60));
    }
}

#[test]
fn better_sources_come_first_and_each_failure_waits_longer() {
    let config = SwarmConfig::default();
    let mut peers = Peers::new(7, false, MODE);
    assert!(peers.on_found(&config, PeerSource::Dht, addr(1)));
    assert!(peers.on_found(&config, PeerSource::Tracker, addr(2)));
    assert!(!peers.on_found(&config, PeerSource::Dht, addr(2)));
    assert_eq!(next(&mut peers, at(0)), Some(addr(2)));
    assert_eq!(next(&mut peers, at(0)), Some(addr(1)));
    assert_eq!(peers.connecting(), 2);
    let mut now = 0;
    for failures in 1..u64::from(config.max_peer_failures) {
        peers.on_closed(&config, addr(2), End::Failed, at(now));
        let wait = 60 * (failures + 1);
        assert_eq!(next(&mut peers, at(now + wait - 1)), None);
        now += wait;
        assert_eq!(next(&mut peers, at(now)), Some(addr(2)));
    }
    peers.on_closed(&config, addr(2), End::Failed, at(now));
    assert_eq!(peers.len(), 1);
}

#[test]
fn who_was_named_is_tried_again_soon_and_never_forgotten() {
    let config = SwarmConfig::default();
    let mut peers = Peers::new(7, false, MODE);
    peers.on_found(&config, PeerSource::Manual, addr(1));
    let mut now = 0;
    // Not up yet: soon, then later and later, and at last as late as anybody.
    for wait in [5, 10, 20, 40, 80, 80] {
        assert_eq!(next(&mut peers, at(now)), Some(addr(1)));
        peers.on_closed(&config, addr(1), End::Failed, at(now));
        assert_eq!(next(&mut peers, at(now + wait - 1)), None);
        now += wait;
    }
    let config = SwarmConfig {
        max_peer_failures: 250,
        ..config
    };
    for failures in 6..260 {
        assert_eq!(next(&mut peers, at(now)), Some(addr(1)));
        peers.on_closed(&config, addr(1), End::Failed, at(now));
        let wait = (5u64 << (failures - 1).min(20)).min(60 * (failures.min(250) + 1));
        assert_eq!(next(&mut peers, at(now + wait - 1)), None, "{failures}");
        now += wait;
    }
}

#[test]
fn who_broke_the_rules_is_not_tried_again_soon_whatever_it_brought() {
    let config = SwarmConfig::default();
    let flood = CloseReason::Protocol("blocks nobody asked for");
    let mut peers = Peers::new(7, false, MODE);
    peers.on_found(&config, PeerSource::Manual, addr(1));
    let mut now = 0;
    for failures in 1..=u64::from(config.max_peer_failures) {
        assert_eq!(next(&mut peers, at(now)), Some(addr(1)));
        let end = End::of_connection(flood, false);
        peers.on_closed(&config, addr(1), end, at(now));
        let wait = 60 * (failures + 1);
        assert!(
            peers
                .next_retry(true)
                .is_none_or(|next| next == at(now + wait))
        );
        now += wait;
    }
    assert_eq!(peers.len(), 0);
}

#[test]
fn while_there_is_nobody_all_are_tried_again_soon_but_not_for_ever() {
    let config = SwarmConfig::default();
    let mut peers = Peers::new(7, false, MODE);
    let next = |peers: &mut Peers, now, alone| {
        let next = peers.next_to_connect(&config, now, &Crowd::default(), alone);
        next.map(|it| matches!(it, Candidate::Take(..)))
    };
    peers.on_found(&config, PeerSource::Dht, addr(1));
    let mut now = 0;
    for wait in [5, 10, 20, 300] {
        assert_eq!(next(&mut peers, at(now), true), Some(true));
        peers.on_closed(&config, addr(1), End::Failed, at(now));
        assert_eq!(peers.next_retry(true), Some(at(now + wait)));
        assert_eq!(next(&mut peers, at(now + wait - 1), true), None);
        // Beside others, or with all that it wants, it has time.
        if wait < 60 {
            assert_eq!(next(&mut peers, at(now + wait), false), None);
            peers.set_complete(true);
            assert_eq!(next(&mut peers, at(now + wait), true), None);
            peers.set_complete(false);
        }
        now += wait;
    }
    // While one is being tried, another has time as well.
    peers.on_found(&config, PeerSource::Dht, addr(2));
    assert_eq!(next(&mut peers, at(now), true), Some(true));
    peers.on_closed(&config, addr(2), End::Used, at(now));
    assert_eq!(next(&mut peers, at(now), true), Some(true));
    assert_eq!(next(&mut peers, at(now + 5), true), None);
    peers.on_closed(&config, addr(1), End::Failed, at(now + 5));
    assert_eq!(peers.len(), 1);
    assert_eq!(next(&mut peers, at(now + 5), true), Some(true));
}

#[test]
fn a_handshake_is_no_success_but_a_block_is() {
    let config = SwarmConfig::default();
    let mut peers = Peers::new(7, false, MODE);
    peers.on_found(&config, PeerSource::Dht, addr(1));
    let mut now = 0;
    // It shakes hands and hangs up, again and again: each wait is longer than the last.
    for failures in 1..=2 {
        assert_eq!(next(&mut peers, at(now)), Some(addr(1)));
        peers.on_connected(addr(1));
        peers.on_closed(&config, addr(1), End::Failed, at(now));
        let wait = 60 * (failures + 1);
        assert_eq!(next(&mut peers, at(now + wait - 1)), None);
        now += wait;
    }
    // It gave something this time, and closed in order: as if it were new.
    assert_eq!(next(&mut peers, at(now)), Some(addr(1)));
    peers.on_connected(addr(1));
    peers.on_closed(&config, addr(1), End::Used, at(now));
    assert_eq!(next(&mut peers, at(now + 59)), None);
    assert_eq!(next(&mut peers, at(now + 60)), Some(addr(1)));
}

#[test]
fn a_full_table_keeps_the_better_sources() {
    let config = SwarmConfig {
        max_known_peers: 2,
        ..SwarmConfig::default()
    };
    let mut peers = Peers::new(7, false, MODE);
    assert!(peers.on_found(&config, PeerSource::Pex, addr(1)));
    assert!(peers.on_found(&config, PeerSource::Pex, addr(2)));
    assert!(!peers.on_found(&config, PeerSource::Pex, addr(3)));
    assert!(peers.on_found(&config, PeerSource::Tracker, addr(4)));
    assert_eq!(peers.len(), 2);
}

#[test]
fn the_banned_never_come_back_and_seeds_do_not_serve_seeds() {
    let config = SwarmConfig::default();
    let mut peers = Peers::new(7, false, MODE);
    peers.on_found(&config, PeerSource::Dht, addr(1));
    peers.ban(&config, addr(1));
    assert!(!peers.on_found(&config, PeerSource::Dht, addr(1)));
    assert!(peers.is_banned(SocketAddr::from(([10, 0, 0, 1], 9))));
    peers.on_found(&config, PeerSource::Dht, addr(2));
    peers.set_seed(addr(2), true);
    peers.set_complete(true);
    assert_eq!(next(&mut peers, at(1)), None);
    for n in 0..=config.max_banned {
        peers.ban(&config, SocketAddr::from((n.to_be_bytes(), 1)));
    }
    assert_eq!(peers.bans.len(), config.max_banned as usize);
}

quickcheck! {
    fn indices_agree_with_states(steps: Vec<(u8, u8)>) -> bool {
        let config = SwarmConfig { max_known_peers: 6, ..SwarmConfig::default() };
        let mut peers = Peers::new(7, false, MODE);
        for (second, (kind, n)) in steps.into_iter().enumerate() {
            let now = at(second as u64 * 20);
            let addr = addr(n % 10);
            match kind % 8 {
                0 => { peers.on_found(&config, PeerSource::Dht, addr); }
                1 => { peers.on_found(&config, PeerSource::Tracker, addr); }
                2 => { next(&mut peers, now); }
                3 => peers.on_connected(addr),
                4 => {
                    let ends = [End::Failed, End::Used, End::Ours];
                    peers.on_closed(&config, addr, ends[usize::from(n % 3)], now);
                }
                5 => peers.set_seed(addr, n % 2 == 0),
                6 => peers.set_complete(n % 2 == 0),
                _ => peers.ban(&config, addr),
            }
            let count = |state: fn(&State) -> bool| {
                peers.known.values().filter(|known| state(&known.state)).count()
            };
            assert_eq!(count(|s| *s == State::Ready), peers.ready.len());
            assert_eq!(count(|s| matches!(s, State::Waiting(..))), peers.waiting.len());
            assert_eq!(count(|s| *s == State::Connecting), peers.connecting);
            assert_eq!(peers.waiting.len(), peers.waiting_alone.len());
            assert_eq!(peers.idle.len(), peers.ready.len() + peers.waiting.len());
            assert!(peers.known.len() <= 6);
        }
        true
    }
}
