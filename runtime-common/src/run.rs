//! From the command line to an exit status; the driver is a parameter.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use trackerless_core::Config;
use trackerless_core::dht::item::mutable_target;
use trackerless_core::io::AddTorrent;
use trackerless_core::metainfo::Version;

use crate::cli::{
    Cli, Command, DemoArgs, DhtCommand, DownloadArgs, MetadataArgs, NetArgs, OutputArgs, Parsed,
    SeedArgs, config_file, definition, keys, values::ItemName,
};
use crate::display::{Reporter, lost_output, note};
use crate::error::{DONE, Failure};
use crate::host::{App, Inbox, Setup};
use crate::keep::{Kept, content_paths};
use crate::offline::{self, Outer};
use crate::session::{
    Contacts, DhtApp, DhtTask, Goal, SeedGoal, Signing, TorrentApp, TorrentPlan, no_such_file,
};
use crate::sockets::Listen;
use crate::source::Source;
use crate::state::{StateDir, nearest_existing};
use crate::storage::{Storage, StorageConfig};

/// The whole main function of a binary: reads the command line, runs the command, prints what
/// goes wrong in one line.
///
/// `one` runs one engine to its end on the calling thread and returns the exit status its app
/// gave; it fails only with what happened before the app was started, as an address that cannot
/// be bound. `demo` runs the demo, which is many engines.
pub fn main_with(
    binary: &'static str,
    one: impl FnOnce(Setup) -> Result<u8, Failure>,
    demo: impl FnOnce(&DemoArgs) -> Result<u8, Failure>,
) -> ExitCode {
    let json = asks_for_json(std::env::args_os());
    let (code, json) = match Cli::parse_from_args(binary, std::env::args_os()) {
        Ok(cli) => {
            let config = config_of(&cli.command).map(Path::to_owned);
            match run(binary, cli.command, one, demo) {
                Ok(code) => (Ok(code), json),
                Err(failure) => {
                    let json = json || config.is_some_and(|path| config_file::wants_json(&path));
                    (Err(failure), json)
                }
            }
        }
        Err(Parsed::Text(text)) => {
            crate::display::print(&text);
            (Ok(DONE), json)
        }
        Err(Parsed::Wrong(failure)) => (Err(failure), json),
    };
    let args = OutputArgs {
        json,
        ..OutputArgs::default()
    };
    let code = code.unwrap_or_else(|failure| {
        Reporter::new(args).failure(&failure);
        failure.code
    });
    if let Some(failure) = lost_output() {
        note(&format!("error: {failure}"));
        return ExitCode::from(if code == DONE { failure.code } else { code });
    }
    ExitCode::from(code)
}

/// Whether `--json` is among the options: known even where the rest is wrong. It is never the
/// value of another.
fn asks_for_json(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> bool {
    arguments
        .by_ref()
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json")
}

/// The file of `--config`, where it decides what is printed.
fn config_of(command: &Command) -> Option<&Path> {
    let net = match command {
        Command::Download(args) => &args.net,
        Command::Seed(args) => &args.net,
        Command::Metadata(args) => &args.net,
        Command::Dht(
            DhtCommand::Run { net, .. }
            | DhtCommand::Ping { net, .. }
            | DhtCommand::FindNode { net, .. }
            | DhtCommand::GetPeers { net, .. }
            | DhtCommand::Announce { net, .. },
        ) => net,
        _ => return None,
    };
    net.config.as_deref()
}

fn run(
    binary: &'static str,
    command: Command,
    one: impl FnOnce(Setup) -> Result<u8, Failure>,
    demo: impl FnOnce(&DemoArgs) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    match command {
        Command::Download(args) => one(download(*args)?),
        Command::Seed(args) => one(seed(*args)?),
        Command::Metadata(args) => one(metadata(*args)?),
        Command::Dht(command) => one(dht(command)?),
        Command::Demo(args) => demo(&args),
        Command::Create(args) => offline::create_command(args),
        Command::Show(args) => offline::show_command(&args),
        Command::Verify(args) => offline::verify_command(&args),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut definition(binary), binary, &mut out);
            crate::display::print(&String::from_utf8_lossy(&out));
            Ok(DONE)
        }
    }
}

