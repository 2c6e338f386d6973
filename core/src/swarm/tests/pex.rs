//! Who is told of whom, how often, and what is believed (BEP 11).

use alloc::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};

use super::world::{World, hello, setup};
use super::*;
use crate::bencode::Scratch;
use crate::config::EncryptionMode;
use crate::event::{Encryption, SourceStatus, Transport};
use crate::pex::{self, Flags};
use crate::ports::Ports;
use crate::swarm::Dial;
use crate::wire::ExtensionHandshake;

/// One swarm and peers that do what they are told.
struct Room {
    swarm: Swarm,
    now: Instant,
    events: Vec<Event>,
}

/// Added with their flags, and dropped.
type News = (BTreeMap<SocketAddr, Flags>, BTreeSet<SocketAddr>);

fn far(n: u8) -> SocketAddr {
    SocketAddr::from(([16, n, 0, 1], 1000))
}

impl Room {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        Self::with(config, &torrent(PIECE, PIECE))
    }

    fn of(info: &Arc<Info>) -> Self {
        Self::with(Config::default(), info)
    }

    fn with(config: Config, info: &Arc<Info>) -> Self {
        let setup = Setup {
            info: None,
            ..setup(info, Options::default())
        };
        let now = Instant::from_micros(1_000_000);
        let mut events = Vec::new();
        let swarm = Swarm::new(Arc::new(config), setup, now, &mut events);
        let mut room = Self { swarm, now, events };
        room.give(Input::Listening(Ports::both(6881)));
        room
    }

    fn give(&mut self, input: Input<'_>) {
        self.swarm.handle(self.now, input, &mut self.events);
    }

    /// A peer at `addr` connects or is connected to.
    fn join(&mut self, n: u8, addr: SocketAddr, incoming: bool) {
        let hello = hello(n, addr, incoming);
        self.give(Input::Joined(conn(n.into()), hello));
    }

    fn shake(&mut self, n: u8, handshake: ExtensionHandshake) {
        let message = Message::ExtensionHandshake(Box::new(handshake));
        self.give(Input::Message(conn(n.into()), message));
    }

    /// A peer we connected to, which speaks peer exchange.
    fn peer(&mut self, n: u8) {
        self.join(n, far(n), false);
        self.shake(n, speaks());
    }

    fn leave(&mut self, n: u8) {
        self.give(Input::Gone {
            conn: Some(conn(n.into())),
            addr: far(n),
            reason: CloseReason::Idle,
        });
    }

    fn tell(&mut self, n: u8, added: &[(SocketAddr, Flags)], dropped: &[SocketAddr]) {
        let mut payload = Vec::new();
        pex::encode(added, dropped, &mut payload);
        self.say(n, payload);
    }

    fn say(&mut self, n: u8, payload: Vec<u8>) {
        let message = Message::Pex(payload.into());
        self.give(Input::Message(conn(n.into()), message));
        // The engine tells it back; here nobody is ourselves.
        let mut heard = Vec::new();
        self.events.retain_mut(|event| match event {
            Event::PeersHeard(_, addrs) => {
                heard.append(addrs);
                false
            }
            _ => true,
        });
        self.give(Input::PeersFound(PeerSource::Pex, &heard));
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.swarm.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.give(Input::Tick);
        }
        self.now = end;
    }

    /// Messages a peer was sent, since this was asked last.
    fn told(&mut self, n: u8) -> Vec<News> {
        let mut told = Vec::new();
        self.events.retain(|event| match event {
            Event::Send(to, Message::Pex(payload)) if *to == conn(n.into()) => {
                let message = pex::Message::decode(payload, &mut Scratch::new()).unwrap();
                told.push((
                    message.all_added().collect(),
                    message.all_dropped().collect(),
                ));
                false
            }
            _ => true,
        });
        told
    }

    fn found(&self) -> Vec<SocketAddr> {
        let found = self.events.iter().filter_map(|event| match event {
            Event::Public(Public::PeerFound {
                addr,
                source: PeerSource::Pex,
                ..
            }) => Some(*addr),
            _ => None,
        });
        found.collect()
    }

    fn closed(&self) -> Vec<CloseReason> {
        let closed = self.events.iter().filter_map(|event| match event {
            Event::Disconnect(_, reason) => Some(*reason),
            _ => None,
        });
        closed.collect()
    }

    /// A peer sends the metadata, all of it in one piece; nothing is on disk.
    fn learn_metadata(&mut self, n: u8, info: &Arc<Info>) {
        let data = crate::metadata::Message::Data {
            piece: 0,
            total_size: info.raw.len() as u32,
            data: info.raw.clone(),
        };
        self.give(Input::Message(conn(n.into()), Message::Metadata(data)));
        for _ in 0..3 {
            let jobs = self.events.iter().filter_map(|event| match event {
                Event::Job(token, Job::CheckMetadata(assembled)) => {
                    Some((*token, JobResult::Metadata(assembled.check())))
                }
                Event::Job(token, Job::Open(..)) => {
                    Some((*token, JobResult::Opened(Box::<Opened>::default())))
                }
                Event::Job(token, Job::Save(_)) => Some((*token, JobResult::Saved)),
                _ => None,
            });
            for (token, result) in jobs.collect::<Vec<_>>() {
                self.give(Input::JobDone(token, result));
            }
        }
        assert!(self.swarm.info().is_some());
    }

    /// What was told last of the source.
    fn source(&self) -> Option<(SourceStatus, u32, Option<Duration>)> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Public(Public::Source {
                source: PeerSource::Pex,
                status,
                peers,
                next_update,
                ..
            }) => Some((*status, *peers, *next_update)),
            _ => None,
        })
    }
}

