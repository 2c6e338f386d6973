//! Trackers over HTTP: what is fetched, where redirects lead, what answers come to.

use super::*;

const WEB: &str = "http://t.example/announce?k=1";
const ANSWER: &[u8] = b"d8:completei1e10:incompletei2e8:intervali1800e\
                        12:min intervali900e5:peers6:\x09\x09\x09\x09\x00\x50e";

#[test]
fn an_announce_is_a_job_and_its_answer_has_the_peers() {
    let mut world = World::with(&[&[WEB]], |_| {});
    let (token, url, redirected_by) = world.next_get();
    assert!(
        url.starts_with("http://t.example/announce?k=1&info_hash=%07%07"),
        "{url}"
    );
    assert!(url.contains("&peer_id=-TL0010-abcdefghijkl&port=6881&uploaded=1&downloaded=2&left=3"));
    assert!(url.contains("numwant=200") && url.ends_with("&event=started"));
    assert_eq!(redirected_by, None);
    world.http(token, 200, None, ANSWER);
    assert_eq!(world.peers(), [addr("9.9.9.9:80")]);
    let status = world.last_status();
    assert_eq!(
        (status.status, status.seeds, status.leechers),
        (SourceStatus::Idle, Some(1), Some(2))
    );
    // The shortest interval holds even for who misses everybody.
    world.give(Input::Want(TORRENT, Want::Anybody));
    world.pass(secs(899));
    assert!(world.jobs.is_empty());
    world.pass(secs(1));
    let (_, url, _) = world.next_get();
    assert!(!url.contains("event="), "{url}");
    assert!(world.sent.is_empty());
}

#[test]
fn what_is_no_good_answer_is_told_and_the_next_is_asked() {
    for (status, body, message) in [
        (200, &b"d14:failure reason6:bannede"[..], "banned"),
        (403, b"d14:failure reason6:bannede", "banned"),
        (404, b"<html>", "HTTP status 404"),
        (500, ANSWER, "HTTP status 500"),
        (200, b"<html>", "its answer is no bencoded dictionary"),
        (200, &[b'd'; 600_000], "its answer is too long"),
        (302, b"", "HTTP status 302"),
    ] {
        let mut world = World::with(&[&[WEB], &["http://o.example/announce"]], |_| {});
        let (token, ..) = world.next_get();
        world.http(token, status, None, body);
        let failed = world
            .statuses()
            .into_iter()
            .rfind(|s| s.status == SourceStatus::Failed);
        assert_eq!(failed.unwrap().message.as_deref(), Some(message));
        assert!(
            world
                .next_get()
                .1
                .starts_with("http://o.example/announce?info_hash=")
        );
        assert!(world.peers().is_empty());
    }
    for (error, message) in [
        (JobError::NotFound, "its name is not known"),
        (JobError::TimedOut, "no answer"),
        (JobError::TooLarge, "its answer is too long"),
        (
            JobError::Forbidden,
            "at an address that may not be contacted",
        ),
        (JobError::Unsupported, "HTTP is not spoken here"),
        (JobError::Unreachable, "it cannot be reached"),
    ] {
        let mut world = World::with(&[&[WEB]], |_| {});
        let (token, ..) = world.next_get();
        world.give(Input::JobDone(token, JobResult::Failed(error)));
        assert_eq!(world.last_status().message.as_deref(), Some(message));
    }
}