fn download(args: DownloadArgs) -> Result<Setup, Failure> {
    let source = Source::read(&args.source)?;
    transferable(&source)?;
    let net = with_transport(args.net)?;
    if let (Some(select), Source::Torrent(torrent)) = (&args.select, &source) {
        let files = torrent.info.files.len();
        if let Some(beyond) = select.0.iter().find(|&&index| index as usize >= files) {
            return Err(no_such_file("--select", *beyond, files));
        }
    }
    // A folder is made by the first write, but a file in its place is told now.
    let existing = nearest_existing(&args.output);
    if !existing.is_dir() {
        return Err(Failure::usage(format!(
            "--output: {}: expected a folder, and {} is none",
            args.output.display(),
            existing.display()
        )));
    }
    let goal = Goal::Download(SeedGoal {
        forever: args.seed,
        ratio: args.seed_ratio,
        time: args.seed_time,
    });
    let file = matches!(source, Source::Torrent(..)).then(|| PathBuf::from(&args.source));
    let storage = StorageConfig {
        preallocate: args.preallocate,
        ..StorageConfig::below(args.output)
    };
    torrent_setup(net, source, file, goal, storage, |add| {
        add.peers = args.peer;
        add.select = args.select.map(|select| select.0).unwrap_or_default();
        add.sequential = args.sequential;
    })
}

fn seed(args: SeedArgs) -> Result<Setup, Failure> {
    let torrent = crate::source::torrent(&args.torrent)?;
    let net = with_transport(args.net)?;
    if !args.data.is_dir() {
        return Err(Failure::usage(format!(
            "--data: {}: expected the folder that holds the content",
            args.data.display()
        )));
    }
    let source = Source::Torrent(torrent.into());
    transferable(&source)?;
    let file = Some(args.torrent);
    let storage = StorageConfig::below(args.data);
    torrent_setup(net, source, file, Goal::Seed, storage, |add| {
        add.peers = args.peer;
        add.check = true;
        add.serve_only = true;
        add.super_seed = args.super_seed;
    })
}

fn metadata(args: MetadataArgs) -> Result<Setup, Failure> {
    let magnet = crate::source::magnet(&args.magnet)?;
    let net = with_transport(args.net)?;
    if !may_become_file(&args.output) {
        return Err(Failure::usage(format!(
            "--output: {}: expected a file in a folder that exists",
            args.output.display()
        )));
    }
    let source = Source::Magnet(Box::new(magnet), args.magnet);
    torrent_setup(
        net,
        source,
        None,
        Goal::Metadata(args.output),
        StorageConfig::below("."),
        |add| {
            add.peers = args.peer;
            add.metadata_only = true;
        },
    )
}

fn torrent_setup(
    net: NetArgs,
    source: Source,
    file: Option<PathBuf>,
    goal: Goal,
    storage: StorageConfig,
    fill: impl FnOnce(&mut AddTorrent),
) -> Result<Setup, Failure> {
    let state = StateDir::choose(net.state_dir.as_deref())?;
    let folder = storage.output.clone().unwrap_or_default();
    let info_hash = source.hashes().short();
    let mut kept = Kept::default();
    kept.add_config(net.config.as_deref());
    kept.add_table(state.as_ref());
    kept.add_resume(state.as_ref(), info_hash);
    if let Some(file) = file {
        kept.add("SOURCE", file);
    }
    if let Goal::Metadata(output) = &goal {
        kept.check("--output", output)?;
        kept.add("the file of --output", output);
    }
    // What the content may not be: known beforehand, or when its files are opened.
    let reserved: Vec<PathBuf> = kept
        .paths()
        .chain(net.record.as_deref())
        .map(Into::into)
        .collect();
    if let Source::Torrent(torrent) = &source {
        if matches!(goal, Goal::Download(_)) {
            kept.check_all("--output", content_paths(&torrent.info, &folder))?;
        }
        kept.add_content(&torrent.info, &folder);
    }
    let name = source.name();
    let outer = match &source {
        Source::Magnet(magnet, _) => Outer {
            trackers: magnet.trackers.clone(),
            nodes: magnet.nodes.clone(),
            web_seeds: magnet.web_seeds.clone(),
            ..Outer::default()
        },
        Source::Torrent(..) => Outer::default(),
    };
    let mut add = AddTorrent::new(source.into_core());
    if matches!(goal, Goal::Download(_)) {
        let state = state.as_ref();
        if let Some((resume, info)) = state.and_then(|it| it.load_resume(info_hash, &folder)) {
            add.resume = Some(resume.into());
            add.info = info;
        }
    }
    fill(&mut add);
    let read_only = !matches!(goal, Goal::Download(_));
    let plan = TorrentPlan {
        add,
        name,
        goal,
        contacts: Contacts::of(&net, state.as_ref()),
        folder: folder.clone(),
        tcp: !net.no_tcp,
        obstacle: storage.obstacle.clone(),
        state: state.clone(),
        outer,
    };
    let app = TorrentApp::new(plan, Reporter::new(net.output));
    let mut parts = Parts::new(&net, state, &kept)?;
    parts.storage = StorageConfig {
        reserved,
        read_only,
        state: parts.storage.state,
        ..storage
    };
    parts.setup(Box::new(app))
}