fn speaks() -> ExtensionHandshake {
    ExtensionHandshake {
        ut_pex: Some(7),
        ..ExtensionHandshake::default()
    }
}

fn addrs(news: &News) -> Vec<SocketAddr> {
    news.0.keys().copied().collect()
}

#[test]
fn everyone_first_and_then_what_changed_once_a_minute() {
    let mut room = Room::new(|config| config.pex.few_peers = 0);
    (1..=3).for_each(|n| room.peer(n));
    room.pass(SECOND * 5);
    // Nobody is told of itself.
    assert_eq!(
        room.told(1).iter().map(addrs).collect::<Vec<_>>(),
        [[far(2), far(3)]]
    );
    assert_eq!(
        room.told(2).iter().map(addrs).collect::<Vec<_>>(),
        [[far(1), far(3)]]
    );
    // Four comes, three goes; who came last is told of everyone who is left.
    room.peer(4);
    room.leave(3);
    room.pass(SECOND * 5);
    let told = room.told(4);
    assert_eq!(
        told.iter().map(addrs).collect::<Vec<_>>(),
        [[far(1), far(2)]]
    );
    assert!(room.told(1).is_empty());
    room.pass(SECOND * 50);
    assert_eq!((room.told(1).len(), room.told(4).len()), (0, 0));
    room.pass(SECOND * 65);
    let change = (
        BTreeMap::from([(far(4), Flags::REACHABLE)]),
        BTreeSet::from([far(3)]),
    );
    assert_eq!(room.told(1), core::slice::from_ref(&change));
    assert_eq!(room.told(2), [change]);
    // It knew already; and nothing more changed, so nothing more is said.
    assert!(room.told(4).is_empty());
    room.pass(SECOND * 600);
    assert!([1, 2, 4].iter().all(|n| room.told(*n).is_empty()));
}

#[test]
fn between_two_messages_to_one_peer_lies_a_minute() {
    let mut room = Room::new(|config| config.pex.few_peers = 0);
    room.peer(1);
    let mut at = [const { Vec::<Instant>::new() }; 100];
    for second in 0..400u32 {
        // Somebody comes every four seconds, and leaves a minute and a half later.
        if second % 4 == 0 && second < 360 {
            room.peer(2 + (second / 4) as u8);
        }
        if second % 4 == 0 && second >= 90 {
            room.leave(2 + ((second - 90) / 4) as u8);
        }
        room.pass(SECOND);
        for (n, at) in at.iter_mut().enumerate() {
            at.extend(room.told(n as u8).iter().map(|_| room.now));
        }
    }
    let spoken: Vec<_> = at.iter().filter(|at| !at.is_empty()).collect();
    assert!(spoken.len() > 80 && at[1].len() >= 5, "{at:?}");
    for at in spoken {
        let apart = at.windows(2).map(|pair| pair[1].saturating_since(pair[0]));
        assert!(
            apart.min().is_none_or(|apart| apart >= SECOND * 60),
            "{at:?}"
        );
    }
}

