//! Swarms in which some want their connections encrypted, and some do not care or cannot.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trackerless_core::config::EncryptionMode::{self, Allow, Off, Prefer, Require};
use trackerless_core::event::{CloseReason, Encryption, Event};
use trackerless_core::io::{AddTorrent, Command, Source, Tag};
use trackerless_core::record::{OutputHash, Reader};
use trackerless_core::swarm::NOT_ENCRYPTED;
use trackerless_core::wire::PLAIN_REFUSED;
use trackerless_core::wire::handshake::PREFIX;
use trackerless_core::{Config, Engine, Outbox, Output};
use trackerless_sim::{Content, HostId, HostSpec, Network, Sim};

const SECOND: Duration = Duration::from_secs(1);

fn publish(length: usize, piece_length: u32) -> (Content, Bytes) {
    let content = Content::generate(5, length, piece_length);
    let hashes = content.piece_hashes();
    let mut torrent = format!(
        "d4:infod6:lengthi{length}e4:name7:content12:piece lengthi{piece_length}e6:pieces{}:",
        hashes.len()
    )
    .into_bytes();
    torrent.extend_from_slice(&hashes);
    torrent.extend_from_slice(b"ee");
    (content, torrent.into())
}

/// Hosts that know each other, the first of which has everything.
fn swarm(modes: &[EncryptionMode]) -> (Sim, Vec<HostId>) {
    let (content, torrent) = publish(1 << 20, 1 << 15);
    let mut sim = Sim::new(7, Network::default());
    sim.record_all();
    let mut hosts = Vec::new();
    for (number, mode) in modes.iter().enumerate() {
        let addr = SocketAddr::new(Ipv4Addr::new(10, 0, 0, number as u8 + 1).into(), 6881);
        let mut spec = HostSpec::new(addr);
        let mut config = Config::clone(&spec.config);
        config.dht.enabled = false;
        config.lsd.enabled = false;
        config.wire.encryption = *mode;
        spec.config = Arc::new(config);
        spec.content = (number == 0).then(|| content.clone());
        // So slow that nobody is served by the seed alone.
        spec.link.up.rate = 200_000;
        hosts.push(sim.add_host(spec).unwrap());
    }
    for (number, host) in hosts.iter().enumerate() {
        let mut add = AddTorrent::new(Source::torrent(torrent.clone()).unwrap());
        let others = hosts.iter().filter(|other| *other != host);
        add.peers = others.map(|other| sim.addr(*other)).collect();
        let after = SECOND / 10 * (number as u32 + 1);
        sim.command(*host, after, Tag(1), Command::AddTorrent(add));
    }
    (sim, hosts)
}

fn is_complete(sim: &Sim, host: HostId) -> bool {
    let complete = |event: &Event| matches!(event, Event::Complete { .. });
    sim.seen(host).iter().any(|seen| complete(&seen.event))
}

/// How this host's connections to those at `addrs` were encrypted.
fn met(sim: &Sim, host: HostId, addrs: &[SocketAddr]) -> Vec<Encryption> {
    let met = sim.seen(host).iter().filter_map(|seen| match &seen.event {
        Event::PeerConnected(peer) if addrs.iter().any(|addr| addr.ip() == peer.addr.ip()) => {
            Some(peer.encryption)
        }
        _ => None,
    });
    met.collect()
}

fn closed(sim: &Sim, host: HostId) -> Vec<CloseReason> {
    let closed = sim.seen(host).iter().filter_map(|seen| match seen.event {
        Event::PeerClosed { reason, .. } => Some(reason),
        _ => None,
    });
    closed.collect()
}

/// Does what a host did again, from its recording: that comes to the same, to the last pad. Whether
/// it ever sent the beginning of a plain handshake.
fn spoke_plainly(sim: &Sim, host: HostId) -> bool {
    let (header, records) = Reader::open(sim.recording(host).unwrap()).unwrap();
    let mut engine = Engine::new(header.config.into(), header.seed, header.start).unwrap();
    let (mut out, mut hash, mut plainly) = (Outbox::new(), OutputHash::new(), false);
    for record in records {
        let record = record.unwrap();
        let now = record.now;
        record
            .input
            .feed(|input| engine.handle(now, input, &mut out));
        for output in out.drain() {
            hash.absorb(&output);
            if let Output::Send { head, .. } = output {
                plainly |= head.windows(PREFIX.len()).any(|window| *window == PREFIX);
            }
        }
    }
    assert_eq!(hash.value(), sim.output_hash(host));
    plainly
}

#[test]
fn a_swarm_completes_in_which_some_require_what_others_allow() {
    let modes = [
        Allow, Require, Allow, Prefer, Require, Allow, Prefer, Require,
    ];
    let (mut sim, hosts) = swarm(&modes);
    let done = |sim: &Sim| hosts.iter().all(|host| is_complete(sim, *host));
    assert!(sim.run_until(SECOND * 300, done).unwrap(), "all complete");
    let addrs: Vec<SocketAddr> = hosts.iter().map(|host| sim.addr(*host)).collect();
    let (mut plain, mut refused) = (0, 0);
    for (host, mode) in hosts.iter().zip(modes) {
        let those = |of: EncryptionMode| -> Vec<SocketAddr> {
            let with = addrs.iter().zip(modes).filter(|(_, mode)| *mode == of);
            with.map(|(addr, _)| *addr).collect()
        };
        let with = |of: EncryptionMode| met(&sim, *host, &those(of));
        assert!(with(Require).iter().all(|is| *is == Encryption::Rc4));
        assert!(!with(Require).is_empty());
        let all = met(&sim, *host, &addrs);
        plain += all.iter().filter(|is| is.is_plain()).count();
        if mode == Require {
            assert!(all.iter().all(|is| *is == Encryption::Rc4));
            refused += closed(&sim, *host)
                .iter()
                .filter(|reason| **reason == CloseReason::Encryption(PLAIN_REFUSED))
                .count();
        }
        match (mode, spoke_plainly(&sim, *host)) {
            (Allow, plainly) => assert!(plainly, "it dialled"),
            (Require, plainly) => assert!(!plainly, "nor does it answer"),
            // It answers as it is spoken to.
            _ => {}
        }
    }
    assert!(
        plain > 0,
        "those who allow it both ways spoke in plain text"
    );
    assert!(refused > 0, "and were refused by those who require cipher");
}

#[test]
fn who_prefers_cipher_falls_back_to_plain_text_and_who_requires_it_says_why_not() {
    let (mut sim, hosts) = swarm(&[Off, Prefer, Require]);
    let done = |sim: &Sim| is_complete(sim, hosts[1]) && is_complete(sim, hosts[2]);
    assert!(sim.run_until(SECOND * 300, done).unwrap(), "both complete");
    let addrs: Vec<SocketAddr> = hosts.iter().map(|host| sim.addr(*host)).collect();
    assert_eq!(met(&sim, hosts[1], &addrs[..1]), [Encryption::Plain]);
    assert_eq!(met(&sim, hosts[2], &addrs[1..2]), [Encryption::Rc4]);
    assert_eq!(met(&sim, hosts[2], &addrs[..1]), []);
    let told = closed(&sim, hosts[2]);
    assert!(told.contains(&CloseReason::Encryption(NOT_ENCRYPTED)));
    assert!(!spoke_plainly(&sim, hosts[2]));
    // It is the seed that dials nobody in cipher, and answers nobody.
    assert!(spoke_plainly(&sim, hosts[0]));
}
