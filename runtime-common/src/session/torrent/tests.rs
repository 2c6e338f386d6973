use super::*;
use crate::cli::OutputArgs;
use trackerless_core::engine::TorrentState;
use trackerless_core::io::Source;
use trackerless_core::slab::Key;

const TORRENT: TorrentId = TorrentId(Key {
    index: 0,
    generation: 0,
});

struct Figures(TorrentStats);

impl View for Figures {
    fn torrent(&self, _: TorrentId) -> Option<TorrentStats> {
        Some(self.0)
    }
}

fn figures(done: u64, uploaded: u64) -> Figures {
    Figures(TorrentStats {
        state: TorrentState::Downloading,
        done,
        total: 100,
        downloaded: done,
        uploaded,
        uploaded_before: 0,
        down_rate: 0,
        up_rate: 0,
        peers: 0,
        seeds: 0,
    })
}

fn app(goal: Goal) -> TorrentApp {
    let plan = TorrentPlan {
        add: AddTorrent::new(Source::Magnet("x".into())),
        name: "x".into(),
        goal,
        folder: PathBuf::from("."),
        contacts: Contacts::default(),
        tcp: true,
        obstacle: Default::default(),
        state: None,
        outer: Outer::default(),
    };
    let quiet = OutputArgs {
        quiet: true,
        ..OutputArgs::default()
    };
    let mut app = TorrentApp::new(plan, Reporter::new(quiet));
    assert!(matches!(
        app.start(&[])[..],
        [(TAG_TASK, Command::AddTorrent(_))]
    ));
    let added = Event::CommandDone {
        tag: TAG_TASK,
        result: Ok(Done::Torrent(TORRENT)),
    };
    assert_eq!(app.on_event(&added, &figures(0, 0)), Flow::Continue);
    app
}

fn stopped(app: &mut TorrentApp) -> Flow {
    let event = Event::CommandDone {
        tag: TAG_SHUTDOWN,
        result: Ok(Done::Ok),
    };
    app.on_event(&event, &figures(100, 0))
}

#[test]
fn a_download_says_goodbye_when_complete() {
    let mut app = app(Goal::Download(SeedGoal::default()));
    let complete = Event::Complete { torrent: TORRENT };
    let flow = app.on_event(&complete, &figures(100, 0));
    let Flow::Commands(commands) = flow else {
        panic!("{flow:?}");
    };
    assert!(commands.iter().any(|(_, c)| *c == Command::Shutdown));
    assert_eq!(stopped(&mut app), Flow::Exit(DONE));
}

#[test]
fn a_goodbye_that_takes_too_long_is_cut_short() {
    let mut app = app(Goal::Download(SeedGoal::default()));
    assert!(matches!(app.on_interrupt(), Flow::Commands(_)));
    assert_eq!(app.on_interrupt(), Flow::Continue);
    let mut flow = Flow::Continue;
    for _ in 0..GOODBYE_SECONDS {
        flow = app.on_second(&figures(1, 0));
    }
    assert_eq!(flow, Flow::Exit(INTERRUPTED));
}

#[test]
fn seeding_ends_with_its_ratio() {
    let goal = SeedGoal {
        ratio: Some(Ratio(1500)),
        ..SeedGoal::default()
    };
    let mut app = app(Goal::Download(goal));
    let complete = Event::Complete { torrent: TORRENT };
    let done = figures(100, 0);
    assert_eq!(app.on_event(&complete, &done), Flow::Continue);
    assert_eq!(app.on_second(&figures(100, 149)), Flow::Continue);
    assert!(matches!(
        app.on_second(&figures(100, 150)),
        Flow::Commands(_)
    ));
}

#[test]
fn a_seed_without_its_content_fails_before_anything_is_fetched() {
    let mut app = app(Goal::Seed);
    let checked = Event::Checked {
        torrent: TORRENT,
        ok: 1,
        bad: 0,
    };
    let missing = app.on_event(&checked, &figures(50, 0));
    assert_eq!(missing, Flow::Exit(crate::error::FAILED));
}

#[test]
fn a_file_that_is_none_ends_the_download_as_a_wrong_command_line() {
    for (select, given) in [(&[0, 99][..], "--select"), (&[], "so of the magnet link")] {
        let mut app = app(Goal::Download(SeedGoal::default()));
        app.plan.add.select = select.to_vec();
        let failure = app.no_such_file(99, 3);
        let expected = format!("{given}: 99: expected file numbers from 0 to 2");
        assert_eq!(failure.message, expected);
        let event = Event::BadSelection {
            torrent: TORRENT,
            index: 99,
            files: 3,
        };
        let flow = app.on_event(&event, &figures(0, 0));
        assert!(matches!(flow, Flow::Commands(_)), "{flow:?}");
        assert_eq!(stopped(&mut app), Flow::Exit(crate::error::USAGE));
    }
}

#[test]
fn a_tracker_that_cannot_be_used_is_told_why_and_its_secret_is_not() {
    let tracker = |url: &str, message: Option<String>| TrackerSource {
        url: url.into(),
        seeds: None,
        leechers: None,
        message,
    };
    let disabled = |url: &str| {
        let error = TrackerUrl::parse(url, 100).unwrap_err();
        unusable(
            SourceStatus::Disabled,
            &tracker(url, Some(error.to_string())),
        )
    };
    assert_eq!(
        disabled("http://me:secret@t.example/announce").as_deref(),
        Some(
            "tracker http://…@t.example/announce: expected no user name before the host; it is \
             not asked"
        )
    );
    assert!(disabled("udp://t.example").is_some() && disabled("nonsense").is_some());
    // Others speak it: it is no mistake.
    assert_eq!(disabled("wss://t.example"), None);
    let off = tracker("http://t.example/announce", None);
    assert_eq!(unusable(SourceStatus::Disabled, &off), None);
    let silent = tracker("http://t.example/announce", Some("no answer yet".into()));
    assert_eq!(unusable(SourceStatus::Failed, &silent), None);
}

#[test]
fn the_summary_tells_the_download_and_the_seeding_apart() {
    let seconds = Duration::from_secs;
    for (goal, expected) in [
        (SeedGoal::default(), "75.0 s"),
        (
            SeedGoal {
                time: Some(seconds(60)),
                ..SeedGoal::default()
            },
            "15.0 s, then seeded for 60.0 s",
        ),
    ] {
        let mut app = app(Goal::Download(goal));
        assert_eq!(app.times(app.started + seconds(15)), "15.0 s");
        app.complete = Some(app.started + seconds(15));
        assert_eq!(app.times(app.started + seconds(75)), expected);
    }
}

#[test]
fn a_wrong_source_is_a_usage_error() {
    let mut app = app(Goal::Download(SeedGoal::default()));
    let refused = Event::CommandDone {
        tag: TAG_TASK,
        result: Err(Box::new(CommandError::BadSource("why".into()))),
    };
    assert!(matches!(
        app.on_event(&refused, &figures(0, 0)),
        Flow::Commands(_)
    ));
    assert_eq!(stopped(&mut app), Flow::Exit(crate::error::USAGE));
}