#[test]
fn a_round_names_no_more_than_fifty_and_is_one_message_for_all() {
    let mut room = Room::new(|config| config.pex.max_first = 60);
    room.peer(1);
    room.peer(2);
    room.pass(SECOND * 65);
    (1..=2).for_each(|n| drop(room.told(n)));
    (3..=150).for_each(|n| room.join(n, far(n), false));
    room.pass(SECOND * 60);
    let bodies: Vec<_> = room
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Send(_, Message::Pex(body)) => Some(body.as_ptr()),
            _ => None,
        })
        .collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
    let first = room.told(1);
    assert_eq!(first, room.told(2));
    assert_eq!((first.len(), first[0].0.len()), (1, 50));
    room.pass(SECOND * 300);
    let later: Vec<_> = room.told(1).iter().map(|news| news.0.len()).collect();
    assert_eq!(later, [50, 48]);
    // The first message to somebody has a limit of its own.
    room.peer(151);
    room.pass(SECOND * 2);
    assert_eq!(room.told(151)[0].0.len(), 60);
}

#[test]
fn flags_say_what_is_known_and_the_port_is_the_one_listened_on() {
    let mut room = Room::new(|_| {});
    room.peer(1);
    let all = ExtensionHandshake {
        port: Some(4444),
        ut_holepunch: Some(3),
        prefers_encryption: true,
        upload_only: Some(true),
        ..speaks()
    };
    let utp = Hello {
        transport: Transport::Utp,
        ..hello(2, far(2), true)
    };
    room.give(Input::Joined(conn(2), utp));
    room.shake(2, all);
    let encrypted = Hello {
        encryption: Encryption::Rc4,
        ..hello(3, far(3), false)
    };
    room.give(Input::Joined(conn(3), encrypted));
    room.give(Input::Message(conn(3), Message::HaveAll));
    // It does not say where it listens: nobody is told of it.
    room.join(4, far(4), true);
    room.shake(4, speaks());
    room.pass(SECOND * 2);
    let (added, _) = room.told(1).pop().expect("a message");
    let listen = SocketAddr::new(far(2).ip(), 4444);
    let expected = BTreeMap::from([(listen, Flags(0x0f)), (far(3), Flags(0x13))]);
    assert_eq!(added, expected);
}

#[test]
fn in_a_small_swarm_who_left_is_still_named_but_not_who_was_banned() {
    let mut room = Room::new(|config| config.pex.few_peers = 10);
    (1..=4).for_each(|n| room.peer(n));
    room.pass(SECOND * 70);
    (1..=4).for_each(|n| drop(room.told(n)));
    room.leave(2);
    let reason = CloseReason::Protocol("x");
    let conn = Some(conn(3));
    let addr = far(3);
    room.give(Input::Gone { conn, addr, reason });
    room.pass(SECOND * 70);
    assert_eq!(room.told(1), [(BTreeMap::new(), BTreeSet::from([far(3)]))]);
    // Whoever comes now is told of the one who left, and no more of the one who misbehaved.
    room.peer(5);
    room.pass(SECOND * 2);
    assert_eq!(
        room.told(5).iter().map(addrs).collect::<Vec<_>>(),
        [[far(1), far(2), far(4)]]
    );
    // What it sent turns out to be bad.
    room.swarm.known.ban(&room.swarm.config.swarm, far(2));
    room.peer(6);
    room.pass(SECOND * 2);
    assert_eq!(
        room.told(6).iter().map(addrs).collect::<Vec<_>>(),
        [[far(1), far(4), far(5)]]
    );
    room.pass(SECOND * 130);
    assert!(room.told(1).iter().any(|news| news.1.contains(&far(2))));
    // As soon as enough are connected, who left is dropped.
    room.leave(4);
    (10..20).for_each(|n| room.peer(n));
    room.pass(SECOND * 130);
    assert!(room.told(1).iter().any(|news| news.1.contains(&far(4))));
}

