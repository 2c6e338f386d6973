//! Items, samples and filters: what strangers get, and what is believed of them.

use alloc::sync::Arc;
use core::net::SocketAddr;
use std::string::String;
use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use super::alone::{Alone, STRANGER, error_code};
use super::world::{Network, V4};
use crate::config::Config;
use crate::dht::item::{Item, Signed, bencoded};
use crate::dht::krpc::{self, Kind, Message, Query, Response};
use crate::dht::scrape::{Filter, Filters};
use crate::dht::{AnnouncePort, CheckId, Event, Input, Lookup, LookupId};
use crate::event::{Found, LookupSummary};
use crate::id::Id20;
use crate::time::Duration;

const OTHER: &str = "9.9.9.9:1000";

/// An item of a key; whether its signature is right is for whoever is asked to say.
fn signed(seq: i64, text: &[u8]) -> Item {
    with_salt(seq, text, b"")
}

fn with_salt(seq: i64, text: &[u8], salt: &[u8]) -> Item {
    let signed = Signed {
        key: [7; 32],
        signature: [8; 64],
        seq,
        salt: Bytes::copy_from_slice(salt),
    };
    Item::mutable(bencoded(text), signed).unwrap()
}

fn get(target: Id20) -> Query<'static> {
    Query::Get {
        target,
        seq: None,
        token: None,
    }
}

fn token(node: &mut Alone, from: &str, target: Id20) -> Option<Vec<u8>> {
    let answer = node.query(from, get(target))?;
    Message::decode(&answer).unwrap().body.token.map(Vec::from)
}

/// Asks for a token and puts an item with it.
fn put(node: &mut Alone, from: &str, item: &Item, cas: Option<i64>) -> Option<Vec<u8>> {
    let token = token(node, from, item.target()).unwrap();
    let token = &token;
    node.query(from, Query::Put { item, cas, token })
}

/// Answers the check that waits; what is sent then.
fn checked(node: &mut Alone, good: bool) -> Option<Vec<u8>> {
    let check = node.events.iter().rev().find_map(|event| match event {
        Event::Check(id, _) => Some(*id),
        _ => None,
    });
    let sent = node.input(Input::Checked(check.expect("it asks"), good));
    let mut answers = sent.into_iter().map(|(_, bytes)| bytes);
    answers.find(|bytes| !matches!(Message::decode(bytes).unwrap().kind, Kind::Query(_)))
}

fn is_ok(answer: Option<Vec<u8>>) -> bool {
    let answer = answer.expect("an answer");
    Message::decode(&answer).unwrap().kind == Kind::Response
}

#[test]
fn an_immutable_item_is_kept_for_whoever_has_a_token_and_found() {
    let mut node = Alone::new(Config::default());
    let item = Item::text(b"Hello World!").unwrap();
    let (target, item_ref) = (item.target(), &item);
    let bad = Query::Put {
        item: item_ref,
        cas: None,
        token: b"12345678",
    };
    assert_eq!(error_code(node.query(STRANGER, bad)), Some(203));
    // A token is good for its target only.
    let wrong = token(&mut node, STRANGER, Id20([1; 20])).unwrap();
    let wrong = Query::Put {
        item: item_ref,
        cas: None,
        token: &wrong,
    };
    assert_eq!(error_code(node.query(STRANGER, wrong)), Some(203));
    assert!(is_ok(put(&mut node, STRANGER, &item, None)));
    let answer = node.query(OTHER, get(target)).unwrap();
    let body = Message::decode(&answer).unwrap().body;
    assert_eq!(body.value, Some(&b"12:Hello World!"[..]));
    assert_eq!((body.key, body.signature, body.seq), (None, None, None));
    assert!(body.token.is_some());
    // It is forgotten two hours later, if nobody puts it again.
    for _ in 0..118 {
        node.wait(60);
    }
    let answer = node.query(OTHER, get(target)).unwrap();
    assert!(Message::decode(&answer).unwrap().body.value.is_some());
    node.wait(130);
    let answer = node.query(OTHER, get(target)).unwrap();
    assert_eq!(Message::decode(&answer).unwrap().body.value, None);
    assert!(node.dht.families[0].items.is_empty());
}

