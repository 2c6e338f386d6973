//! Peers that tell of others (BEP 11), and torrents in which nobody does (BEP 27).

use super::private::torrent;
use super::*;
use crate::wire::extension::{self, UT_PEX};
use crate::wire::{ExtensionHandshake, Message, frame};

/// The number a remote calls `ut_pex` by.
const THEIRS: u8 = 9;

/// An extension message: its number, then what it says.
fn extended(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32 + 2).to_be_bytes().to_vec();
    bytes.extend_from_slice(&[20, number]);
    bytes.extend_from_slice(payload);
    bytes
}

impl Host {
    /// Connects to `addr`, which shakes hands and speaks peer exchange.
    fn meet(&mut self, torrent: TorrentId, addr: SocketAddr) -> ConnId {
        if !self.connects.iter().any(|(_, to)| *to == addr) {
            self.give(command(2, Command::AddPeer(torrent, addr)));
            self.pass(Duration::from_secs(1));
        }
        let at = self.connects.iter().position(|(_, to)| *to == addr);
        let (conn, _) = self.connects.remove(at.expect("an attempt"));
        self.give(Input::Connected { conn });
        let mut bytes = Vec::new();
        let theirs = Handshake {
            info_hash: self.engine.hashes(torrent).unwrap().short(),
            peer_id: crate::id::PeerId([addr.port() as u8; 20]),
            fast: true,
            extended: true,
            dht: false,
        };
        theirs.encode(&mut bytes);
        bytes.extend_from_slice(&extended(
            0,
            format!("d1:md6:ut_pexi{THEIRS}eee").as_bytes(),
        ));
        frame::encode_head(&Message::HaveNone, 0, &mut bytes);
        self.say(conn, &bytes);
        conn
    }

    fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        let data = BytesMut::from(bytes);
        self.give(Input::Received { conn, data });
    }

    /// Tells of one other peer.
    fn tell(&mut self, conn: ConnId, other: SocketAddr) {
        let mut payload = Vec::new();
        crate::pex::encode(&[(other, crate::pex::Flags::default())], &[], &mut payload);
        self.say(conn, &extended(UT_PEX, &payload));
    }

    /// What our extension handshakes said, in order.
    fn handshakes(&self, to: ConnId) -> Vec<ExtensionHandshake> {
        let sent = self.sent.iter().filter(|(conn, _)| *conn == to);
        let payloads = sent.filter_map(|(_, head)| head[4..].strip_prefix(&[20, 0]));
        payloads
            .map(|payload| *extension::decode_handshake(payload, 128).expect("right"))
            .collect()
    }

    /// Messages of peer exchange that were sent.
    fn exchanged(&self, to: ConnId) -> usize {
        let head = |head: &[u8]| head.len() == 6 && head[4..] == [20, THEIRS];
        let sent = self.sent.iter().filter(|(conn, _)| *conn == to);
        sent.filter(|(_, bytes)| head(bytes)).count()
    }

    fn tried(&self, addr: SocketAddr) -> bool {
        self.connects.iter().any(|(_, to)| *to == addr)
    }

    fn pex_statuses(&self) -> Vec<SourceStatus> {
        let statuses = self.events.iter().filter_map(|event| match event {
            Event::Source {
                source: PeerSource::Pex,
                status,
                ..
            } => Some(*status),
            _ => None,
        });
        statuses.collect()
    }
}

/// What happens among two peers of a torrent, each of which speaks peer exchange, in ten minutes:
/// whether it is announced to them, how many messages they get, and whether what one of them tells
/// is made use of.
fn exchange(source: Source, pex: bool) -> (bool, usize, bool, Vec<SourceStatus>) {
    let mut host = Host::new(|config| {
        config.dht.enabled = false;
        config.pex.enabled = pex;
    });
    let torrent = host.add(source);
    // Nothing of it is there.
    if let Some((job, _)) = host.jobs.pop() {
        let result = JobResult::Opened(Box::default());
        host.give(Input::JobDone { job, result });
    }
    let first = host.meet(torrent, addr(60, 5001));
    let second = host.meet(torrent, addr(61, 5002));
    host.pass(Duration::from_secs(5));
    host.tell(first, addr(62, 5003));
    // Ourselves, of whom it must not tell; we do not try it.
    host.tell(first, addr(1, 6881));
    host.pass(Duration::from_secs(600));
    assert!(!host.tried(addr(1, 6881)) && host.found(addr(1, 6881)) == 0);
    let offers = [first, second].map(|conn| host.handshakes(conn));
    assert!(offers.iter().all(|sent| !sent.is_empty()));
    let offered = offers.iter().flatten().any(|sent| sent.ut_pex.is_some());
    let told = host.exchanged(first) + host.exchanged(second);
    let tried = host.tried(addr(62, 5003));
    assert_eq!(tried, host.found(addr(62, 5003)) == 1);
    (offered, told, tried, host.pex_statuses())
}

#[test]
fn peers_are_told_of_each_other_and_what_they_tell_is_tried() {
    let public = exchange(Source::torrent(torrent(false)).unwrap(), true);
    let (offered, told, tried, statuses) = public;
    assert!(offered && told == 2 && tried, "{offered} {told} {tried}");
    assert!(statuses.iter().all(|status| *status == SourceStatus::Idle) && !statuses.is_empty());
}

#[test]
fn nothing_is_exchanged_in_a_private_torrent_nor_where_that_is_declined() {
    let off = (false, 0, false, [SourceStatus::Disabled].into());
    assert_eq!(exchange(Source::torrent(torrent(true)).unwrap(), true), off);
    assert_eq!(
        exchange(Source::torrent(torrent(false)).unwrap(), false),
        off
    );
    assert_eq!(
        exchange(Source::torrent(torrent(true)).unwrap(), false),
        off
    );
}

#[test]
fn a_peer_that_floods_is_cut_off_and_the_reason_is_told() {
    let mut host = Host::new(|config| config.dht.enabled = false);
    let torrent = host.add(Source::Magnet(MAGNET.into()));
    let conn = host.meet(torrent, addr(60, 5001));
    for _ in 0..20 {
        host.tell(conn, addr(62, 5003));
    }
    let closed: Vec<_> = host
        .events
        .iter()
        .filter_map(|event| match event {
            Event::PeerClosed { reason, .. } => Some(*reason),
            _ => None,
        })
        .collect();
    assert_eq!(closed, [CloseReason::Limit("pex.max_messages")]);
    assert_eq!(host.found(addr(62, 5003)), 1);
}

#[test]
fn a_message_that_is_too_long_ends_the_connection_before_it_is_read() {
    let mut host = Host::new(|config| config.dht.enabled = false);
    let torrent = host.add(Source::Magnet(MAGNET.into()));
    let conn = host.meet(torrent, addr(60, 5001));
    let mut bytes = 500_003u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[20, UT_PEX]);
    host.say(conn, &bytes);
    let too_long = CloseReason::Protocol("peer exchange too long");
    assert!(host.events.iter().any(|event| matches!(
        event,
        Event::PeerClosed { reason, .. } if *reason == too_long
    )));
}