#[test]
fn nobody_is_told_of_an_address_nearer_to_us_than_its_own() {
    let mut room = Room::new(|_| {});
    let near = SocketAddr::from(([192, 168, 1, 2], 1));
    let here = SocketAddr::from(([127, 0, 0, 1], 1));
    for (n, addr) in [(1, far(1)), (2, near), (3, here)] {
        room.join(n, addr, false);
        room.shake(n, speaks());
    }
    room.pass(SECOND * 2);
    assert!(room.told(1).is_empty());
    assert_eq!(
        room.told(2).iter().map(addrs).collect::<Vec<_>>(),
        [[far(1)]]
    );
    assert_eq!(
        room.told(3).iter().map(addrs).collect::<Vec<_>>(),
        [[far(1), near]]
    );
    // In a round the one message for all is one for each distance.
    room.join(4, far(4), false);
    room.join(5, SocketAddr::from(([10, 0, 0, 5], 1)), false);
    room.pass(SECOND * 125);
    let told = |room: &mut Room, n| room.told(n).iter().flat_map(addrs).collect::<Vec<_>>();
    assert_eq!(told(&mut room, 1), [far(4)]);
    assert_eq!(told(&mut room, 2).len(), 2);
    assert_eq!(told(&mut room, 3).len(), 2);
}

#[test]
fn what_a_peer_tells_is_found_within_its_limits_and_forgotten_with_it() {
    let mut room = Room::new(|_| {});
    room.peer(1);
    room.peer(2);
    assert_eq!(room.source(), Some((SourceStatus::Idle, 0, None)));
    room.pass(SECOND * 2);
    let plain = |n: u8| (SocketAddr::from(([17, n, 0, 1], 1)), Flags::default());
    let many: Vec<_> = (0..200).map(plain).collect();
    room.tell(1, &many, &[]);
    assert_eq!(room.found().len(), 50);
    let (status, peers, next) = room.source().unwrap();
    assert_eq!((status, peers), (SourceStatus::Idle, 50));
    assert!(next.is_some_and(|next| next <= SECOND * 60));
    // Two tell of the same, one takes it back.
    room.tell(2, &many[..10], &[]);
    assert_eq!(room.source().unwrap().1, 50);
    room.tell(
        1,
        &many[60..70],
        &many.iter().map(|it| it.0).take(5).collect::<Vec<_>>(),
    );
    assert_eq!((room.found().len(), room.source().unwrap().1), (55, 55));
    room.leave(1);
    room.pass(SECOND);
    assert_eq!(room.source().unwrap().1, 10);
    room.leave(2);
    room.give(Input::Tick);
    assert_eq!(room.source().unwrap().1, 0);
    assert!(room.swarm.exchange_is_empty());
}

#[test]
fn ourselves_the_peer_the_banned_and_the_near_are_not_found() {
    let mut room = Room::new(|_| {});
    let ours = SocketAddr::from(([99, 0, 0, 1], 6881));
    room.join(1, far(1), true);
    let says = ExtensionHandshake {
        your_ip: Some(ours.ip()),
        port: Some(1000),
        ..speaks()
    };
    room.shake(1, says);
    let banned = far(50);
    room.swarm.known.ban(&room.swarm.config.swarm, banned);
    let told = [
        ours,
        far(1),
        banned,
        SocketAddr::from(([192, 168, 0, 1], 1)),
        SocketAddr::from(([127, 0, 0, 1], 1)),
        SocketAddr::from(([99, 0, 0, 1], 6882)),
    ];
    room.tell(1, &told.map(|addr| (addr, Flags::default())), &[]);
    assert_eq!(room.found(), [told[5]]);
    assert_eq!(room.source().unwrap().1, 1);
}