#[test]
fn a_redirect_is_followed_a_few_times_and_never_to_somebody_nearer() {
    let mut world = World::with(&[&[WEB]], |config| config.max_redirects = 2);
    let (token, ..) = world.next_get();
    world.http(token, 302, Some("/other/announce?x=1"), b"");
    let (token, url, by) = world.next_get();
    assert_eq!(url, "http://t.example/other/announce?x=1");
    assert_eq!(by, Some(addr("8.8.8.8:1").ip()));
    world.http(token, 307, Some("https://o.example/announce"), b"");
    let (token, url, _) = world.next_get();
    assert_eq!(url, "https://o.example/announce");
    world.http(token, 301, Some("https://p.example/announce"), b"");
    assert_eq!(
        world.last_status().message.as_deref(),
        Some("it redirects too often")
    );
    assert!(world.jobs.is_empty());

    for (location, message) in [
        (
            "http://127.0.0.1/announce",
            "redirected from a public to a private address",
        ),
        (
            "http://[::1]/announce",
            "redirected from a public to a private address",
        ),
        (
            "http://192.168.1.1/announce",
            "redirected from a public to a private address",
        ),
        (
            "http://[::ffff:10.0.0.1]/announce",
            "redirected from a public to a private address",
        ),
        ("udp://9.9.9.9:1/announce", "it redirects to what is no URL"),
        ("file:///etc/passwd", "it redirects to what is no URL"),
        ("http://", "it redirects to what is no URL"),
    ] {
        let mut world = World::with(&[&[WEB]], |_| {});
        let (token, ..) = world.next_get();
        world.http(token, 302, Some(location), b"");
        let said = world.last_status().message.clone().unwrap();
        assert!(said.starts_with(message), "{location}: {said}");
        assert!(world.jobs.is_empty(), "{location}");
    }
}

#[test]
fn where_an_answer_does_not_count_peers_it_is_scraped() {
    let mut world = World::with(&[&[WEB]], |_| {});
    let (token, ..) = world.next_get();
    world.http(token, 200, None, b"d8:intervali1800e5:peers0:e");
    let (token, url, _) = world.next_get();
    assert!(
        url.starts_with("http://t.example/scrape?k=1&info_hash=%07"),
        "{url}"
    );
    let hash = [7u8; 20];
    let body = [
        &b"d5:filesd20:"[..],
        &hash,
        b"d8:completei8e10:incompletei9eeee",
    ]
    .concat();
    world.http(token, 200, None, &body);
    let status = world.last_status();
    assert_eq!((status.seeds, status.leechers), (Some(8), Some(9)));
    assert!(status.next_update.is_some());
    // One that cannot be scraped is left alone.
    let mut world = World::with(&[&["http://t.example/a"]], |_| {});
    let (token, ..) = world.next_get();
    world.http(token, 200, None, b"d8:intervali1800e5:peers0:e");
    world.pass(secs(1_700));
    assert!(world.jobs.is_empty());
    assert_eq!(world.last_status().status, SourceStatus::Idle);
}

#[test]
fn a_tracker_hears_its_id_again_and_is_believed_where_we_are() {
    let mut world = World::with(&[&[WEB]], |_| {});
    let (token, ..) = world.next_get();
    let body = b"d11:external ip4:\x05\x06\x07\x088:completei1e8:intervali60e10:tracker id3:a&be";
    world.http(token, 200, None, body);
    let told = Event::ExternalIp {
        voter: addr("8.8.8.8:1").ip(),
        claim: addr("5.6.7.8:1").ip(),
    };
    assert!(world.events.contains(&told));
    world.pass(secs(70));
    let (_, url, _) = world.next_get();
    assert!(url.ends_with("&trackerid=a%26b"), "{url}");
}

#[test]
fn who_says_no_interval_is_asked_after_the_usual_one() {
    let mut world = World::with(&[&[WEB]], |config| config.interval = secs(500));
    let (token, ..) = world.next_get();
    world.http(token, 200, None, b"d8:completei1ee");
    let wait = world.last_status().next_update.unwrap().as_secs();
    assert!((500..=550).contains(&wait), "{wait}");
}

#[test]
fn an_answer_to_another_kind_of_job_changes_nothing() {
    let mut world = World::with(&[&[WEB]], |_| {});
    let (token, ..) = world.next_get();
    world.events.clear();
    world.give(Input::JobDone(token, JobResult::Resolved(Vec::new())));
    world.give(Input::JobDone(JobToken(77), JobResult::Written));
    assert!(world.events.is_empty());
    world.http(token, 200, None, ANSWER);
    assert_eq!(world.peers().len(), 1);
}
