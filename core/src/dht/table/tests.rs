use super::*;
use crate::config::Config;
use quickcheck::quickcheck;
use std::vec;
use std::vec::Vec;

const RTT: Duration = Duration::from_millis(50);

fn table() -> Table<4> {
    Table::new(NodeId::from([0; 20]), &Config::default().dht, false)
}

fn id(first: u8, last: u8) -> NodeId {
    let mut id = [0; 20];
    (id[0], id[19]) = (first, last);
    NodeId::from(id)
}

fn deep(n: u32) -> NodeId {
    let mut id = [0; 20];
    id[..4].copy_from_slice(&n.to_be_bytes());
    NodeId::from(id)
}

/// A global address; each `n` is in a /24 of its own.
fn addr(n: u32) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(0x0800_0001 + (n << 8)).into(), 6881)
}

fn fill(table: &mut Table<4>, count: u32) {
    for n in 0..count {
        table.heard(deep(0x8000_0000 | n << 8 | n), addr(n), RTT, n);
    }
}

#[test]
fn one_node_per_address_and_one_per_network_and_bucket() {
    let mut table = table();
    assert_eq!(table.heard(id(0x80, 1), addr(1), RTT, 0), Heard::Added);
    let mut other_port = addr(1);
    other_port.set_port(7);
    assert_eq!(table.heard(id(0x01, 2), other_port, RTT, 0), Heard::Refused);
    let near: SocketAddr = "8.0.1.77:6881".parse().unwrap();
    assert_eq!(table.heard(id(0x81, 3), near, RTT, 0), Heard::Refused);
    // Loopback hosts are all one address and still distinct nodes.
    for port in 1..100 {
        let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        assert_eq!(
            table.heard(id(0x82, port as u8), local, RTT, 0),
            Heard::Added
        );
    }
    assert_eq!(table.len(), 100);
}

#[test]
fn private_addresses_are_distinct_hosts_only_in_a_lab() {
    let (first, second) = ("10.7.0.1:1".parse().unwrap(), "10.7.0.2:1".parse().unwrap());
    for lab in [false, true] {
        let mut table = Table::<4>::new(NodeId::default(), &Config::default().dht, lab);
        table.heard(id(0x80, 1), first, RTT, 0);
        let expected = if lab { Heard::Added } else { Heard::Refused };
        assert_eq!(table.heard(id(0x81, 1), second, RTT, 0), expected);
    }
}

#[test]
fn a_full_bucket_of_good_nodes_keeps_spares_up_to_the_limit() {
    let mut table = table();
    fill(&mut table, 400);
    assert_eq!(table.len(), 128);
    let spares: usize = table.buckets.iter().map(|bucket| bucket.spare.len()).sum();
    assert_eq!(spares, 8);
    assert_eq!(table.endpoints.0.len(), 136);
}

#[test]
fn a_failing_node_goes_at_once_for_a_spare_and_after_twenty_failures_without() {
    let mut table = table();
    fill(&mut table, 10);
    let (victim, at) = (deep(0x8000_0000 | 3 << 8 | 3), addr(3));
    for _ in 0..19 {
        assert!(!table.failed(&victim, at));
    }
    assert_eq!(table.len(), 10);
    assert!(table.failed(&victim, at));
    assert_eq!(table.len(), 9);
    assert_eq!(table.id_at(at), None);

    fill(&mut table, 400);
    let first = *table.iter().next().unwrap();
    assert!(table.failed(&first.id, first.addr()));
    assert_eq!(table.len(), 128);
    assert!(table.find(&first.id, first.addr()).is_none());
}

#[test]
fn the_worst_failing_node_makes_room_in_a_full_bucket() {
    let mut table = table();
    fill(&mut table, 128);
    let failing = *table.iter().nth(40).unwrap();
    table.failed(&failing.id, failing.addr());
    assert_eq!(table.heard(id(0xff, 1), addr(999), RTT, 0), Heard::Added);
    assert!(table.find(&failing.id, failing.addr()).is_none());
    assert_eq!(table.len(), 128);
}

#[test]
fn an_empty_part_of_a_bucket_is_filled_from_a_crowded_one() {
    let mut table = table();
    fill(&mut table, 128);
    let far = id(0xfe, 1);
    assert_eq!(table.heard(far, addr(999), RTT, 0), Heard::Added);
    assert!(table.find(&far, addr(999)).is_some());
}

#[test]
fn an_id_that_fits_its_address_replaces_one_that_does_not() {
    let mut table = table();
    for n in 0..200 {
        table.heard(deep(0xffff_0000 | n), addr(n), RTT, 0);
    }
    // Its own part of the bucket is taken; an id that fits the address wins all the same.
    let (rand, good) = (0..u32::MAX)
        .map(|n| (n, security::node_id(addr(5_000 + n).ip(), [n as u8; 20])))
        .find(|(_, id)| id.0[0] == 0xff)
        .unwrap();
    assert_eq!(
        table.heard(good, addr(5_000 + rand), RTT * 100, 0),
        Heard::Added
    );
}