#[test]
fn contacts_of_one_message_are_looked_at_up_to_a_limit() {
    let mut room = Room::new(|config| config.pex.max_contacts = 4);
    room.peer(1);
    // Four that cannot be, and one that could.
    let mut told: Vec<_> = (1..=4)
        .map(|n| SocketAddr::from(([10, 0, 0, n], 1)))
        .collect();
    told.push(far(9));
    let told: Vec<_> = told
        .into_iter()
        .map(|addr| (addr, Flags::default()))
        .collect();
    room.tell(1, &told, &[]);
    assert!(room.found().is_empty());
    room.tell(1, &told[1..], &[]);
    assert_eq!(room.found(), [far(9)]);
}

#[test]
fn too_many_messages_and_what_is_none_end_the_connection() {
    let mut room = Room::new(|_| {});
    room.peer(1);
    for _ in 0..7 {
        room.tell(1, &[], &[]);
        assert!(room.closed().is_empty());
    }
    room.tell(1, &[], &[]);
    assert_eq!(room.closed(), [CloseReason::Limit("pex.max_messages")]);
    room.events.clear();
    room.peer(2);
    room.say(2, b"d5:added".to_vec());
    let malformed = CloseReason::Protocol("malformed peer exchange");
    assert_eq!(room.closed(), [malformed]);
}

#[test]
fn who_announces_none_is_told_nothing_and_not_believed() {
    let mut room = Room::new(|_| {});
    room.peer(1);
    room.join(2, far(2), false);
    room.shake(2, ExtensionHandshake::default());
    room.tell(2, &[(far(9), Flags::default())], &[]);
    room.pass(SECOND * 130);
    assert!(room.told(2).is_empty() && room.found().is_empty());
    // A later handshake may turn it on and off.
    room.shake(2, speaks());
    room.pass(SECOND * 2);
    assert_eq!(room.told(2).len(), 1);
    let off = ExtensionHandshake {
        ut_pex: Some(0),
        ..ExtensionHandshake::default()
    };
    room.shake(2, off);
    room.peer(3);
    room.pass(SECOND * 130);
    assert!(room.told(2).is_empty());
    assert!(!room.told(1).is_empty());
}

#[test]
fn those_said_to_have_everything_are_not_tried_by_one_that_has() {
    let mut room = Room::new(|_| {});
    room.peer(1);
    room.swarm.known.set_complete(true);
    let seed = (far(8), Flags::SEED);
    room.tell(1, &[seed, (far(9), Flags::default())], &[]);
    room.give(Input::Grant(world::generous()));
    let tried: Vec<_> = room
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Connect(addr, _) => Some(*addr),
            _ => None,
        })
        .collect();
    assert_eq!((room.found().len(), tried), (2, [far(9)].into()));
}

#[test]
fn those_said_to_prefer_encryption_are_tried_first_where_it_is_required() {
    for mode in [EncryptionMode::Allow, EncryptionMode::Require] {
        let mut room = Room::new(|config| {
            config.wire.encryption = mode;
            config.swarm.max_half_open = 10;
        });
        room.peer(1);
        let told: Vec<_> = (10..50)
            .map(|n| {
                let encrypts = n % 4 == 0;
                (far(n), Flags::default().with(Flags::ENCRYPTION, encrypts))
            })
            .collect();
        room.tell(1, &told, &[]);
        room.give(Input::Grant(world::generous()));
        let (mut tried, mut encrypt) = (0, 0);
        for event in &room.events {
            if let Event::Connect(addr, dial) = event {
                let expected = match mode {
                    EncryptionMode::Require => Dial::Encrypted,
                    _ => Dial::Plain,
                };
                assert_eq!(*dial, expected);
                tried += 1;
                encrypt += usize::from(told.contains(&(*addr, Flags::ENCRYPTION)));
            }
        }
        assert_eq!(tried, 10);
        assert_eq!(encrypt == 10, mode == EncryptionMode::Require, "{encrypt}");
    }
}

