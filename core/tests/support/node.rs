//! A DHT node with a full table and stored peers, which is asked.

use core::net::{Ipv4Addr, SocketAddr};

use trackerless_core::dht::krpc::{Asker, Kind, Message, Query, Response, Want, write_query};
use trackerless_core::dht::security;
use trackerless_core::id::Id20;
use trackerless_core::io::{Command, SocketId, Tag};
use trackerless_core::time::Duration;
use trackerless_core::{Config, Input, Output};

use super::{Host, Numbers};

const SOCKET: SocketId = SocketId(0);
/// Nodes of the network around it.
const NETWORK: u32 = 4_000;
/// Peers announced for the one torrent.
const PEERS: u32 = 400;

/// The `n`th node of the network: an address in a /24 of its own, and an id that fits it.
fn place(n: u32) -> (SocketAddr, Id20) {
    let [_, _, high, low] = n.to_be_bytes();
    let ip = Ipv4Addr::new(45, high, low, 1);
    let id = security::node_id(ip.into(), Numbers(u64::from(n)).bytes());
    (SocketAddr::new(ip.into(), 6881), id)
}

/// The address of the node that is asked.
fn own() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(45, 255, 0, 1).into(), 6881)
}

/// Which node of the network lives at an address.
fn number_of(addr: SocketAddr) -> Option<u32> {
    let SocketAddr::V4(addr) = addr else {
        return None;
    };
    let [net, high, low, _] = addr.ip().octets();
    (net == 45).then_some(u32::from(high) << 8 | u32::from(low))
}

pub struct Node {
    pub host: Host,
    pub info_hash: Id20,
    /// What is asked next, reused.
    query: Vec<u8>,
    asked: u32,
    /// Tokens for [`Self::info_hash`], by asker.
    tokens: Vec<Vec<u8>>,
    /// Addresses of those who ask.
    addrs: Vec<SocketAddr>,
}

impl Node {
    /// A node that lived for a while in a network that answers everything.
    pub fn new() -> Self {
        let mut config = Config::default();
        // What is measured is the answer, not the budget that refuses it.
        config.dht.address_packets = u16::MAX - 1;
        config.dht.reply_bytes_per_second = u32::MAX;
        let mut host = Host::new(config);
        host.handle(Input::SocketUp {
            socket: SOCKET,
            local: own(),
        });
        host.handle(Input::Command {
            tag: Tag(0),
            command: Box::new(Command::DhtBootstrap(vec![place(0).0])),
        });
        let mut node = Self {
            host,
            info_hash: Id20(Numbers(99).bytes()),
            query: Vec::new(),
            asked: 0,
            tokens: Vec::new(),
            addrs: (0..PEERS).map(|n| place(n).0).collect(),
        };
        node.live(Duration::from_secs(600));
        for n in 0..PEERS {
            node.ask(n, Query::GetPeers(node.info_hash));
            let token = node.token();
            node.tokens.push(token);
            node.announce(n);
            node.host.out.drain();
        }
        node.live(Duration::from_secs(60));
        // Tokens of a moment ago are still good; new ones last longer.
        for n in 0..PEERS {
            node.ask(n, Query::GetPeers(node.info_hash));
            node.tokens[n as usize] = node.token();
        }
        node
    }

    /// Lets time pass; the network answers what the node asks.
    fn live(&mut self, time: Duration) {
        let end = self.host.now + time;
        loop {
            let mut answers = Vec::new();
            for output in self.host.out.drain() {
                if let Output::Transmit { to, head, .. } = output
                    && let Some(answer) = answer(to, head)
                {
                    answers.push((to, answer));
                }
            }
            for (from, payload) in &answers {
                self.host.handle(Input::Datagram {
                    socket: SOCKET,
                    from: *from,
                    payload,
                });
            }
            if !answers.is_empty() {
                continue;
            }
            match self.host.engine.next_timeout() {
                Some(at) if at <= end => {
                    self.host.now = self.host.now.max(at);
                    self.host.handle(Input::Tick);
                }
                _ => break,
            }
        }
        self.host.now = end;
    }

    /// How many nodes it knows.
    pub fn contacts(&self) -> usize {
        let dht = self.host.engine.dht().expect("the DHT is enabled");
        dht.contacts(false).count()
    }