#[test]
fn another_id_at_a_known_endpoint_evicts_and_an_id_moves_only_from_silence() {
    let mut table = table();
    table.heard(id(0x80, 1), addr(1), RTT, 0);
    assert_eq!(
        table.heard(id(0x80, 2), addr(1), RTT, 0),
        Heard::Changed(id(0x80, 1))
    );
    assert_eq!(table.len(), 0);
    assert_eq!(table.heard(id(0x80, 2), addr(1), RTT, 0), Heard::Added);
    assert_eq!(table.heard(id(0x80, 2), addr(2), RTT, 0), Heard::Refused);
    table.failed(&id(0x80, 2), addr(1));
    assert_eq!(table.heard(id(0x80, 2), addr(2), RTT, 0), Heard::Added);
    assert_eq!((table.len(), table.id_at(addr(1))), (1, None));
    assert_eq!(
        table.heard(NodeId::default(), addr(3), RTT, 0),
        Heard::Refused
    );
}

#[test]
fn refresh_takes_the_least_recently_touched_and_the_closest_of_those() {
    let mut table = table();
    for n in 0..200u32 {
        table.heard(deep(0x8000_0000 >> (n % 10) | n), addr(n), RTT, 5);
    }
    let (first, ..) = table.next_refresh(6).unwrap();
    assert!(first.0[0] == 0 && first.0[1] & 0x40 != 0, "{first}");
    let mut seen = std::collections::BTreeSet::from([first]);
    for _ in 1..table.len() {
        assert!(seen.insert(table.next_refresh(6).unwrap().0));
    }
}

#[test]
fn another_own_id_keeps_the_contacts() {
    let mut table = table();
    fill(&mut table, 60);
    table.set_own(deep(0x8000_0f0f));
    assert!(table.len() >= 30 && table.own() == deep(0x8000_0f0f));
    check(&table);
}

#[test]
fn those_who_failed_are_found_apart_from_the_good() {
    let mut table = table();
    fill(&mut table, 20);
    for n in [3, 7, 11] {
        table.failed(&deep(0x8000_0000 | n << 8 | n), addr(n));
    }
    let near = deep(0x8000_0000);
    let (mut good, mut failing) = (vec![], vec![]);
    table.closest(&near, 8, |contact| good.push(contact.addr()));
    table.closest_failing(&near, 8, |contact| failing.push(contact.addr()));
    assert_eq!(failing, [addr(3), addr(7), addr(11)]);
    assert_eq!(good, [0, 1, 2, 4, 5, 6, 8, 9].map(addr));
}

#[test]
fn room_is_for_the_unknown_only_and_where_the_rules_leave_some() {
    let mut table = table();
    fill(&mut table, 10);
    let known = deep(0x8000_0000 | 3 << 8 | 3);
    assert_eq!(table.room(&known, addr(3)), Room::None);
    assert_eq!(table.room(&id(0x99, 1), addr(3)), Room::Taken(known));
    assert_eq!(table.room(&id(0x99, 1), addr(500)), Room::Free);
    assert_eq!(table.room(&NodeId::default(), addr(500)), Room::None);
    let mut other_port = addr(3);
    other_port.set_port(1);
    assert_eq!(table.room(&id(0x99, 1), other_port), Room::None);
    assert_eq!(
        table.room(&id(0x99, 1), "[2001:db8::1]:1".parse().unwrap()),
        Room::None
    );
    assert!(table.remove_at(addr(3)) && !table.remove_at(addr(3)));
    assert_eq!((table.len(), table.room(&known, addr(3))), (9, Room::Free));
    fill(&mut table, 128);
    table.heard(id(0x01, 1), addr(900), RTT, 0);
    assert_eq!(
        table.room(&id(0x99, 1), addr(500)),
        Room::None,
        "the far half is full"
    );
    assert_eq!(
        table.room(&id(0x02, 1), addr(500)),
        Room::Free,
        "the near half is not"
    );
}