#[test]
fn whoever_prefers_encryption_says_so() {
    for (mode, says) in [
        (EncryptionMode::Off, false),
        (EncryptionMode::Allow, false),
        (EncryptionMode::Prefer, true),
        (EncryptionMode::Require, true),
    ] {
        let mut room = Room::new(|config| config.wire.encryption = mode);
        room.peer(1);
        let said = room.events.iter().find_map(|event| match event {
            Event::Send(_, Message::ExtensionHandshake(said)) => Some(said.prefers_encryption),
            _ => None,
        });
        assert_eq!(said, Some(says), "{mode:?}");
    }
}

#[test]
fn leechers_that_know_one_leecher_find_the_seed_through_it() {
    let mut world = World::new();
    let info = torrent(20 * PIECE, PIECE);
    let seed = world.seed(&info);
    let first = world.leech(&info);
    world.introduce(first, &[seed]);
    world.nodes[seed].up_rate = 200_000;
    world.run(SECOND);
    let others: Vec<_> = (0..4).map(|_| world.leech(&info)).collect();
    for other in &others {
        world.introduce(*other, &[first]);
    }
    let all = |world: &World| others.iter().all(|node| world.is_complete(*node));
    assert!(world.run_while_not(SECOND * 120, all));
    // Each was told of by another: the seed, or they to the seed.
    let by_pex = |event: &Public| {
        matches!(
            event,
            Public::PeerFound {
                source: PeerSource::Pex,
                ..
            }
        )
    };
    let told: usize = others.iter().map(|other| world.count(*other, by_pex)).sum();
    assert!(told + world.count(seed, by_pex) >= others.len());
    for other in &others {
        let to_seed = |event: &Public| matches!(event, Public::PeerConnected(peer) if peer.addr.ip() == addr(seed).ip());
        assert!(world.count(*other, to_seed) >= 1);
        world.assert_right(*other);
    }
}

#[test]
fn a_link_that_turns_out_private_exchanges_no_peers_any_more() {
    let public = torrent(PIECE, PIECE);
    let raw = [&public.raw[..public.raw.len() - 1], &b"7:privatei1ee"[..]].concat();
    let private = Arc::new(crate::metainfo::Info::parse(raw.into()).expect("right"));
    assert!(private.private);
    for (info, stays) in [(&public, true), (&private, false)] {
        let mut room = Room::of(info);
        room.give(Input::Grant(Grant {
            connects_total: 0,
            ..world::generous()
        }));
        let offers = ExtensionHandshake {
            ut_metadata: Some(3),
            metadata_size: Some(info.raw.len() as u32),
            ..speaks()
        };
        room.join(1, far(1), false);
        room.shake(1, offers);
        room.peer(2);
        room.pass(SECOND * 2);
        assert_eq!((room.told(1).len(), room.told(2).len()), (1, 1));
        room.tell(2, &[(far(20), Flags::default())], &[]);
        assert_eq!(room.found(), [far(20)]);
        room.learn_metadata(1, info);
        // A peer that joins now hears of none; those who heard of it hear that it is over.
        room.join(3, far(3), false);
        room.shake(3, speaks());
        let said = |n: u8| {
            let said = room.events.iter().filter_map(|event| match event {
                Event::Send(to, Message::ExtensionHandshake(it)) if *to == conn(n.into()) => {
                    Some(it.ut_pex)
                }
                _ => None,
            });
            said.collect::<Vec<_>>()
        };
        if stays {
            assert_eq!((said(2), said(3)), ([Some(1)].into(), [Some(1)].into()));
        } else {
            assert_eq!(
                (said(1), said(3)),
                ([Some(1), Some(0)].into(), [None].into())
            );
            assert_eq!(said(2), [Some(1), Some(0)]);
            assert_eq!(room.source().unwrap().0, SourceStatus::Disabled);
        }
        room.events.clear();
        room.tell(2, &[(far(21), Flags::default())], &[]);
        room.pass(SECOND * 300);
        let told: usize = (1..=3).map(|n| room.told(n).len()).sum();
        assert_eq!((room.found().is_empty(), told == 0), (!stays, !stays));
        assert!(room.closed().is_empty());
        // Neither is who was told of before tried any more.
        room.give(Input::Grant(world::generous()));
        let tried = |event: &Event| matches!(event, Event::Connect(addr, _) if *addr == far(20));
        assert_eq!(room.events.iter().any(tried), stays);
    }
}
