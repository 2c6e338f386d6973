//! A private torrent (BEP 27) has nothing to do with the DHT.

use super::*;
use crate::bencode::{self, Limits};

/// The torrent that [`file`] makes, private or not.
pub(super) fn torrent(private: bool) -> Bytes {
    let public = file("secret", 2 * 65_536);
    if !private {
        return public;
    }
    let text = public.strip_suffix(b"ee").expect("it ends so");
    [text, b"7:privatei1eee"].concat().into()
}

/// A DHT node that answers everything and stores what it is told.
fn node() -> SocketAddr {
    addr(50, 7000)
}

impl Host {
    /// A host whose table has one node.
    fn with_node() -> Self {
        let mut host = Self::new(|_| {});
        host.give(command(1, Command::DhtBootstrap(alloc::vec![node()])));
        host.talk(Duration::from_secs(30));
        assert!(host.events.iter().any(|event| matches!(
            event,
            Event::CommandDone { tag: Tag(1), result } if result.is_ok()
        )));
        host.events.clear();
        host
    }

    /// Lets time pass, answering as [`node`]; returns the names of the queries it was asked.
    fn talk(&mut self, time: Duration) -> Vec<String> {
        let mut asked = Vec::new();
        for _ in 0..time.as_micros() / 100_000 {
            self.pass(Duration::from_millis(100));
            for (to, payload) in core::mem::take(&mut self.datagrams) {
                let document = bencode::decode(&payload, &Limits::DATAGRAM).expect("it is a query");
                let query = document.root().as_dict().expect("it is a dictionary");
                let (Some(name), Some(transaction)) = (query.bytes(b"q"), query.bytes(b"t")) else {
                    continue;
                };
                asked.push(String::from_utf8_lossy(name).into_owned());
                if to != node() {
                    continue;
                }
                let mut reply = b"d1:rd2:id20:nnnnnnnnnnnnnnnnnnnn5:nodes0:5:token1:xe1:t".to_vec();
                reply.extend_from_slice(format!("{}:", transaction.len()).as_bytes());
                reply.extend_from_slice(transaction);
                reply.extend_from_slice(b"1:y1:re");
                self.give(Input::Datagram {
                    socket: SOCKET,
                    from: node(),
                    payload: &reply,
                });
            }
        }
        asked
    }

    /// A peer with a DHT node joins and tells of its port.
    fn join(&mut self, torrent: TorrentId, port: u16) -> ConnId {
        self.give(command(2, Command::AddPeer(torrent, addr(60, 5000))));
        self.talk(Duration::from_secs(1));
        // Have-none (BEP 6), then PORT.
        let [high, low] = port.to_be_bytes();
        let first = [0, 0, 0, 1, 0x0f, 0, 0, 0, 3, 9, high, low];
        let (conn, _) = self.shake(torrent, PeerId([9; 20]), &first);
        conn
    }

    fn sent_port(&self, to: ConnId) -> bool {
        let mut sent = self.sent.iter().filter(|(conn, _)| *conn == to);
        sent.any(|(_, bytes)| bytes.windows(5).any(|frame| frame == b"\0\0\0\x03\x09"))
    }
}

/// What the DHT hears of a torrent in a day: queries that look for its peers or announce it,
/// whether PORT was sent to a peer, and whether a peer's own PORT was used.
fn heard(private: bool) -> (usize, bool, bool) {
    let mut host = Host::with_node();
    let torrent = host.add(Source::torrent(torrent(private)).unwrap());
    host.work(100);
    let mut queries = host.talk(Duration::from_secs(60));
    let peer_node = 9000;
    let conn = host.join(torrent, peer_node);
    let told = host.sent_port(conn);
    host.pass(Duration::from_millis(500));
    let used = host
        .datagrams
        .iter()
        .any(|(to, _)| *to == addr(60, peer_node));
    let reason = IoReason::Eof;
    host.give(Input::Closed { conn, reason });
    queries.extend(host.talk(Duration::from_secs(3_600)));
    let about = |name: &&String| ["get_peers", "announce_peer"].contains(&name.as_str());
    let disabled = host.events.iter().any(|event| {
        matches!(
            event,
            Event::Source {
                status: SourceStatus::Disabled,
                ..
            }
        )
    });
    assert_eq!(disabled, private);
    (queries.iter().filter(about).count(), told, used)
}

#[test]
fn a_private_torrent_is_neither_looked_up_nor_announced_and_port_is_neither_sent_nor_used() {
    assert_eq!(heard(true), (0, false, false));
    let (queries, told, used) = heard(false);
    assert!(queries > 0 && told && used, "{queries} {told} {used}");
}

#[test]
fn a_link_that_turns_out_private_leaves_the_dht_at_once() {
    let mut host = Host::with_node();
    let torrent_file = crate::metainfo::Torrent::parse(torrent(true)).unwrap();
    let info = torrent_file.info;
    let hash = info.hashes.short();
    let torrent = host.add(Source::Magnet(format!("magnet:?xt=urn:btih:{hash}")));
    let asked = host.talk(Duration::from_secs(5));
    assert!(asked.iter().any(|name| name == "get_peers"), "{asked:?}");
    let metadata = swarm::Event::Public(Event::Metadata { torrent, info });
    host.engine.on_swarm_event(torrent, metadata, &mut host.out);
    host.events.clear();
    host.talk(Duration::from_secs(3_600));
    assert_eq!(host.asked(torrent), 0);
}