fn dht(command: DhtCommand) -> Result<Setup, Failure> {
    let (task, net, router, read_only) = match command {
        DhtCommand::Run {
            router,
            read_only,
            net,
        } => (DhtTask::Run, net, router, read_only),
        DhtCommand::Ping { addr, net } => (DhtTask::Ping(addr), net, false, true),
        DhtCommand::FindNode { id, net } => (DhtTask::FindNode(id), net, false, true),
        DhtCommand::GetPeers { hash, net } => (DhtTask::GetPeers(hash), net, false, true),
        DhtCommand::Announce { hash, port, net } => {
            (DhtTask::Announce(hash, port), net, false, true)
        }
        DhtCommand::Sample { addr, net } => (DhtTask::Sample(addr), net, false, true),
        DhtCommand::Get { target, salt, net } => {
            let salt = salt.unwrap_or_default();
            let target = match target {
                ItemName::Target(target) => target,
                ItemName::Key(key) => mutable_target(&key, &salt),
            };
            (DhtTask::Get(target, salt), net, false, true)
        }
        DhtCommand::Put {
            value,
            key,
            salt,
            seq,
            cas,
            net,
        } => {
            let salt = salt.unwrap_or_default();
            let signing = key.map(|path| {
                let made = || note(&format!("made a new key in {}", path.display()));
                let key = keys::load_or_make(&path, made)?;
                let signing = Signing {
                    key,
                    salt,
                    seq,
                    cas,
                };
                Ok::<_, Failure>(Box::new(signing))
            });
            let signing = signing.transpose()?;
            (DhtTask::Put(value, signing), net, false, true)
        }
        DhtCommand::Scrape { hash, net } => (DhtTask::Scrape(hash), net, false, true),
    };
    let mut net = net.with_config()?;
    if net.no_dht {
        return Err(Failure::usage("--no-dht: the dht commands need the DHT"));
    }
    // No peers here, so nothing to listen for.
    net.no_tcp = true;
    net.no_lsd = true;
    let state = StateDir::choose(net.state_dir.as_deref())?;
    let contacts = Contacts::of(&net, state.as_ref());
    let mut kept = Kept::default();
    kept.add_config(net.config.as_deref());
    kept.add_table(state.as_ref());
    // One question is no node: it must not replace the table of one.
    let state = state.filter(|_| matches!(task, DhtTask::Run));
    let app = DhtApp::new(task, contacts, state.clone(), Reporter::new(net.output))?;
    let mut parts = Parts::new(&net, state, &kept)?;
    parts.config.dht.read_only = read_only;
    if router {
        parts.config.dht.max_stored_torrents = 0;
        parts.config.dht.max_items = 0;
    }
    parts.setup(Box::new(app))
}

/// Content of v2 alone cannot be fetched or served yet: told before anything is opened. What a link
/// leads to is known when its metadata is.
fn transferable(source: &Source) -> Result<(), Failure> {
    match source {
        Source::Torrent(torrent) if torrent.info.version == Version::V2 => {
            Err(Failure::usage(v2_alone(&source.name())))
        }
        _ => Ok(()),
    }
}

/// Why the content of a torrent without v1 hashes is not transferred.
pub(crate) fn v2_alone(name: &str) -> String {
    format!(
        "{name}: a torrent of v2 alone; expected v1 or hybrid, as no other content is transferred yet"
    )
}

fn with_transport(net: NetArgs) -> Result<NetArgs, Failure> {
    let net = net.with_config()?;
    if net.no_tcp {
        return Err(Failure::usage(
            "--no-tcp: peers are reached over TCP only in this version, as uTP is not there yet",
        ));
    }
    Ok(net)
}