#[test]
fn a_put_is_taken_with_a_target_and_without() {
    for (text, named) in [(&b"named"[..], true), (b"nameless", false)] {
        let mut node = Alone::new(Config::default());
        let item = Item::text(text).unwrap();
        let token = token(&mut node, STRANGER, item.target()).unwrap();
        // BEP 44 has no such key.
        let mut query = b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaa".to_vec();
        if named {
            query.extend([&b"6:target20:"[..], &item.target().0].concat());
        }
        query.extend(std::format!("5:token{}:", token.len()).as_bytes());
        query.extend([&token[..], b"1:v", item.value(), b"e1:q3:put1:t1:t1:y1:qe"].concat());
        assert!(is_ok(node.ask(STRANGER, &query)));
        let answer = node.query(OTHER, get(item.target())).unwrap();
        let body = Message::decode(&answer).unwrap().body;
        assert_eq!(body.value, Some(&item.value()[..]));
    }
}

#[test]
fn a_mutable_item_is_kept_when_its_signature_was_checked() {
    let mut node = Alone::new(Config::default());
    let item = with_salt(4, b"four", b"salt");
    assert_eq!(put(&mut node, STRANGER, &item, None), None);
    let unsure = node.query(OTHER, get(item.target())).unwrap();
    assert_eq!(Message::decode(&unsure).unwrap().body.value, None);
    let answer = checked(&mut node, true);
    let transaction = answer.clone().unwrap();
    assert_eq!(Message::decode(&transaction).unwrap().transaction, b"t");
    assert!(is_ok(answer));
    let answer = node.query(OTHER, get(item.target())).unwrap();
    let body = Message::decode(&answer).unwrap().body;
    assert_eq!(body.value, Some(&item.value()[..]));
    assert_eq!((body.key, body.signature), (Some(&[7; 32]), Some(&[8; 64])));
    assert_eq!(body.seq, Some(4));
    // Who has it already gets the number only.
    for (seq, told) in [(3, true), (4, false), (5, false)] {
        let query = Query::Get {
            target: item.target(),
            seq: Some(seq),
            token: None,
        };
        let answer = node.query(OTHER, query).unwrap();
        let body = Message::decode(&answer).unwrap().body;
        assert_eq!((body.value.is_some(), body.seq), (told, Some(4)), "{seq}");
    }
}