#[test]
fn a_refresh_says_what_ids_its_bucket_has_room_for() {
    let mut table = table();
    table.heard(id(0x80, 1), addr(1), RTT, 0);
    // One bucket only: any id.
    assert_eq!(table.next_refresh(1).unwrap().2, Some((0, false)));
    let mut table = self::table();
    table.heard(id(0x40, 1), addr(900), RTT, 0);
    fill(&mut table, 129);
    // The far half is full by now; those of the other share one bit for sure and no more is said.
    assert_eq!(table.len(), 129);
    let asked: Vec<_> = (0..129).map(|_| table.next_refresh(200).unwrap()).collect();
    let (near, far): (Vec<Refresh>, Vec<Refresh>) =
        asked.into_iter().partition(|(id, ..)| id.0[0] < 0x80);
    assert_eq!((near.len(), near[0].2), (1, Some((1, false))));
    assert!(far.len() == 128 && far.iter().all(|(.., room)| room.is_none()));
    // One of the far half is out: the others are asked for ids that differ in the first bit.
    table.remove_at(addr(5));
    table.remove_at(addr(6));
    let (id, _, room) = table
        .next_refresh(300)
        .filter(|(id, ..)| id.0[0] >= 0x80)
        .or_else(|| table.next_refresh(300))
        .unwrap();
    assert!(id.0[0] >= 0x80);
    assert_eq!(room, Some((0, true)));
}

/// What must hold of every table.
fn check<const N: usize>(table: &Table<N>) {
    let mut live = 0;
    let mut all = 0;
    for (at, bucket) in table.buckets.iter().enumerate() {
        assert!(bucket.live.len() <= table.capacity(at));
        assert!(bucket.spare.len() <= usize::from(table.replacements));
        for contact in bucket.live.iter().chain(&bucket.spare) {
            assert_eq!(table.bucket_of(&contact.id), at);
            assert_eq!(table.id_at(contact.addr()), Some(contact.id));
            all += 1;
        }
        live += bucket.live.len();
    }
    assert_eq!((live, all), (table.live, table.endpoints.0.len()));
}

quickcheck! {
    fn closest_are_the_closest(ids: Vec<u32>, target: u32, limit: usize) -> bool {
        let mut table = table();
        for (n, id) in ids.iter().enumerate() {
            table.heard(deep(*id), addr(n as u32), RTT, 0);
        }
        let limit = limit % 9;
        let mut found = vec![];
        table.closest(&deep(target), limit, |contact| found.push(contact.id));
        let mut all: Vec<_> = table.iter().map(|contact| contact.id).collect();
        all.sort_by_key(|id| id.distance(&deep(target)));
        all.truncate(limit);
        found == all
    }

    fn any_sequence_keeps_the_rules(steps: Vec<(u8, u16, u8, u8)>) -> bool {
        let mut table = table();
        for (what, id, at, rtt) in steps {
            let node = deep(u32::from(id).reverse_bits() >> (id % 17));
            let addr = addr(u32::from(at));
            match what % 8 {
                0 => { table.failed(&node, addr); }
                1 => { table.remove(&node, addr); }
                2 => { table.next_refresh(u32::from(rtt)); }
                3 if rtt < 8 => table.set_own(node),
                _ => { table.heard(node, addr, Duration::from_millis(u64::from(rtt) * 10), u32::from(rtt)); }
            }
            check(&table);
        }
        true
    }

    fn an_ipv6_contact_is_written_as_the_wire_has_it(ip: u128, port: u16) -> bool {
        let addr = SocketAddr::new(Ipv6Addr::from(ip).into(), port);
        let mut table = Table::<16>::new(NodeId::default(), &Config::default().dht, false);
        table.heard(id(0x80, 1), addr, RTT, 0);
        let mut buf = [0; 38];
        let len = table.iter().next().unwrap().write(&mut buf);
        len == 38 && buf[20..] == *crate::compact::encode(addr).as_bytes()
    }
}

#[test]
fn a_bucket_is_checked_again_once_in_a_while_and_only_who_was_not_heard_lately() {
    let config = Config::default().dht;
    let mut table = table();
    for n in 0..20 {
        // The tenth answered last, the twentieth first.
        let heard = if n < 10 { 1_000 } else { 900 - n };
        table.heard(deep(0x8000_0000 | n << 8 | n), addr(n), RTT, heard);
    }
    let at = |n: u32| Some((deep(0x8000_0000 | n << 8 | n), addr(n)));
    let now = 1_000 + config.fresh_for.as_secs() as u32 - 1;
    let one = id(0x80, 77);
    let expected = [19, 18, 17, 16, 15, 14, 13, 12].map(at);
    assert_eq!(table.recheck(&one, now), expected);
    let again = now + config.recheck_interval.as_secs() as u32;
    assert_eq!(table.recheck(&one, again - 1), [None; CLOSEST]);
    assert_eq!(table.recheck(&one, again), expected);
    // Where all have answered a moment ago, nothing is asked and nothing is spent.
    let later = again + 1_000;
    for n in 0..20 {
        table.heard(deep(0x8000_0000 | n << 8 | n), addr(n), RTT, later);
    }
    assert_eq!(table.recheck(&one, later), [None; CLOSEST]);
    let stale = later + config.fresh_for.as_secs() as u32;
    assert!(table.recheck(&one, stale).iter().all(Option::is_some));
}