/// Whether a file can be at `path`: its folder exists, and no folder is in its place.
pub(crate) fn may_become_file(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    let folder_is_there = folder.as_os_str().is_empty() || folder.is_dir();
    path.file_name().is_some() && folder_is_there && !path.is_dir()
}

/// What a [`Setup`] is made of, before its app is known.
struct Parts {
    config: Config,
    listen: Vec<Listen>,
    storage: StorageConfig,
    record: Option<PathBuf>,
}

impl Parts {
    fn new(net: &NetArgs, state: Option<StateDir>, kept: &Kept) -> Result<Self, Failure> {
        let mut config = Config {
            lab: net.lab,
            tcp: !net.no_tcp,
            ..Config::default()
        };
        config.dht.enabled = !net.no_dht;
        config.swarm.dht = !net.no_dht;
        config.lsd.enabled = !net.no_lsd;
        config.pex.enabled = !net.no_pex;
        config.tracker.enabled = !net.no_trackers;
        config.limits.download_rate = net.download_limit.unwrap_or(0);
        config.limits.upload_rate = net.upload_limit.unwrap_or(0);
        if let Some(mode) = net.encryption {
            config.wire.encryption = mode;
        }
        if let Some(peers) = net.max_peers {
            config.swarm.max_peers = peers;
        }
        let listen = if net.listen.is_empty() {
            Listen::defaults().to_vec()
        } else {
            net.listen.iter().copied().map(Listen::exactly).collect()
        };
        if let Some(path) = &net.record {
            if !may_become_file(path) {
                return Err(Failure::usage(format!(
                    "--record: {}: expected a file in a folder that exists",
                    path.display()
                )));
            }
            kept.check("--record", path)?;
        }
        Ok(Self {
            config,
            listen,
            storage: StorageConfig {
                state,
                ..StorageConfig::default()
            },
            record: net.record.clone(),
        })
    }