#[test]
fn what_is_wrong_with_a_put_is_told_with_its_code() {
    let mut node = Alone::new(Config::default());
    let code = error_code;
    assert_eq!(put(&mut node, STRANGER, &signed(5, b"a"), None), None);
    assert_eq!(code(checked(&mut node, false)), Some(206));
    assert!(node.dht.families[0].items.is_empty());
    assert_eq!(put(&mut node, STRANGER, &signed(5, b"a"), None), None);
    assert!(is_ok(checked(&mut node, true)));
    // The same once more needs no check.
    assert!(is_ok(put(&mut node, STRANGER, &signed(5, b"a"), None)));
    assert_eq!(
        code(put(&mut node, STRANGER, &signed(5, b"b"), None)),
        Some(302)
    );
    assert_eq!(
        code(put(&mut node, STRANGER, &signed(4, b"b"), None)),
        Some(302)
    );
    assert_eq!(
        code(put(&mut node, STRANGER, &signed(6, b"b"), Some(4))),
        Some(301)
    );
    assert_eq!(put(&mut node, STRANGER, &signed(6, b"b"), Some(5)), None);
    // Another comes first.
    let late = node.events.iter().rev().find_map(|event| match event {
        Event::Check(id, _) => Some(*id),
        _ => None,
    });
    assert_eq!(put(&mut node, OTHER, &signed(7, b"c"), None), None);
    assert!(is_ok(checked(&mut node, true)));
    let sent = node.input(Input::Checked(late.unwrap(), true));
    assert_eq!(code(sent.into_iter().map(|(_, b)| b).next()), Some(301));
    // What cannot be an item at all.
    let token = |node: &mut Alone, target| token(node, "127.0.0.1:9", target).unwrap();
    let key = "k".repeat(32);
    let long = std::format!("997:{}", "x".repeat(997));
    let target = crate::dht::item::immutable_target(long.as_bytes());
    let wrong = [
        (std::format!("1:v{long}"), target, 205),
        (
            std::format!(
                "1:k32:{key}4:salt65:{}3:seqi1e3:sig64:{}1:v1:x",
                "s".repeat(65),
                "s".repeat(64)
            ),
            Id20([1; 20]),
            207,
        ),
        (
            std::format!("1:k32:{key}3:seqi-1e3:sig64:{}1:v1:x", "s".repeat(64)),
            crate::dht::item::mutable_target(&[b'k'; 32], b""),
            203,
        ),
        (
            std::format!("1:k32:{key}3:sig64:{}1:v1:x", "s".repeat(64)),
            crate::dht::item::mutable_target(&[b'k'; 32], b""),
            203,
        ),
        (String::from("1:v4:i01e"), Id20([1; 20]), 203),
        (
            String::from("1:vd2:abi1e2:aai2ee"),
            crate::dht::item::immutable_target(b"d2:abi1e2:aai2ee"),
            203,
        ),
        (String::new(), Id20([1; 20]), 203),
    ];
    for (fields, target, expected) in wrong {
        let token = token(&mut node, target);
        let mut query = b"d1:ad2:id20:abcdefghij0123456789".to_vec();
        query.extend_from_slice(b"5:token8:");
        query.extend_from_slice(&token);
        query.extend_from_slice(fields.as_bytes());
        query.extend_from_slice(b"e1:q3:put1:t2:aa1:y1:qe");
        let answer = node.ask("127.0.0.1:9", &query);
        assert_eq!(code(answer), Some(expected), "{fields}");
    }
}

#[test]
fn no_more_signatures_are_checked_than_a_limit_says_and_none_is_waited_for_for_ever() {
    let mut config = Config::default();
    config.dht.max_signature_checks = 3;
    let mut node = Alone::new(config);
    for n in 0..3 {
        let salt = [n];
        let answer = put(&mut node, "127.0.0.1:9", &with_salt(1, b"x", &salt), None);
        assert_eq!(answer, None);
    }
    let busy = put(&mut node, "127.0.0.1:9", &with_salt(1, b"x", b"s"), None);
    assert_eq!((error_code(busy), node.dht.checks.len()), (Some(202), 3));
    // Whoever should check them does not.
    node.wait(11);
    assert_eq!(node.dht.checks.len(), 0);
    assert!(node.dht.families[0].items.is_empty());
    assert_eq!(checked(&mut node, true), None);
}

#[test]
fn a_router_that_stores_nothing_gives_no_token_and_no_sample() {
    let mut config = Config::default();
    (config.dht.max_items, config.dht.max_stored_torrents) = (0, 0);
    let mut node = Alone::new(config);
    assert_eq!(token(&mut node, STRANGER, Id20([1; 20])), None);
    let answer = node.query(STRANGER, Query::Sample(Id20([1; 20]))).unwrap();
    let body = Message::decode(&answer).unwrap().body;
    assert_eq!(
        (body.num, body.samples.unwrap().iter().count()),
        (Some(0), 0)
    );
}

