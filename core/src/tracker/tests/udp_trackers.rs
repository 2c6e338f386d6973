//! Trackers over UDP (BEP 15), and the order of tiers (BEP 12).

use super::*;

const ONE: &str = "udp://10.1.0.1:80/announce";
const TWO: &str = "udp://10.1.0.2:80";

#[test]
fn a_tracker_is_connected_to_announced_to_and_asked_again_after_its_interval() {
    let mut world = World::with(&[&[ONE]], |_| {});
    let request = world.announce(1_800);
    assert_eq!(event_of(&request), 2, "started");
    assert_eq!(word(&request, 0) << 16 | word(&request, 4), 99);
    assert_eq!(request[16..36], [7; 20]);
    assert_eq!((request[63], request[71], request[79]), (2, 3, 1));
    assert_eq!(word(&request, 92), 200);
    assert_eq!(&request[98..], b"\x02\x09/announce");
    assert_eq!(world.peers(), [addr("10.0.0.9:80")]);
    let status = world.last_status();
    assert_eq!((&*status.url, status.status), (ONE, SourceStatus::Idle));
    assert_eq!(
        (status.seeds, status.leechers, status.peers),
        (Some(5), Some(4), 1)
    );
    let wait = status.next_update.unwrap();
    assert!((secs(1_800)..=secs(1_980)).contains(&wait), "{wait:?}");

    world.pass(secs(1_799));
    assert!(world.sent.is_empty());
    world.until_sent(secs(200));
    // The connection is older than a minute: a new one is asked for.
    let request = world.announce(1_800);
    assert_eq!(event_of(&request), 0);
}

#[test]
fn a_connection_is_used_for_a_minute_and_shared() {
    let mut world = World::with(&[&[ONE]], |_| {});
    world.announce(1_800);
    world.pass(secs(59));
    world.add(torrent(1), &[&[ONE]]);
    assert_eq!(action(&world.next_sent().1), 1, "no connect is needed");
    world.pass(secs(1));
    world.add(torrent(2), &[&[ONE]]);
    assert_eq!(action(&world.next_sent().1), 0);
}

