use super::*;
use crate::cli::OutputArgs;
use trackerless_core::engine::TorrentStats;
use trackerless_core::io::TorrentId;
use trackerless_core::time::Duration;

struct Nothing;

impl View for Nothing {
    fn torrent(&self, _: TorrentId) -> Option<TorrentStats> {
        None
    }
}

fn app(task: DhtTask, contacts: Contacts) -> DhtApp {
    let quiet = OutputArgs {
        quiet: true,
        ..OutputArgs::default()
    };
    DhtApp::new(task, contacts, None, Reporter::new(quiet)).unwrap()
}

fn one_contact() -> Contacts {
    Contacts {
        addrs: vec!["127.0.0.1:9".parse().unwrap()],
        ..Contacts::default()
    }
}

fn with_table() -> Contacts {
    let table = b"d5:nodes26:aaaaaaaaaaaaaaaaaaaa\x7f\0\0\x01\x1a\xe1e";
    Contacts {
        saved: Some(table.to_vec().into()),
        ..one_contact()
    }
}

fn tell(app: &mut DhtApp, tag: Tag, result: Result<Done, CommandError>) -> Flow {
    let result = result.map_err(Box::new);
    app.on_event(&Event::CommandDone { tag, result }, &Nothing)
}

fn asks(flow: &Flow) -> bool {
    matches!(flow, Flow::Commands(all) if all[0].0 == TAG_TASK)
}

fn ends(app: &DhtApp, flow: &Flow, code: u8) -> bool {
    let shuts_down =
        matches!(flow, Flow::Commands(all) if all.iter().any(|(tag, _)| *tag == TAG_SHUTDOWN));
    shuts_down && app.ending.is_some_and(|(with, _)| with == code)
}

const LOOKUP: DhtTask = DhtTask::GetPeers(Id20([7; 20]));

#[test]
fn a_lookup_begins_when_a_contact_answered() {
    let mut app = app(LOOKUP, one_contact());
    app.start(&[]);
    assert!(asks(&tell(&mut app, TAG_BOOTSTRAP, Ok(Done::Ok))));
    // The patience for contacts is over, the lookup goes on.
    for _ in 0..2 * PATIENCE_SECONDS {
        assert_eq!(app.on_second(&Nothing), Flow::Continue);
    }
}

#[test]
fn dead_contacts_are_waited_for_some_seconds_and_no_lookup_is_pretended() {
    let mut app = app(LOOKUP, one_contact());
    app.start(&[]);
    let flows: Vec<Flow> = (0..PATIENCE_SECONDS)
        .map(|_| app.on_second(&Nothing))
        .collect();
    let (last, before) = flows.split_last().unwrap();
    assert!(before.iter().all(|flow| *flow == Flow::Continue));
    assert!(ends(&app, last, FAILED), "{last:?}");
    assert!(app.report.failures() == 1 && !app.asked);
    // What comes later changes nothing.
    let late = tell(&mut app, TAG_BOOTSTRAP, Ok(Done::Ok));
    assert_eq!(late, Flow::Continue);
}

#[test]
fn a_loaded_table_is_asked_when_no_other_contact_answers() {
    let mut app = app(LOOKUP, with_table());
    app.start(&[]);
    assert_eq!(tell(&mut app, TAG_LOAD, Ok(Done::Ok)), Flow::Continue);
    let refused = tell(&mut app, TAG_BOOTSTRAP, Err(CommandError::NoAnswer));
    assert!(asks(&refused), "{refused:?}");
}

#[test]
fn an_unanswered_ping_is_one_failure() {
    let mut app = app(
        DhtTask::Ping("127.0.0.1:9".parse().unwrap()),
        Contacts::default(),
    );
    app.start(&[]);
    let summary = LookupSummary {
        target: Id20([9; 20]),
        elapsed: Duration::from_millis(2_000),
        hops: 0,
        queries: 1,
        replies: 0,
        results: 0,
    };
    let done = Event::LookupDone {
        tag: TAG_TASK,
        summary,
    };
    let flow = app.on_event(&done, &Nothing);
    assert!(ends(&app, &flow, FAILED));
    let again = tell(&mut app, TAG_TASK, Err(CommandError::NoAnswer));
    assert_eq!(again, Flow::Continue);
    assert_eq!(app.report.failures(), 1);
}

