//! Local service discovery (BEP 14) in the engine.

use super::*;
use crate::lsd::GROUP_V4;

const GROUP: SocketId = SocketId(5);

impl Host {
    fn with_group(change: impl FnOnce(&mut Config)) -> Self {
        let mut host = Self::new(|config| {
            config.dht.enabled = false;
            change(config);
        });
        let local = GROUP_V4;
        host.give(Input::SocketUp {
            socket: GROUP,
            local,
        });
        host
    }

    /// How often the local network was asked.
    fn searches(&mut self) -> usize {
        let sent = core::mem::take(&mut self.datagrams);
        assert!(sent.iter().all(|(to, _)| *to == GROUP_V4));
        sent.len()
    }

    fn hears_of(&mut self, torrent: TorrentId, from: SocketAddr, port: u16) {
        let hash = self.engine.hashes(torrent).unwrap().short();
        let text = format!("BT-SEARCH * HTTP/1.1\r\nPort: {port}\r\nInfohash: {hash}\r\n\r\n");
        self.give(Input::Datagram {
            socket: GROUP,
            from,
            payload: text.as_bytes(),
        });
    }

    fn lsd(&self) -> Vec<(SourceStatus, u32)> {
        let lsd = self.events.iter().filter_map(|event| match event {
            Event::Source {
                source: PeerSource::Lsd,
                status,
                peers,
                ..
            } => Some((*status, *peers)),
            _ => None,
        });
        lsd.collect()
    }
}

#[test]
fn a_torrent_finds_peers_nearby_and_is_found() {
    let mut host = Host::with_group(|_| {});
    let torrent = host.add(Source::Magnet(MAGNET.into()));
    assert_eq!(host.searches(), 1);
    host.hears_of(torrent, addr(9, 6771), 4000);
    host.pass(Duration::from_secs(1));
    assert_eq!(host.found(addr(9, 4000)), 1);
    assert_eq!(host.connects.pop().map(|(_, to)| to), Some(addr(9, 4000)));
    let source = |event: &&Event| {
        matches!(
            event,
            Event::PeerFound {
                source: PeerSource::Lsd,
                ..
            }
        )
    };
    assert_eq!(host.events.iter().filter(source).count(), 1);
    // Ourselves, through another socket.
    host.hears_of(torrent, addr(1, 6771), 6881);
    assert_eq!(host.found(addr(1, 6881)), 0);
    host.pass(Duration::from_secs(300));
    assert_eq!(host.searches(), 1);
    assert_eq!(
        host.lsd(),
        [(SourceStatus::Idle, 0), (SourceStatus::Idle, 1)]
    );
    host.give(command(1, Command::RemoveTorrent(torrent)));
    host.pass(Duration::from_secs(900));
    assert_eq!(host.searches(), 0);
}

#[test]
fn a_datagram_to_the_group_is_no_dht_message_and_the_other_way_round() {
    let mut host = Host::new(|_| {});
    let local = GROUP_V4;
    let socket = GROUP;
    host.give(Input::SocketUp { socket, local });
    let torrent = host.add(Source::Magnet(MAGNET.into()));
    host.datagrams.clear();
    let from = addr(9, 6771);
    for socket in [GROUP, SOCKET] {
        host.give(Input::Datagram {
            socket,
            from,
            payload: b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t1:x1:y1:qe",
        });
        let answered = host.datagrams.iter().any(|(to, _)| *to == from);
        assert_eq!(answered, socket == SOCKET);
    }
    let hash = host.engine.hashes(torrent).unwrap().short();
    let text = format!("BT-SEARCH * HTTP/1.1\r\nPort: 4000\r\nInfohash: {hash}\r\n\r\n");
    host.give(Input::Datagram {
        socket: SOCKET,
        from,
        payload: text.as_bytes(),
    });
    assert_eq!(host.found(addr(9, 4000)), 0);
}

#[test]
fn who_opted_out_neither_asks_nor_listens() {
    let mut host = Host::with_group(|config| config.lsd.enabled = false);
    let torrent = host.add(Source::Magnet(MAGNET.into()));
    host.hears_of(torrent, addr(9, 6771), 4000);
    host.pass(Duration::from_secs(900));
    assert_eq!((host.searches(), host.found(addr(9, 4000))), (0, 0));
    assert_eq!(host.lsd(), [(SourceStatus::Disabled, 0)]);
}

#[test]
fn without_streams_nobody_is_told_to_connect() {
    let mut host = Host::with_group(|config| config.tcp = false);
    host.add(Source::Magnet(MAGNET.into()));
    host.pass(Duration::from_secs(900));
    assert_eq!(host.searches(), 0);
}

#[test]
fn a_failed_announce_is_told() {
    let mut host = Host::with_group(|_| {});
    host.add(Source::Magnet(MAGNET.into()));
    let (socket, to, reason) = (GROUP, GROUP_V4, IoReason::Unreachable);
    host.give(Input::SendFailed { socket, to, reason });
    assert_eq!(
        host.lsd(),
        [(SourceStatus::Idle, 0), (SourceStatus::Failed, 0)]
    );
}

/// A private torrent has nothing to do with the local network (BEP 27).
#[test]
fn a_private_torrent_is_not_announced() {
    for private in [false, true] {
        let mut host = Host::with_group(|_| {});
        let torrent = host.add(Source::torrent(super::private::torrent(private)).unwrap());
        host.work(100);
        host.pass(Duration::from_secs(60));
        host.hears_of(torrent, addr(9, 6771), 4000);
        host.pass(Duration::from_secs(1));
        let seen = (host.searches() > 0, host.found(addr(9, 4000)) > 0);
        assert_eq!(seen, (!private, !private));
        assert_eq!(host.lsd().contains(&(SourceStatus::Disabled, 0)), private);
    }
}