#[test]
fn a_long_value_is_for_those_who_show_that_they_receive_it() {
    let mut node = Alone::new(Config::default());
    let item = Item::text(&[b'x'; 990]).unwrap();
    assert!(is_ok(put(&mut node, "127.0.0.1:9", &item, None)));
    let mut query = vec![];
    let asker = krpc::Asker {
        id: Id20([0x11; 20]),
        read_only: true,
        want: krpc::Want::default(),
    };
    krpc::write_query(&mut query, b"t", asker, get(item.target()));
    let answer = node.ask(STRANGER, &query).unwrap();
    assert!(answer.len() <= 6 * query.len());
    let body = Message::decode(&answer).unwrap().body;
    assert_eq!(body.value, None);
    let own = body.token.unwrap().to_vec();
    for (from, told) in [(OTHER, false), (STRANGER, true)] {
        let query = Query::Get {
            target: item.target(),
            seq: None,
            token: Some(&own),
        };
        let answer = node.query(from, query).unwrap();
        assert!(answer.len() <= 1_400);
        let body = Message::decode(&answer).unwrap().body;
        assert_eq!(body.value.is_some(), told, "{from}");
    }
}

#[test]
fn filters_are_for_those_who_ask_and_tell_seeds_from_others() {
    let mut node = Alone::new(Config::default());
    let hash = Id20([0x22; 20]);
    let scrape = |node: &mut Alone, query| {
        let answer = node.query("127.0.0.1:9", query).unwrap();
        assert!(answer.len() <= 1_400);
        let body = Message::decode(&answer).unwrap().body;
        let copy = |filter: Option<&[u8; 256]>| filter.map(|filter| Filter(*filter));
        (copy(body.seeds), copy(body.downloaders))
    };
    assert_eq!(scrape(&mut node, Query::Scrape(hash)), (None, None));
    let now = node.dht.seconds();
    let mut expected = Filters::default();
    for n in 0..90u8 {
        let peer = SocketAddr::from(([8, 8, n, 1], 1));
        let seed = n % 3 == 0;
        let store = &mut node.dht.families[0].store;
        assert!(store.announce(&hash, peer, seed, now));
        if seed {
            expected.seeds.insert(peer.ip());
        } else {
            expected.downloaders.insert(peer.ip());
        }
    }
    assert_eq!(scrape(&mut node, Query::GetPeers(hash)), (None, None));
    let told = scrape(&mut node, Query::Scrape(hash));
    assert_eq!(told, (Some(expected.seeds), Some(expected.downloaders)));
    // A stranger's query is long enough for both.
    let answer = node.query(STRANGER, Query::Scrape(hash)).unwrap();
    assert!(Message::decode(&answer).unwrap().body.seeds.is_some());
    // What somebody announces as its `seed` counts as one.
    let token = token(&mut node, "127.0.0.1:9", hash).unwrap();
    let mut announce = b"d1:ad2:id20:abcdefghij01234567899:info_hash20:".to_vec();
    announce.extend_from_slice(&hash.0);
    announce.extend_from_slice(b"4:porti9e4:seedi1e5:token8:");
    announce.extend_from_slice(&token);
    announce.extend_from_slice(b"e1:q13:announce_peer1:t2:aa1:y1:qe");
    assert!(is_ok(node.ask("127.0.0.1:9", &announce)));
    expected.seeds.insert([127, 0, 0, 1].into());
    let told = scrape(&mut node, Query::Scrape(hash));
    assert_eq!(told.0, Some(expected.seeds));
}

#[test]
fn a_survey_gets_twenty_info_hashes_how_many_there_are_and_nodes() {
    let mut node = Alone::new(Config::default());
    let now = node.dht.seconds();
    for n in 0..100u8 {
        let peer = SocketAddr::from(([8, 8, n, 1], 1));
        let store = &mut node.dht.families[0].store;
        assert!(store.announce(&Id20([n; 20]), peer, false, now));
    }
    for n in 0..8 {
        let id = Id20([0x10 * n + 1; 20]);
        let addr = SocketAddr::from(([7, 7, n, 1], 1));
        node.dht
            .table_v4
            .heard(id, addr, Duration::from_millis(9), 1);
    }
    let survey = |node: &mut Alone, from| {
        let answer = node.query(from, Query::Sample(Id20([1; 20]))).unwrap();
        let body = Message::decode(&answer).unwrap().body;
        let samples: Vec<Id20> = body.samples.unwrap().iter().collect();
        assert!(body.nodes.iter().count() > 0 || from == STRANGER);
        (samples, body.num, body.interval, answer.len())
    };
    let (samples, num, interval, _) = survey(&mut node, "127.0.0.1:9");
    assert_eq!(
        (samples.len(), num, interval),
        (20, Some(100), Some(6 * 3_600))
    );
    node.wait(100);
    let (again, _, interval, _) = survey(&mut node, "127.0.0.1:9");
    assert_eq!((again, interval), (samples.clone(), Some(6 * 3_600 - 100)));
    // A stranger gets as much as its query is worth.
    let (some, _, _, len) = survey(&mut node, STRANGER);
    assert!(some.len() >= 10 && samples.starts_with(&some) && len <= 6 * 120);
}

