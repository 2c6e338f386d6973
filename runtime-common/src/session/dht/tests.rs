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

#[test]
fn the_target_of_a_ping_is_whom_it_asks() {
    let addr = "127.0.0.1:9".parse().unwrap();
    let target = DhtTask::Ping(addr).target();
    assert_eq!(target.as_deref(), Some("127.0.0.1:9"));
    assert_eq!(LOOKUP.target(), Some("07".repeat(20)));
}
