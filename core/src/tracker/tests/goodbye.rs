//! What is said at the end, and only then.

use super::*;

const ONE: &str = "udp://10.1.0.1:80/announce";
const WEB: &str = "http://8.8.8.8/announce";
const ANSWER: &[u8] = b"d8:completei1e10:incompletei2e8:intervali1800e5:peers0:e";

impl World {
    fn stop(&mut self) {
        let figures = Figures {
            uploaded: 50,
            downloaded: 60,
            left: 0,
        };
        self.give(Input::Stop(TORRENT, figures));
    }
}

#[test]
fn a_tracker_that_knows_us_is_told_and_waited_for() {
    let mut world = World::with(&[&[ONE]], |_| {});
    world.announce(1_800);
    world.stop();
    assert!(!world.stopped());
    let (to, request) = world.next_sent();
    assert_eq!(event_of(&request), 3);
    assert_eq!((request[63], request[71], request[79]), (60, 0, 50));
    assert_eq!(word(&request, 92), 0, "no peers are wanted");
    world.events.clear();
    world.datagram(to, &answer(&request, 1, &[1_800, 0, 0]));
    assert_eq!(world.events, [Event::Stopped(TORRENT)]);
    assert!(world.trackers.is_empty() && world.trackers.next_timeout().is_none());
}

#[test]
fn with_an_old_connection_a_new_one_is_asked_for_first() {
    let mut world = World::with(&[&[ONE]], |_| {});
    world.announce(1_800);
    world.pass(secs(100));
    world.stop();
    let (to, request) = world.connect();
    assert_eq!(event_of(&request), 3);
    let mut refusal = answer(&request, 3, &[]);
    refusal.extend_from_slice(b"no");
    world.datagram(to, &refusal);
    assert!(world.stopped(), "an error ends it as well");
}

#[test]
fn a_goodbye_is_not_waited_for_longer_than_the_limit() {
    let mut world = World::with(&[&[ONE], &[WEB]], |config| config.stop_patience = secs(3));
    world.announce(1_800);
    world.stop();
    world.pass(secs(2));
    assert!(!world.stopped());
    world.pass(secs(1));
    assert!(world.stopped());
    assert!(world.trackers.requests.is_empty() && world.trackers.transactions.is_empty());
    assert_eq!(world.sent.len(), 1, "it is said once");
}

#[test]
fn nobody_is_told_who_was_not_told_before() {
    // Not begun, or only the connection was asked for.
    for wait in [false, true] {
        let mut world = World::new(|_| {});
        if wait {
            world.add(TORRENT, &[&[ONE]]);
            assert_eq!(world.sent.len(), 1);
        }
        world.sent.clear();
        world.stop();
        assert!(world.stopped());
        world.pass(secs(100));
        assert!(world.sent.is_empty() && world.jobs.is_empty());
    }
}

#[test]
fn a_tracker_that_never_answered_is_not_waited_for() {
    let mut world = World::with(&[&[WEB]], |_| {});
    let (token, url, _) = world.next_get();
    assert!(url.contains("event=started"));
    world.stop();
    assert!(world.stopped());
    assert!(world.events.contains(&Event::Cancel(token)));
    // Its answer comes too late to matter.
    world.http(token, 200, None, ANSWER);
    assert!(world.peers().is_empty());
}

#[test]
fn a_refused_start_needs_no_goodbye() {
    let mut world = World::with(&[&[WEB]], |_| {});
    let (token, ..) = world.next_get();
    world.http(token, 200, None, b"d14:failure reason2:noe");
    world.stop();
    assert!(world.stopped() && world.jobs.is_empty());
}

#[test]
fn over_http_it_is_one_more_request() {
    let mut world = World::with(&[&[WEB]], |_| {});
    let (token, ..) = world.next_get();
    world.http(token, 200, None, ANSWER);
    world.stop();
    let (token, url, _) = world.next_get();
    assert!(
        url.contains("event=stopped") && url.contains("numwant=0"),
        "{url}"
    );
    assert!(!world.stopped());
    world.http(token, 200, None, ANSWER);
    assert!(world.stopped());
}

#[test]
fn completion_is_told_once_to_who_heard_that_something_was_missing() {
    let mut world = World::with(&[&[ONE]], |_| {});
    world.announce(1_800);
    world.figures.left = 0;
    world.give(Input::Completed(TORRENT));
    world.tick();
    let (to, request) = world.next_sent();
    assert_eq!(event_of(&request), 1);
    // Unanswered, it is said again; answered, no more.
    world.pass(secs(15));
    let (_, again) = world.next_sent();
    assert_eq!(again, request);
    world.datagram(to, &answer(&request, 1, &[1_800, 0, 0]));
    world.give(Input::Want(TORRENT, Want::Enough));
    world.until_sent(secs(2_000));
    assert_eq!(event_of(&world.connect().1), 0);
}

#[test]
fn who_leaves_when_complete_says_both_one_after_the_other() {
    let mut world = World::with(&[&[ONE]], |_| {});
    world.announce(1_800);
    world.figures.left = 0;
    world.give(Input::Completed(TORRENT));
    // It leaves at once; the goodbye is to come after what it follows.
    world.stop();
    let (to, request) = world.next_sent();
    assert_eq!((event_of(&request), request[71]), (1, 0));
    assert!(world.sent.is_empty());
    world.datagram(to, &answer(&request, 1, &[1_800, 0, 0]));
    let (to, request) = world.next_sent();
    assert_eq!(event_of(&request), 3);
    assert!(!world.stopped());
    world.datagram(to, &answer(&request, 1, &[1_800, 0, 0]));
    assert!(world.stopped());

    let mut world = World::with(&[&[WEB]], |_| {});
    let (token, ..) = world.next_get();
    world.http(token, 200, None, ANSWER);
    world.give(Input::Completed(TORRENT));
    world.stop();
    for event in ["completed", "stopped"] {
        assert!(!world.stopped());
        let (token, url, _) = world.next_get();
        assert!(url.ends_with(&format!("&event={event}")), "{url}");
        world.http(token, 200, None, ANSWER);
    }
    assert!(world.stopped());
}

#[test]
fn a_seed_from_the_start_completes_nothing() {
    let mut world = World::new(|_| {});
    world.figures.left = 0;
    world.add(TORRENT, &[&[ONE]]);
    assert_eq!(event_of(&world.announce(1_800)), 2);
    world.give(Input::Completed(TORRENT));
    world.pass(secs(100));
    assert!(world.sent.is_empty());
}

#[test]
fn completion_during_the_first_announce_follows_it() {
    let mut world = World::with(&[&[ONE]], |_| {});
    let (to, request) = world.connect();
    world.figures.left = 0;
    world.give(Input::Completed(TORRENT));
    world.tick();
    assert!(world.sent.is_empty());
    world.datagram(to, &answer(&request, 1, &[1_800, 0, 0]));
    assert_eq!(event_of(&world.next_sent().1), 1);
}