/// A node that knows three others, and what those say.
struct Asking {
    node: Alone,
    found: Vec<Found>,
}

impl Asking {
    fn new() -> Self {
        let mut node = Alone::new(Config::default());
        for n in 1..=3 {
            let rtt = Duration::from_millis(9);
            let (id, addr) = Self::other(n);
            node.dht.table_v4.heard(id, addr, rtt, 1);
        }
        let found = vec![];
        Self { node, found }
    }

    fn other(n: u8) -> (Id20, SocketAddr) {
        (Id20([n; 20]), SocketAddr::from(([8, 8, n, 1], 1)))
    }

    /// Runs a lookup to its end: `answer` writes what the n-th says to a query, nothing if it is
    /// lost. Checks of signatures say that those of even sequence numbers are right.
    fn run(
        &mut self,
        lookup: Lookup,
        mut answer: impl FnMut(u8, &Message<'_>, &mut Vec<u8>),
    ) -> LookupSummary {
        let mut sent = self.node.input(Input::Start(LookupId(1), lookup));
        for _ in 0..100_000 {
            let mut checks: Vec<(CheckId, Arc<Item>)> = vec![];
            for event in std::mem::take(&mut self.node.events) {
                match event {
                    Event::Found(_, found) => self.found.push(found),
                    Event::Check(id, item) => checks.push((id, item)),
                    Event::Done(LookupId(1), summary) => return summary,
                    _ => {}
                }
            }
            if let Some((id, item)) = checks.pop() {
                let good = item.seq().is_some_and(|seq| seq % 2 == 0);
                sent.extend(self.node.input(Input::Checked(id, good)));
                for (id, _) in checks {
                    sent.extend(self.node.input(Input::Checked(id, false)));
                }
            } else if let Some((to, query)) = sent.pop_front() {
                let SocketAddr::V4(addr) = to else { panic!() };
                let mut reply = vec![];
                let message = Message::decode(&query).unwrap();
                answer(addr.ip().octets()[2], &message, &mut reply);
                if !reply.is_empty() {
                    let datagram = Input::Datagram {
                        socket: V4,
                        from: to,
                        payload: &reply,
                    };
                    sent.extend(self.node.input(datagram));
                }
            } else {
                self.node.now = self.node.dht.next_timeout().unwrap().max(self.node.now);
                sent.extend(self.node.input(Input::Tick));
            }
        }
        panic!("no end");
    }
}

fn respond(n: u8, message: &Message<'_>, buf: &mut Vec<u8>, item: Option<&Item>) {
    let to = "4.4.4.4:1".parse().unwrap();
    let mut response = Response::begin(buf, to, &Asking::other(n).0);
    let signed = item.and_then(Item::signed);
    if let Some(signed) = signed {
        response.key(&signed.key);
    }
    response.nodes(&[]);
    if let Some(signed) = signed {
        response.seq(signed.seq);
        response.signature(&signed.signature);
    }
    response.token(b"token");
    if let Some(item) = item {
        response.value(item.value());
    }
    response.end(message.transaction);
}

#[test]
fn a_forged_value_is_never_told_and_the_newest_true_one_is() {
    let target = signed(0, b"").target();
    let mut asking = Asking::new();
    let summary = asking.run(Lookup::Get(target, Bytes::new()), |n, message, buf| {
        // Odd sequence numbers have wrong signatures here.
        let item = match n {
            1 => signed(9, b"forged"),
            2 => signed(2, b"old"),
            _ => signed(4, b"new"),
        };
        respond(n, message, buf, Some(&item));
    });
    let told: Vec<i64> = asking
        .found
        .iter()
        .filter_map(|found| match found {
            Found::Item(item) => item.seq(),
            _ => None,
        })
        .collect();
    assert!(told == [4] || told == [2, 4], "{told:?}");
    assert_eq!(summary.results as usize, told.len());
    // Of another key, of another salt, or of another hash: not even checked.
    for item in [with_salt(4, b"x", b"salt"), Item::text(b"x").unwrap()] {
        let mut asking = Asking::new();
        let summary = asking.run(
            Lookup::Get(Id20([5; 20]), Bytes::new()),
            |n, message, buf| {
                respond(n, message, buf, Some(&item));
            },
        );
        assert_eq!((asking.found.len(), summary.results), (0, 0));
        assert_eq!(asking.node.dht.checks.len(), 0);
    }
    // Nothing but a forgery: the three are asked once more, in vain.
    let mut asking = Asking::new();
    let summary = asking.run(Lookup::Get(target, Bytes::new()), |n, message, buf| {
        respond(n, message, buf, Some(&signed(9, b"forged")));
    });
    assert_eq!((asking.found.len(), summary.queries), (0, 6));
}

#[test]
fn a_value_that_only_a_token_brings_is_found() {
    let item = Item::text(&[b'x'; 900]).unwrap();
    let mut asking = Asking::new();
    let mut asked = 0;
    let lookup = Lookup::Get(item.target(), Bytes::new());
    let summary = asking.run(lookup, |n, message, buf| {
        asked += 1;
        let shown = message.body.token == Some(b"token") && n == 2;
        respond(n, message, buf, shown.then_some(&item));
    });
    assert_eq!((asking.found.len(), summary.results), (1, 1));
    assert!(asked <= 6);
    // An immutable one that is there at once needs no more questions.
    let mut asking = Asking::new();
    let lookup = Lookup::Get(item.target(), Bytes::new());
    let summary = asking.run(lookup, |n, message, buf| {
        respond(n, message, buf, Some(&item));
    });
    assert_eq!(asking.found, [Found::Item(Arc::new(item.clone()))]);
    assert_eq!((summary.results, summary.replies), (1, 1));
}

#[test]
fn a_lost_store_is_sent_once_more_and_not_twice() {
    let item = Arc::new(Item::text(b"x").unwrap());
    let announce = Lookup::Announce(Id20([9; 20]), AnnouncePort::Given(5));
    for lookup in [Lookup::Put(item, None), announce] {
        for (lost, stored) in [(0, 3), (1, 3), (2, 2), (9, 2)] {
            let mut asking = Asking::new();
            let mut stores = [0; 4];
            let summary = asking.run(lookup.clone(), |n, message, buf| {
                let store = matches!(message.kind, Kind::Query(b"put" | b"announce_peer"));
                stores[usize::from(n)] += u32::from(store);
                if !store || n != 2 || stores[2] > lost {
                    respond(n, message, buf, None);
                }
            });
            assert_eq!(summary.results, stored, "{lookup:?} {lost}");
            assert_eq!(stores, [0, 1, (lost + 1).min(2), 1], "{lookup:?} {lost}");
        }
    }
}

#[test]
fn why_a_put_was_refused_is_told_once() {
    let mut asking = Asking::new();
    let lookup = Lookup::Put(Arc::new(signed(2, b"x")), Some(1));
    let summary = asking.run(lookup, |n, message, buf| match message.kind {
        Kind::Query(b"put") if n < 3 => {
            assert_eq!((message.body.cas, message.body.seq), (Some(1), Some(2)));
            let to = Asking::other(n).1;
            krpc::write_error(buf, message.transaction, to, 301, "no");
        }
        _ => respond(n, message, buf, None),
    });
    assert_eq!(asking.found, [Found::Refused(301)]);
    assert_eq!(summary.results, 1);
}

#[test]
fn peers_of_several_nodes_are_counted_once() {
    let mut asking = Asking::new();
    let summary = asking.run(Lookup::Scrape(Id20([9; 20])), |n, message, buf| {
        assert!(message.body.scrape);
        let mut filters = Filters::default();
        // Three have seen the same seeds, and each others.
        (0..50).for_each(|ip| filters.seeds.insert([9, 9, 9, ip].into()));
        (0..20).for_each(|ip| filters.downloaders.insert([9, 9, n, ip].into()));
        let to = "4.4.4.4:1".parse().unwrap();
        let id = Asking::other(n).0;
        let filters = (n < 3).then_some(&filters);
        let mut response = Response::begin_with(buf, to, &id, filters);
        response.nodes(&[]);
        response.end(message.transaction);
    });
    let [
        Found::Swarm {
            seeds,
            downloaders,
            nodes,
        },
    ] = asking.found[..]
    else {
        panic!("{:?}", asking.found);
    };
    assert!(seeds.abs_diff(50) <= 3 && downloaders.abs_diff(40) <= 3);
    assert_eq!((nodes, summary.results), (2, 1));
    // Nobody knows any.
    let mut asking = Asking::new();
    let summary = asking.run(Lookup::Scrape(Id20([9; 20])), |n, message, buf| {
        respond(n, message, buf, None);
    });
    assert_eq!((asking.found.len(), summary.results), (0, 0));
}

#[test]
fn samples_of_one_node_are_told_and_so_is_that_it_has_none() {
    let (id, to) = Asking::other(9);
    let sample = |answer: &dyn Fn(&Message<'_>, &mut Vec<u8>)| {
        let mut asking = Asking::new();
        let summary = asking.run(Lookup::Sample(to), |n, message, buf| {
            // The others are refreshed meanwhile.
            let sampled = message.kind == Kind::Query(b"sample_infohashes");
            assert_eq!(sampled, n == 9);
            if sampled {
                answer(message, buf);
            }
        });
        (asking.found, summary)
    };
    let (found, summary) = sample(&|message, buf| {
        let mut response = Response::begin(buf, to, &id);
        response.interval(60);
        response.nodes(&[]);
        response.samples(77, [Id20([1; 20]), Id20([2; 20])].into_iter());
        response.end(message.transaction);
    });
    let again = Duration::from_secs(60);
    assert_eq!(
        found,
        [
            Found::InfoHash(Id20([1; 20])),
            Found::InfoHash(Id20([2; 20])),
            Found::Survey { of: 77, again }
        ]
    );
    assert_eq!((summary.results, summary.replies), (2, 1));
    let (found, summary) = sample(&|message, buf| {
        krpc::write_error(buf, message.transaction, to, 204, "what");
    });
    assert_eq!(found, [Found::Refused(204)]);
    assert_eq!((summary.results, summary.replies), (0, 0));
    let (found, summary) = sample(&|message, buf| {
        Response::begin(buf, to, &id).end(message.transaction);
    });
    assert_eq!((found.len(), summary.results, summary.replies), (0, 0, 1));
    let (found, summary) = sample(&|_, _| {});
    assert_eq!((found.len(), summary.replies), (0, 0));
}

/// Checks what hosts are asked to: even sequence numbers are right.
fn check_all(net: &mut Network) {
    for n in 0..net.hosts.len() {
        let mut checks = vec![];
        net.hosts[n].events.retain(|event| match event {
            Event::Check(id, item) => {
                checks.push((*id, item.seq().is_some_and(|seq| seq % 2 == 0)));
                false
            }
            _ => true,
        });
        if !net.dead.contains(&n) {
            for (id, good) in checks {
                net.input(n, Input::Checked(id, good));
            }
        }
    }
}

/// Runs one lookup to its end, while hosts do their work.
fn look(net: &mut Network, n: usize, lookup: Lookup) -> (Vec<Arc<Item>>, LookupSummary) {
    let id = LookupId(net.sent);
    net.hosts[n].events.clear();
    net.input(n, Input::Start(id, lookup));
    for _ in 0..4_000 {
        check_all(net);
        let (mut items, mut done) = (vec![], None);
        for event in &net.hosts[n].events {
            match event {
                Event::Found(of, Found::Item(item)) if *of == id => items.push(item.clone()),
                Event::Done(of, summary) if *of == id => done = Some(*summary),
                _ => {}
            }
        }
        if let Some(summary) = done {
            return (items, summary);
        }
        net.run(Duration::from_millis(10));
    }
    panic!("no end");
}

/// Those that keep an item.
fn holders(net: &Network, target: &Id20) -> Vec<usize> {
    let keeps = |n: &usize| {
        let dht = &net.hosts[*n].dht;
        dht.families[0].items.find(target, dht.seconds()).is_some()
    };
    (0..net.hosts.len()).filter(keeps).collect()
}

#[test]
fn a_value_put_among_a_hundred_with_loss_is_found_until_those_who_keep_it_are_gone() {
    for seed in 0..2 {
        let mut net = Network::joined(seed, 2, 100, 50, (true, false));
        net.run(Duration::from_secs(30));
        let items = [
            Item::text(b"Hello World!").unwrap(),
            signed(2, &[b'x'; 900]),
        ];
        for item in items {
            let item = Arc::new(item);
            let target = item.target();
            let put = || Lookup::Put(Arc::clone(&item), None);
            let get = || Lookup::Get(target, Bytes::new());
            let (_, summary) = look(&mut net, 10, put());
            let kept = holders(&net, &target);
            // One may keep it and have its answer lost twice.
            assert!(
                summary.results >= 7 && kept.len() >= 7,
                "{summary:?} {kept:?}"
            );
            for n in [20, 33, 60, 90] {
                let (found, summary) = look(&mut net, n, get());
                assert_eq!(found, [Arc::clone(&item)], "{n}: {summary:?}");
            }
            // All but two of them are lost: it is found still.
            let lost = &kept[..kept.len() - 2];
            net.dead.extend(lost.iter().copied().filter(|n| *n != 10));
            let asker = (20..100).find(|n| !kept.contains(n)).unwrap();
            let (found, summary) = look(&mut net, asker, get());
            assert_eq!(found, [Arc::clone(&item)], "{summary:?}");
            // Nobody keeps it any more, and nothing is found, until it is put again.
            net.dead.extend(kept.iter().copied().filter(|n| *n != 10));
            if !kept.contains(&10) {
                let (found, _) = look(&mut net, asker, get());
                assert_eq!(found, []);
            }
            // The closest that it knows are all dead, and others are known.
            let (_, summary) = look(&mut net, 10, put());
            assert!(summary.results >= 6, "{summary:?}");
            let (found, summary) = look(&mut net, asker, get());
            assert_eq!(found, [Arc::clone(&item)], "{summary:?}");
            net.revive();
            net.run(Duration::from_secs(60));
        }
    }
}

#[test]
fn nodes_keep_no_forged_value_and_the_newest_of_several() {
    let mut net = Network::joined(5, 2, 60, 20, (true, false));
    net.run(Duration::from_secs(30));
    let target = signed(0, b"").target();
    let mut put = |seq: i64, n| {
        let item = Arc::new(signed(seq, &seq.to_be_bytes()));
        look(&mut net, n, Lookup::Put(item, None)).1.results
    };
    assert_eq!(put(1, 10), 0);
    assert!(put(4, 11) >= 7);
    assert_eq!((put(2, 12), put(5, 13)), (0, 0));
    assert!(put(6, 14) >= 7);
    assert!(holders(&net, &target).len() >= 7);
    for n in [20, 30, 40] {
        let (found, _) = look(&mut net, n, Lookup::Get(target, Bytes::new()));
        assert_eq!(found.last().and_then(|item| item.seq()), Some(6));
        assert!(found.iter().all(|item| item.seq().unwrap() % 2 == 0));
    }
}