#[test]
fn a_datagram_is_repeated_after_15_seconds_times_2_to_the_n() {
    let mut world = World::with(&[&[ONE]], |config| config.retry = secs(60));
    let start = world.now;
    world.pass(secs(7_000));
    let mut expected = 0;
    let mut seen = Vec::new();
    for n in 0..9 {
        seen.push(start + secs(expected));
        expected += 15 << n;
    }
    let times: Vec<Instant> = world.sent.iter().map(|(at, ..)| *at).collect();
    assert_eq!(times, seen);
    let first = &world.sent[0].2;
    assert!(
        world.sent.iter().all(|(_, _, again)| again == first),
        "one transaction"
    );
    world.sent.clear();
    // Then it has failed, and begins anew after a pause.
    world.pass(secs(expected - 7_000));
    let status = world.last_status();
    assert_eq!(status.status, SourceStatus::Failed);
    assert_eq!(status.message.as_deref(), Some("no answer"));
    world.pass(secs(70));
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn an_announce_is_repeated_too_and_connects_anew_when_the_connection_is_old() {
    let mut world = World::with(&[&[ONE]], |_| {});
    let (_, first) = world.connect();
    let mut actions = Vec::new();
    world.pass(secs(15 + 30 + 60));
    while let Some((_, _, request)) = world.sent.pop_front() {
        actions.push(action(&request));
        if action(&request) == 1 {
            assert_eq!(request, first);
        }
    }
    // At 15 and 45 seconds again; at 105 the connection has expired.
    assert_eq!(actions, [1, 1, 0]);
}

#[test]
fn only_the_right_transaction_from_the_endpoint_asked_counts() {
    let mut world = World::with(&[&[ONE]], |_| {});
    let (to, request) = world.next_sent();
    let good = answer(&request, 0, &[0, 1]);
    let mut wrong = good.clone();
    wrong[5] ^= 1;
    assert!(!world.trackers.is_answer(to, &wrong));
    for from in ["10.1.0.1:81", "10.1.0.2:80"] {
        assert!(!world.trackers.is_answer(addr(from), &good), "{from}");
        world.datagram(addr(from), &good);
    }
    world.datagram(to, &wrong);
    // Right, but not what was asked, or too short.
    world.datagram(to, &answer(&request, 1, &[1, 1, 1]));
    world.datagram(to, &answer(&request, 2, &[1, 1, 1]));
    world.datagram(to, &answer(&request, 9, &[1]));
    world.datagram(to, &answer(&request, 0, &[1]));
    world.datagram(to, &good[..7]);
    world.datagram(to, &[]);
    // At another socket of ours.
    world.give(Input::Datagram {
        socket: SocketId(1),
        from: to,
        payload: &good,
    });
    assert!(world.sent.is_empty() && world.peers().is_empty());
    world.datagram(to, &good);
    assert_eq!(action(&world.next_sent().1), 1);
    // The transaction is over: the same answer once more is nobody's.
    assert!(!world.trackers.is_answer(to, &good));
}

#[test]
fn the_next_tier_is_asked_when_one_is_slow_and_its_answer_still_counts() {
    let mut world = World::with(&[&[ONE], &[TWO]], |config| {
        config.scrape_interval = secs(1_000_000);
    });
    let (one, slow) = world.next_sent();
    world.pass(secs(9));
    assert!(world.sent.is_empty());
    world.pass(secs(1));
    let request = world.announce(1_800);
    assert_eq!(event_of(&request), 2);
    assert_eq!(request.len(), 98, "no path, no option");
    let failed = world
        .statuses()
        .into_iter()
        .filter(|status| status.status == SourceStatus::Failed);
    assert_eq!(failed.map(|status| &*status.url).collect::<Vec<_>>(), [ONE]);
    world.sent.clear();
    world.datagram(one, &answer(&slow, 0, &[0, 1]));
    let (_, request) = world.next_sent();
    assert_eq!(event_of(&request), 2);
    world.datagram(one, &answer(&request, 1, &[1_800, 0, 1]));
    // From now on the first tier is asked, and the second no more.
    for _ in 0..3 {
        world.until_sent(secs(2_000));
        assert_eq!(world.sent[0].1, one);
        world.announce(1_800);
        assert!(world.sent.is_empty());
    }
}

#[test]
fn an_error_is_told_and_the_next_is_asked_at_once() {
    let mut world = World::with(&[&[ONE], &[TWO]], |config| config.max_text = 12);
    let (to, request) = world.connect();
    let mut refusal = answer(&request, 3, &[]);
    refusal.extend_from_slice(b"not\x07registered here");
    world.datagram(to, &refusal);
    let failed = world
        .statuses()
        .into_iter()
        .rfind(|status| status.status == SourceStatus::Failed);
    let failed = failed.expect("it is told").clone();
    assert_eq!(failed.message.as_deref(), Some("not\u{fffd}register"));
    assert!(failed.next_update.unwrap() >= secs(30));
    assert_eq!(world.next_sent().0, addr("10.1.0.2:80"));
}

#[test]
fn pauses_double_up_to_the_longest() {
    let mut world = World::with(&[&[ONE]], |config| {
        config.max_retry = secs(200);
        config.udp_retries = 0;
    });
    let mut pauses = Vec::new();
    for _ in 0..6 {
        world.events.clear();
        world.pass(secs(16));
        let status = world.last_status();
        assert_eq!(status.status, SourceStatus::Failed);
        let pause = status.next_update.unwrap();
        pauses.push(pause.as_secs());
        world.pass(pause);
    }
    let expected = [30, 60, 120, 200, 200, 200];
    for (pause, expected) in pauses.iter().zip(expected) {
        assert!(
            (expected..=expected * 11 / 10).contains(pause),
            "{pauses:?}"
        );
    }
}

#[test]
fn an_interval_is_kept_within_bounds() {
    for (said, least, most) in [
        (0, 60, 66),
        (1_000_000, 7_200, 7_920),
        (u32::MAX, 7_200, 7_920),
    ] {
        let mut world = World::with(&[&[ONE]], |_| {});
        world.announce(said);
        let wait = world.last_status().next_update.unwrap().as_secs();
        assert!((least..=most).contains(&wait), "{said}: {wait}");
    }
}

#[test]
fn a_torrent_that_lost_everybody_asks_earlier_but_not_too_early() {
    let mut world = World::with(&[&[ONE]], |_| {});
    world.announce(1_800);
    world.give(Input::Want(TORRENT, Want::Anybody));
    world.pass(secs(59));
    assert!(world.sent.is_empty());
    world.pass(secs(1));
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn nothing_is_sent_for_who_wants_nobody_or_has_no_port_and_no_peers_asked_for_with_enough() {
    let mut world = World::new(|_| {});
    world.give(Input::SocketDown(SOCKET));
    world.give(Input::SocketDown(SocketId(1)));
    world.add(TORRENT, &[&[ONE]]);
    world.pass(secs(100));
    assert!(world.sent.is_empty());
    world.give(Input::Want(TORRENT, Want::Nobody));
    world.give(Input::SocketUp(SOCKET, addr("10.0.0.1:6881")));
    world.pass(secs(100));
    assert!(world.sent.is_empty());
    world.give(Input::Want(TORRENT, Want::Enough));
    world.pass(secs(1));
    let request = world.announce(60);
    assert_eq!(word(&request, 92), 0);
    world.give(Input::Want(TORRENT, Want::Nobody));
    world.pass(secs(10_000));
    assert!(world.sent.is_empty());
}

#[test]
fn peers_are_bounded_and_nobody_far_away_tells_of_somebody_near() {
    let mut world = World::with(&[&["udp://8.8.8.8:80"]], |config| {
        config.max_answer_peers = 3
    });
    let (to, request) = world.connect();
    let mut reply = answer(&request, 1, &[60, 0, 0]);
    // Port 0, our own network, this machine: of no use.
    reply.extend_from_slice(&[9, 9, 9, 9, 0, 0]);
    reply.extend_from_slice(&[10, 0, 0, 1, 0, 1]);
    world.datagram(to, &reply);
    assert_eq!(world.peers(), []);
    assert_eq!(world.last_status().peers, 0);
    world.pass(secs(66));
    let (to, request) = world.connect();
    let mut reply = answer(&request, 1, &[60, 0, 0]);
    for last in 1..200 {
        reply.extend_from_slice(&[9, 9, 9, last, 0, 1]);
    }
    world.datagram(to, &reply);
    assert_eq!(world.peers().len(), 3);
}

#[test]
fn over_ipv6_peers_have_18_bytes() {
    let mut world = World::with(&[&["udp://[fd00::9]:80/announce"]], |_| {});
    let (to, request) = world.connect();
    let mut reply = answer(&request, 1, &[60, 0, 1]);
    let peer = crate::compact::encode(addr("[fd00::77]:4321"));
    reply.extend_from_slice(peer.as_bytes());
    world.datagram(to, &reply);
    assert_eq!(world.peers(), [addr("[fd00::77]:4321")]);
}

#[test]
fn a_name_is_resolved_and_its_addresses_are_tried_in_turn() {
    let mut world = World::with(&[&["udp://t.example:80/announce"]], |_| {});
    let (token, job) = world.jobs.pop_front().unwrap();
    assert!(matches!(job, Job::Resolve { host, port: 80 } if host == "t.example"));
    let ips = ["224.0.0.1", "10.1.0.1", "fd00::9"].map(|ip| ip.parse().unwrap());
    world.give(Input::JobDone(token, JobResult::Resolved(ips.to_vec())));
    world.pass(secs(15 + 30));
    let asked: Vec<String> = world
        .sent
        .iter()
        .map(|(_, to, _)| format!("{to}"))
        .collect();
    assert_eq!(asked, ["10.1.0.1:80", "[fd00::9]:80", "10.1.0.1:80"]);
    assert_ne!(
        world.sent[0].2, world.sent[1].2,
        "another endpoint, another transaction"
    );
    assert!(
        !world
            .trackers
            .is_answer(addr("[fd00::9]:80"), &answer(&world.sent[1].2, 0, &[0, 1]))
    );
}

#[test]
fn a_name_that_leads_nowhere_or_to_a_forbidden_place_has_failed() {
    for (url, ips, message) in [
        (
            "udp://t.example:80",
            &[][..],
            "it has no address we can reach",
        ),
        (
            "udp://t.example:80",
            &["0.0.0.0"],
            "nobody can be at its address",
        ),
        ("udp://t.example:80/x", &["127.0.0.1"], "on this machine"),
    ] {
        let mut world = World::with(&[&[url]], |_| {});
        let (token, _) = world.jobs.pop_front().unwrap();
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        world.give(Input::JobDone(token, JobResult::Resolved(ips)));
        let said = world.last_status().message.clone().unwrap();
        assert!(said.starts_with(message), "{said}");
        assert!(world.sent.is_empty());
    }
    let mut world = World::with(&[&["udp://t.example:80"]], |_| {});
    let (token, _) = world.jobs.pop_front().unwrap();
    world.give(Input::JobDone(token, JobResult::Failed(JobError::NotFound)));
    assert_eq!(
        world.last_status().message.as_deref(),
        Some("its name is not known")
    );
    let mut world = World::with(&[&[ONE]], |_| {});
    world.give(Input::SendFailed(addr("10.1.0.1:80")));
    assert_eq!(
        world.last_status().message.as_deref(),
        Some("it cannot be reached")
    );
}

#[test]
fn requests_and_connections_are_bounded() {
    let mut world = World::new(|config| {
        config.max_requests = 3;
        config.max_connections = 2;
        config.udp_retries = 0;
    });
    for n in 0..10 {
        world.add(torrent(n), &[&[&format!("udp://10.1.0.{n}:80", n = n + 1)]]);
        assert!(world.trackers.requests.len() <= 3);
    }
    assert_eq!(world.sent.len(), 3);
    // When requests are over, others have their turn.
    let mut served = alloc::collections::BTreeSet::new();
    for _ in 0..300 {
        while let Some((_, to, request)) = world.sent.pop_front() {
            served.insert(to);
            let words: &[u32] = if action(&request) == 0 {
                &[0, 1]
            } else {
                &[1_800, 0, 0]
            };
            world.datagram(to, &answer(&request, action(&request), words));
            assert!(world.trackers.connections.len() <= 2);
            assert!(world.trackers.requests.len() <= 3);
        }
        world.pass(secs(1));
    }
    assert_eq!(served.len(), 10);
    assert!(world.trackers.transactions.len() <= world.trackers.requests.len());
}

#[test]
fn timers_are_handled_a_few_at_a_time() {
    let mut world = World::new(|config| config.timers_per_input = 2);
    for n in 0..7 {
        world.add(torrent(n), &[&[ONE]]);
    }
    world.pass(secs(14));
    world.sent.clear();
    world.now = world.now + secs(2);
    world.give(Input::Tick);
    assert_eq!(world.sent.len(), 2);
    world.tick();
    assert_eq!(world.sent.len(), 7);
}

#[test]
fn backups_are_scraped_once_somebody_works() {
    let mut world = World::with(&[&[ONE], &[TWO]], |_| {});
    world.announce(7_200);
    let (to, request) = world.connect();
    assert_eq!((to, action(&request)), (addr("10.1.0.2:80"), 2));
    assert_eq!(request[16..], [7; 20]);
    world.datagram(to, &answer(&request, 2, &[11, 0, 22]));
    let status = world.last_status();
    assert_eq!(
        (&*status.url, status.seeds, status.leechers),
        (TWO, Some(11), Some(22))
    );
    world.pass(secs(1_700));
    assert!(world.sent.is_empty());
    world.pass(secs(200));
    assert!(!world.sent.is_empty());
}

#[test]
fn a_scrape_that_hangs_keeps_no_other_waiting() {
    let backup = |n: usize| format!("http://t{n}.example/announce");
    let backups: Vec<String> = (0..6).map(backup).collect();
    let tiers: Vec<Vec<&str>> = core::iter::once(ONE)
        .chain(backups.iter().map(|url| &**url))
        .map(|url| [url].into())
        .collect();
    let tiers: Vec<&[&str]> = tiers.iter().map(|tier| &**tier).collect();
    let mut world = World::with(&tiers, |config| config.max_scrapes = 4);
    world.announce(7_200);
    let gets = |world: &mut World| -> Vec<(JobToken, String)> {
        let gets = world.jobs.drain(..).filter_map(|(token, job)| match job {
            Job::Get { url, .. } => Some((token, url)),
            Job::Resolve { .. } => None,
        });
        gets.collect()
    };
    // So many at once, and each that is over makes room for another.
    let first = gets(&mut world);
    let hosts: Vec<&str> = first.iter().map(|(_, url)| &url[..17]).collect();
    assert_eq!(
        hosts,
        [
            "http://t0.example",
            "http://t1.example",
            "http://t2.example",
            "http://t3.example"
        ]
    );
    world.pass(secs(20));
    assert!(gets(&mut world).is_empty());
    let counts = b"d5:filesd20:\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07d8:completei8e10:incompletei9eeee";
    world.http(first[2].0, 200, None, counts);
    let status = world.last_status();
    assert_eq!((&*status.url, status.seeds), (&*backups[2], Some(8)));
    let next = gets(&mut world);
    assert_eq!(next.len(), 1);
    assert!(next[0].1.starts_with("http://t4.example/scrape"));
    let silent = JobResult::Failed(JobError::TimedOut);
    world.give(Input::JobDone(first[0].0, silent));
    world.tick();
    assert!(
        gets(&mut world)[0]
            .1
            .starts_with("http://t5.example/scrape")
    );
}

#[test]
fn a_look_begins_so_many_and_the_rest_is_due_at_once() {
    let mut world = World::new(|config| (config.begun_per_look, config.max_scrapes) = (1, 8));
    world.add(
        TORRENT,
        &[&[ONE], &["udp://10.1.0.3:80"], &["udp://10.1.0.4:80"]],
    );
    let (from, request) = world.connect();
    let reply = answer(&request, 1, &[7_200, 4, 5]);
    let (socket, payload) = (SOCKET, &reply[..]);
    world.give(Input::Datagram {
        socket,
        from,
        payload,
    });
    for scrapes in 1..=2 {
        assert_eq!(world.trackers.next_timeout(), Some(world.now));
        world.give(Input::Tick);
        assert_eq!(world.sent.len(), scrapes);
    }
}

#[test]
fn what_is_no_url_is_told_and_the_rest_is_asked() {
    let world = World::with(&[&["wss://t.example", "udp://t.example"], &[ONE]], |_| {});
    let disabled = world
        .statuses()
        .into_iter()
        .filter(|s| s.status == SourceStatus::Disabled);
    let told: Vec<_> = disabled
        .map(|s| (&*s.url, s.message.clone().unwrap()))
        .collect();
    assert_eq!(told.len(), 2);
    assert_eq!(
        told[0],
        ("wss://t.example", format!("{}", UrlError::Scheme))
    );
    assert_eq!(told[1], ("udp://t.example", format!("{}", UrlError::Port)));
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn announces_of_many_torrents_do_not_stay_in_step() {
    let mut world = World::new(|config| config.max_requests = 1_000);
    for n in 0..200 {
        world.add(torrent(n), &[&[ONE]]);
    }
    let mut times = Vec::new();
    let start = world.now;
    while world.now < start + secs(3_000) {
        while let Some((at, to, request)) = world.sent.pop_front() {
            if action(&request) == 1 && at > start {
                times.push(at.saturating_since(start).as_secs() / 10);
            }
            let words: &[u32] = if action(&request) == 0 {
                &[0, 1]
            } else {
                &[1_800, 0, 0]
            };
            let reply = answer(&request, action(&request), words);
            world.datagram(to, &reply);
        }
        world.pass(secs(1));
    }
    assert_eq!(times.len(), 200);
    let busiest = (0..300)
        .map(|slot| times.iter().filter(|time| **time == slot).count())
        .max();
    assert!(busiest.unwrap() < 40, "{busiest:?} in ten seconds");
}