    fn ask(&mut self, n: u32, query: Query<'_>) {
        self.prepare(n, query);
        self.send(n);
    }

    /// Encodes a query of the `n`th node of the network.
    fn prepare(&mut self, n: u32, query: Query<'_>) {
        self.query.clear();
        let asker = Asker {
            id: place(n).1,
            read_only: false,
            want: Want {
                v4: true,
                v6: false,
            },
        };
        self.asked += 1;
        write_query(&mut self.query, &self.asked.to_be_bytes(), asker, query);
    }

    /// Hands the prepared query over.
    pub fn send(&mut self, n: u32) {
        let query = std::mem::take(&mut self.query);
        self.hand_over(n, &query);
        self.query = query;
    }

    /// The prepared query.
    pub fn query(&self) -> &[u8] {
        &self.query
    }

    /// Hands over a datagram of the `n`th node of the network.
    pub fn hand_over(&mut self, n: u32, payload: &[u8]) {
        // No two packets come in one instant, and a clock that stands would fill no budget.
        self.host.now = self.host.now + Duration::from_micros(1);
        let (socket, from) = (SOCKET, self.addrs[n as usize]);
        self.host.handle(Input::Datagram {
            socket,
            from,
            payload,
        });
    }

    pub fn prepare_ping(&mut self, n: u32) {
        self.prepare(n, Query::Ping);
    }

    pub fn prepare_find_node(&mut self, n: u32) {
        let target = Id20(Numbers(u64::from(self.asked) + 1_000_000).bytes());
        self.prepare(n, Query::FindNode(target));
    }

    pub fn prepare_get_peers(&mut self, n: u32) {
        self.prepare(n, Query::GetPeers(self.info_hash));
    }

    pub fn prepare_announce(&mut self, n: u32) {
        let token = std::mem::take(&mut self.tokens[n as usize]);
        self.prepare(n, Query::Announce(self.info_hash, Some(6881), &token));
        self.tokens[n as usize] = token;
    }

    fn announce(&mut self, n: u32) {
        self.prepare_announce(n);
        self.send(n);
    }

    /// The token in the answer that waits.
    fn token(&mut self) -> Vec<u8> {
        let mut tokens = self.host.out.drain().filter_map(|output| match output {
            Output::Transmit { head, .. } => {
                let answer = Message::decode(head).expect("answers are well-formed");
                answer.body.token.map(<[u8]>::to_vec)
            }
            _ => None,
        });
        tokens.next().expect("a token is given")
    }

    /// Asserts that one good answer waits, takes it, and gives its length.
    pub fn take_answer(&mut self, n: u32) -> usize {
        let mut outputs = self.host.out.drain();
        let Some(Output::Transmit { to, head, .. }) = outputs.next() else {
            panic!("no answer");
        };
        assert_eq!(to, place(n).0);
        assert!(head.ends_with(b"1:y1:re"), "{}", head.escape_ascii());
        assert!(outputs.next().is_none(), "one answer");
        head.len()
    }

    /// How many nodes ask in turn; each has a token.
    pub const ASKERS: u32 = PEERS;
}

/// What the network answers to a query of ours.
fn answer(to: SocketAddr, query: &[u8]) -> Option<Vec<u8>> {
    let message = Message::decode(query).ok()?;
    if !matches!(message.kind, Kind::Query(_)) {
        return None;
    }
    let (_, id) = place(number_of(to)?);
    let mut numbers = Numbers(u64::from(
        message.transaction.iter().fold(0, |sum: u32, byte| {
            sum.wrapping_mul(31).wrapping_add(u32::from(*byte))
        }),
    ));
    let mut nodes = Vec::new();
    for number in numbers.by_ref().take(8) {
        let (SocketAddr::V4(addr), id) = place((number % u64::from(NETWORK)) as u32) else {
            return None;
        };
        nodes.extend_from_slice(&id.0);
        nodes.extend_from_slice(&addr.ip().octets());
        nodes.extend_from_slice(&addr.port().to_be_bytes());
    }
    let mut buf = Vec::new();
    let mut response = Response::begin(&mut buf, own(), &id);
    response.nodes(&nodes);
    response.token(b"token");
    response.end(message.transaction);
    Some(buf)
}