fn summary(replies: u16, results: u32) -> LookupSummary {
    LookupSummary {
        target: Id20([9; 20]),
        elapsed: Duration::from_millis(20),
        hops: 1,
        queries: 9,
        replies,
        results,
    }
}

fn found(app: &mut DhtApp, found: Found) {
    let event = Event::LookupFound {
        tag: TAG_TASK,
        found,
    };
    assert_eq!(app.on_event(&event, &Nothing), Flow::Continue);
}

fn over(app: &mut DhtApp, summary: LookupSummary) -> Flow {
    let done = Event::LookupDone {
        tag: TAG_TASK,
        summary,
    };
    app.on_event(&done, &Nothing)
}

fn signing(seq: Option<i64>) -> DhtTask {
    let signing = Signing {
        key: SigningKey::from_seed(&[7; 32]),
        salt: Bytes::from_static(b"s"),
        seq,
        cas: Some(3),
    };
    DhtTask::Put(Bytes::from_static(b"1:x"), Some(Box::new(signing)))
}

/// The item that an app wants to be put, and in the place of which sequence number.
fn put_of(flow: &Flow) -> (Item, Option<i64>) {
    match flow {
        Flow::Commands(all) => match &all[0] {
            (TAG_TASK, Command::DhtPut(item, cas)) => (Item::clone(item), *cas),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_put_without_a_number_looks_first_and_takes_the_next() {
    for (known, seq) in [(None, 1), (Some(41), 42)] {
        let mut app = app(signing(None), one_contact());
        app.start(&[]);
        let flow = tell(&mut app, TAG_BOOTSTRAP, Ok(Done::Ok));
        let Flow::Commands(commands) = &flow else {
            panic!("{flow:?}");
        };
        assert!(matches!(&commands[0].1, Command::DhtGet(_, salt) if salt == "s"));
        if let Some(known) = known {
            let key = SigningKey::from_seed(&[7; 32]);
            let item = key.sign("1:y".into(), known, "s".into()).unwrap();
            found(&mut app, Found::Item(item.into()));
        }
        let flow = over(&mut app, summary(3, known.is_some().into()));
        let (item, cas) = put_of(&flow);
        assert_eq!((item.seq(), cas), (Some(seq), Some(3)));
        assert!(item.is_authentic() && item.value() == "1:x");
        assert_eq!(app.task.target(), Some(item.target().to_string()));
        assert_eq!(tell(&mut app, TAG_TASK, Ok(Done::Ok)), Flow::Continue);
        let flow = over(&mut app, summary(11, 8));
        assert!(ends(&app, &flow, DONE), "{flow:?}");
    }
    // Nobody knows what is there.
    let mut app = app(signing(None), one_contact());
    app.start(&[]);
    tell(&mut app, TAG_BOOTSTRAP, Ok(Done::Ok));
    over(&mut app, summary(0, 0));
    let flow = tell(&mut app, TAG_TASK, Err(CommandError::NoAnswer));
    assert!(ends(&app, &flow, FAILED), "{flow:?}");
}

#[test]
fn a_put_with_a_number_or_without_a_key_looks_for_nothing() {
    for (task, seq) in [
        (signing(Some(9)), Some(9)),
        (DhtTask::Put(Bytes::from_static(b"1:x"), None), None),
    ] {
        let mut app = app(task, one_contact());
        app.start(&[]);
        let flow = tell(&mut app, TAG_BOOTSTRAP, Ok(Done::Ok));
        assert_eq!(put_of(&flow).0.seq(), seq);
    }
}

#[test]
fn what_is_not_found_or_not_taken_is_a_failure_with_its_reason() {
    let addr = "127.0.0.1:9".parse().unwrap();
    let get = || DhtTask::Get(Id20([7; 20]), Bytes::new());
    let survey = Found::Survey {
        of: 0,
        again: Duration::from_secs(60),
    };
    for (task, said, (replies, results), says) in [
        (get(), None, (8, 0), "no value is kept under 0707"),
        (get(), None, (0, 0), "--bootstrap"),
        (LOOKUP, None, (8, 0), "no node knows a peer of 0707"),
        (LOOKUP, None, (0, 0), "--bootstrap"),
        (
            DhtTask::Scrape(Id20([7; 20])),
            None,
            (8, 0),
            "no node counts",
        ),
        (DhtTask::Sample(addr), None, (0, 0), "did not answer"),
        (DhtTask::Sample(addr), None, (1, 0), "BEP 51"),
        (DhtTask::Sample(addr), Some(survey), (1, 0), "no info-hash"),
        (
            DhtTask::Sample(addr),
            Some(Found::Refused(204)),
            (0, 0),
            "204",
        ),
        (signing(Some(2)), Some(Found::Refused(302)), (8, 0), "--seq"),
        (signing(Some(2)), Some(Found::Refused(301)), (8, 0), "--cas"),
        (signing(Some(2)), None, (8, 0), "no node stored"),
    ] {
        let mut app = app(task, one_contact());
        app.start(&[]);
        tell(&mut app, TAG_BOOTSTRAP, Ok(Done::Ok));
        said.into_iter().for_each(|said| found(&mut app, said));
        let summary = summary(replies, results);
        let why = app.why_nothing(&summary);
        assert!(why.contains(says) && !why.contains('\n'), "{why}");
        let flow = over(&mut app, summary);
        assert!(ends(&app, &flow, FAILED) && app.report.failures() == 1);
    }
}

#[test]
fn a_single_question_waits_for_no_contacts() {
    let addr = "127.0.0.1:9".parse().unwrap();
    let mut app = app(DhtTask::Sample(addr), Contacts::default());
    assert_eq!(app.start(&[]), [(TAG_TASK, Command::DhtSample(addr))]);
    found(&mut app, Found::InfoHash(Id20([1; 20])));
    let flow = over(&mut app, summary(1, 1));
    assert!(ends(&app, &flow, DONE));
}

#[test]
fn an_item_is_printed_as_what_its_value_is() {
    for (bencoded, value, text) in [
        ("5:hello", json!("hello"), "hello"),
        ("i-7e", json!(-7), "-7"),
        (
            "d1:ali1e1:xee",
            json!({ "a": [1, "x"] }),
            r#"{"a":[1,"x"]}"#,
        ),
    ] {
        let item = Item::immutable(Bytes::copy_from_slice(bencoded.as_bytes())).unwrap();
        let row = items::row(&item);
        assert_eq!((&row["value"], &row["key"]), (&value, &json!(null)));
        assert_eq!(row["target"], json!(item.target().to_string()));
        assert_eq!(items::text(&item), text);
    }
    // No bytes that a terminal obeys.
    let item = Item::text(b"\x1b[2J").unwrap();
    assert_eq!(items::text(&item), r#""\u001b[2J""#);
    let item = Item::text(&[0xff]).unwrap();
    assert_eq!(items::row(&item)["value"], json!(null));
    assert_eq!(items::text(&item), "313aff");
    let key = SigningKey::from_seed(&[7; 32]);
    let row = items::row(&key.sign("1:x".into(), 5, "s".into()).unwrap());
    assert_eq!((&row["seq"], &row["salt"]), (&json!(5), &json!("s")));
    assert_eq!(row["key"].as_str().map(str::len), Some(64));
}

#[test]
fn the_target_of_a_ping_is_whom_it_asks() {
    let addr = "127.0.0.1:9".parse().unwrap();
    let target = DhtTask::Ping(addr).target();
    assert_eq!(target.as_deref(), Some("127.0.0.1:9"));
    assert_eq!(LOOKUP.target(), Some("07".repeat(20)));
}