    fn setup(self, app: Box<dyn App>) -> Result<Setup, Failure> {
        self.config
            .validate()
            .map_err(|error| Failure::usage(error.to_string()))?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| Failure::failed(format!("no randomness: {error}")))?;
        let inbox = Inbox::new();
        crate::signals::install(Arc::clone(&inbox))
            .map_err(|error| Failure::failed(format!("signals: {error}")))?;
        let answers = Arc::clone(&inbox);
        let storage = Storage::into_inbox(self.storage, answers);
        Ok(Setup {
            config: Arc::new(self.config),
            seed,
            listen: self.listen,
            storage,
            inbox,
            app,
            record: self.record,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Parsed;
    use trackerless_core::config::EncryptionMode;

    /// The setup of a command line whose state folder is empty.
    fn setup(line: &[&str]) -> Result<Setup, Failure> {
        let folder = tempfile::tempdir().unwrap();
        setup_in(folder.path(), line)
    }

    fn setup_in(state: &Path, line: &[&str]) -> Result<Setup, Failure> {
        let state = ["--state-dir", state.to_str().unwrap()];
        let cli = match Cli::parse_from_args("t", [&["t"], line, &state].concat()) {
            Ok(cli) => cli,
            Err(Parsed::Wrong(failure)) => return Err(failure),
            Err(Parsed::Text(text)) => panic!("{text}"),
        };
        match cli.command {
            Command::Download(args) => download(*args),
            Command::Seed(args) => seed(*args),
            Command::Metadata(args) => metadata(*args),
            Command::Dht(command) => dht(command),
            _ => panic!("opens no socket"),
        }
    }

    const HASH: &str = "d984f67af9917b214cd8b6048ab5624c7df6a07a";

    #[test]
    fn options_reach_the_engine() {
        let local = ["--listen", "127.0.0.1:0", "--bootstrap", "127.0.0.1:9"];
        let options = [
            "--lab",
            "--upload-limit",
            "2M",
            "--max-peers",
            "7",
            "--no-trackers",
        ];
        let line = [&["download", HASH][..], &local, &options].concat();
        let got = setup(&line).unwrap();
        assert!(got.config.lsd.enabled);
        let without = setup(&[&line[..], &["--no-lsd"]].concat()).unwrap();
        assert!(!without.config.lsd.enabled);
        assert!(got.config.lab && got.config.tcp && !got.config.tracker.enabled);
        assert_eq!(got.config.limits.upload_rate, 2 << 20);
        assert_eq!(got.config.swarm.max_peers, 7);
        let address = "127.0.0.1:0".parse().unwrap();
        assert_eq!(got.listen, [Listen::exactly(address)]);
        let router = setup(&[&["dht", "run", "--router"][..], &local].concat()).unwrap();
        assert_eq!(router.config.dht.max_stored_torrents, 0);
        assert_eq!(router.config.dht.max_items, 0);
        assert!(!router.config.tcp && !router.config.lsd.enabled);
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_reason() {
        for (line, reason) in [
            (&["download", "nothing.torrent"][..], "no such file"),
            (&["download", "magnet:?dn=x"], "info-hash"),
            (&["download", HASH, "--no-tcp"], "--no-tcp"),
            (&["download", HASH, "--encryption", "on"], "--encryption"),
            (&["dht", "run", "--encryption", "rc4"], "--encryption"),
            (&["download", HASH, "-o", "Cargo.toml"], "--output"),
            (&["download", HASH, "-o", "Cargo.toml/x"], "--output"),
            (&["download", HASH, "--record", "src"], "--record"),
            (&["download", HASH, "--record", "/no/where"], "--record"),
            (&["dht", "run", "--no-dht"], "--no-dht"),
            (&["dht", "put", "x", "--key", "src"], "--key src"),
            (
                &["dht", "put", "x", "--key", "Cargo.toml"],
                "64 hexadecimal",
            ),
            (
                &["dht", "get-peers", HASH, "--listen", "127.0.0.1:0"],
                "--bootstrap",
            ),
            (&["metadata", HASH, "-o", "/nowhere/at/all"], "--output"),
        ] {
            let failure = setup(line).err().unwrap();
            assert_eq!(failure.code, crate::error::USAGE, "{line:?}");
            assert!(failure.message.contains(reason), "{line:?}: {failure}");
            assert!(!failure.message.contains('\n'));
        }
    }

    #[test]
    fn peers_are_exchanged_unless_that_is_declined() {
        let on = |line: &[&str]| setup(line).unwrap().config.pex.enabled;
        assert!(on(&["download", HASH]));
        assert!(!on(&["download", HASH, "--no-pex"]));
    }

    #[test]
    fn what_is_not_there_yet_may_be_done_without() {
        let without = ["--no-utp"];
        for (mode, is) in [
            ("off", EncryptionMode::Off),
            ("allow", EncryptionMode::Allow),
            ("prefer", EncryptionMode::Prefer),
            ("require", EncryptionMode::Require),
        ] {
            let line = [&["download", HASH, "--encryption", mode][..], &without].concat();
            assert_eq!(setup(&line).unwrap().config.wire.encryption, is);
        }
        let unsaid = setup(&["download", HASH]).unwrap().config;
        assert_eq!(unsaid.wire.encryption, EncryptionMode::Allow);
        let folder = tempfile::tempdir().unwrap();
        let torrent = folder.path().join("a.torrent");
        let bytes = b"d4:infod6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:\
                      aaaaaaaaaaaaaaaaaaaaee";
        std::fs::write(&torrent, bytes).unwrap();
        let line = ["seed", torrent.to_str().unwrap(), "--data", "."];
        assert!(setup(&line).is_ok());
        assert!(setup(&[&line[..], &["--super-seed"]].concat()).is_ok());
    }

    #[test]
    fn only_what_is_given_decides_whether_there_is_somebody_to_ask() {
        let folder = tempfile::tempdir().unwrap();
        let line = ["dht", "get-peers", HASH, "--listen", "127.0.0.1:0"];
        let table = folder.path().join("dht.table");
        // A table without a node is nobody.
        std::fs::write(&table, b"d2:id20:aaaaaaaaaaaaaaaaaaaae").unwrap();
        let failure = setup_in(folder.path(), &line).err().unwrap();
        assert!(failure.message.contains("--bootstrap"), "{failure}");
        let node = b"d5:nodes26:aaaaaaaaaaaaaaaaaaaa\x7f\0\0\x01\x1a\xe1e";
        std::fs::write(&table, node).unwrap();
        assert!(setup_in(folder.path(), &line).is_ok());
    }

    #[test]
    fn a_file_in_place_of_the_state_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        for command in [&["download", HASH][..], &["dht", "run"]] {
            let failure = setup_in(&file, command).err().unwrap();
            assert_eq!(failure.code, crate::error::USAGE);
            assert!(failure.message.starts_with("--state-dir"), "{failure}");
        }
    }
}
