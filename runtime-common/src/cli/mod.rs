//! The command line: one definition for every binary.

pub(crate) mod config_file;
pub(crate) mod keys;
pub mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use trackerless_core::config::EncryptionMode;
use trackerless_core::id::Id20;
use trackerless_core::metainfo::Version;

use crate::error::{Failure, USAGE};
use values::{HostPort, HostPorts, Ratio, Select};

/// The routers that a start without contacts asks.
pub const ROUTERS: [(&str, u16); 4] = [
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("router.utorrent.com", 6881),
    ("dht.libtorrent.org", 25401),
];

const EXAMPLES: &str = "\
Examples:
  {bin} download 'magnet:?xt=urn:btih:…' -o ~/Downloads
  {bin} create ~/album -o album.torrent --node router.example.org:6881
  {bin} seed album.torrent --data ~
  {bin} dht get-peers d984f67af9917b214cd8b6048ab5624c7df6a07a
  {bin} demo

Exit status: 0 done; 1 it could not be done, or what was printed is lost; 2 the command line or a
file given on it is wrong; 130 interrupted. A reader of standard output that goes away changes none.";

/// Trackerless torrents: downloads, seeds and makes them, and speaks their DHT.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Download a magnet link, .torrent file or info-hash, and verify it
    Download(Box<DownloadArgs>),
    /// Verify content on disk, then serve and announce it until stopped
    Seed(Box<SeedArgs>),
    /// Make a .torrent of a file or folder and print its magnet link
    Create(CreateArgs),
    /// Show what is inside a .torrent file or magnet link
    Show(ShowArgs),
    /// Hash every piece on disk and say what is missing or wrong
    Verify(VerifyArgs),
    /// Fetch only the metadata of a magnet link and write the .torrent
    Metadata(Box<MetadataArgs>),
    /// Run or ask the DHT
    #[command(subcommand)]
    Dht(DhtCommand),
    /// A whole trackerless swarm on this machine, offline: DHT, seeder, leechers
    Demo(DemoArgs),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Options of every command that opens sockets.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Network")]
pub struct NetArgs {
    /// Address to listen on, UDP and TCP; port 0 picks one [default: all, 6881 or the next free]
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::address)]
    pub listen: Vec<SocketAddr>,
    /// First DHT contacts, instead of the saved table and the well-known routers
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: Vec<HostPorts>,
    /// Do without the DHT
    #[arg(long)]
    pub no_dht: bool,
    /// Do without peer exchange: tell peers of no others, and use nothing that they tell
    #[arg(long)]
    pub no_pex: bool,
    /// Do without local service discovery
    #[arg(long)]
    pub no_lsd: bool,
    /// Do without trackers, those of the torrent or link included
    #[arg(long)]
    pub no_trackers: bool,
    /// Do without uTP (this version has none yet)
    #[arg(long)]
    pub no_utp: bool,
    /// Do without TCP: only `dht` commands can, as this version has no uTP yet
    #[arg(long)]
    pub no_tcp: bool,
    /// Whether connections to peers are encrypted: off; allow, where they want it; prefer, where
    /// they can; require, or not at all [default: allow]
    #[arg(long, value_name = "MODE", value_parser = values::encryption)]
    pub encryption: Option<EncryptionMode>,
    /// Bytes per second downloaded at most, as 1M; 0: no limit [default: 0]
    #[arg(long, value_name = "RATE", value_parser = values::size)]
    pub download_limit: Option<u64>,
    /// Bytes per second uploaded at most, as 500K; 0: no limit [default: 0]
    #[arg(long, value_name = "RATE", value_parser = values::size)]
    pub upload_limit: Option<u64>,
    /// Connected peers per torrent at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_peers: Option<u16>,
    /// Folder of the routing table and resume files [default: the platform's]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// TOML file with the same names as these options
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Private addresses count as distinct hosts: for test networks
    #[arg(long)]
    pub lab: bool,
    /// Write every input of the engine to this file, for replay
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// What is printed.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl NetArgs {
    /// The contacts given, one by one.
    pub fn contacts(&self) -> impl Iterator<Item = &HostPort> {
        self.bootstrap.iter().flat_map(|list| &list.0)
    }
}

/// What is printed.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// One JSON object a line on standard output
    #[arg(long)]
    pub json: bool,
    /// Print only results and errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more: peers and sources of peers
    #[arg(short, long)]
    pub verbose: bool,
}

/// `download`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  {bin} download 'magnet:?xt=urn:btih:…' -o ~/Downloads
  {bin} download album.torrent --select 0,2-5 --sequential
  {bin} download d984f67af9917b214cd8b6048ab5624c7df6a07a --seed-ratio 1.5")]
pub struct DownloadArgs {
    /// Magnet link, .torrent file or info-hash (hex or base32)
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// Folder the content is put into; a file of one of its names that is longer is refused, not cut
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// A peer known beforehand
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::dialable)]
    pub peer: Vec<SocketAddr>,
    /// Only these files, by number as `show` prints them: 0,2-5
    #[arg(long, value_name = "FILES")]
    pub select: Option<Select>,
    /// Pieces in order
    #[arg(long)]
    pub sequential: bool,
    /// Reserve the space of the files first, so that a disk too small is told at once; without it
    /// files are sparse until their pieces come
    #[arg(long)]
    pub preallocate: bool,
    /// Go on seeding when complete
    #[arg(long)]
    pub seed: bool,
    /// Seed until this much of the size was uploaded
    #[arg(long, value_name = "R")]
    pub seed_ratio: Option<Ratio>,
    /// Seed for this long
    #[arg(long, value_name = "DUR", value_parser = values::duration)]
    pub seed_time: Option<Duration>,
    /// Sockets and printing.
    #[command(flatten)]
    pub net: NetArgs,
}

/// `seed`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  {bin} seed album.torrent --data ~/Music
  {bin} seed album.torrent --data . --upload-limit 2M")]
pub struct SeedArgs {
    /// The .torrent file
    #[arg(value_name = "TORRENT")]
    pub torrent: PathBuf,
    /// The folder that holds the content
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Give each piece away once first (BEP 16): for the only seed
    #[arg(long)]
    pub super_seed: bool,
    /// A peer known beforehand
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::dialable)]
    pub peer: Vec<SocketAddr>,
    /// Sockets and printing.
    #[command(flatten)]
    pub net: NetArgs,
}

/// `create`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  {bin} create ~/album -o album.torrent
  {bin} create film.mkv -o film.torrent --node 'router.bittorrent.com:6881, 127.0.0.1:8080'
  {bin} create ~/album -o album.torrent --piece-length 1M --name 'My album'
  {bin} create ~/album -o album.torrent --hybrid --json

With --json, one `metadata` event that also has `magnet`.")]
pub struct CreateArgs {
    /// File or folder
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// The .torrent file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// DHT nodes to name [default: our routing table's, or the bootstrap nodes]
    #[arg(long, value_name = "HOST:PORT")]
    pub node: Vec<HostPorts>,
    /// Bytes per piece, a power of two from 16K to 64M [default: by size]
    #[arg(long, value_name = "SIZE", value_parser = values::size32)]
    pub piece_length: Option<u32>,
    /// Name of the content [default: that of PATH]
    #[arg(long)]
    pub name: Option<String>,
    /// A comment
    #[arg(long)]
    pub comment: Option<String>,
    /// Only the trackers named, no DHT or peer exchange (BEP 27)
    #[arg(long)]
    pub private: bool,
    /// A tracker; each one is a tier
    #[arg(long, value_name = "URL", value_parser = tracker_url)]
    pub tracker: Vec<String>,
    /// A web seed (BEP 19)
    #[arg(long, value_name = "URL", value_parser = web_url)]
    pub web_seed: Vec<String>,
    /// Take what symbolic links lead to in their place; without it they stay links, which have to
    /// lead to something in the same folder
    #[arg(long)]
    pub follow_symlinks: bool,
    /// The format of BEP 3, which every client reads (default)
    #[arg(long, group = "format")]
    pub v1: bool,
    /// The format of BEP 52
    #[arg(long, group = "format")]
    pub v2: bool,
    /// Both formats in one torrent, with pad files between the files
    #[arg(long, group = "format")]
    pub hybrid: bool,
    /// Bootstrap nodes used where there is no saved routing table
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: Vec<HostPorts>,
    /// Folder of the routing table [default: the platform's]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// TOML file with the same names as the options of `download`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What is printed.
    #[command(flatten)]
    pub output_args: OutputArgs,
}

impl CreateArgs {
    /// The format asked for.
    #[must_use]
    pub fn version(&self) -> Version {
        match (self.v2, self.hybrid) {
            (true, _) => Version::V2,
            (_, true) => Version::Hybrid,
            _ => Version::V1,
        }
    }
}

/// `show`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  {bin} show album.torrent
  {bin} show album.torrent --magnet
  {bin} show 'magnet:?xt=urn:btih:…' --json")]
pub struct ShowArgs {
    /// Magnet link, .torrent file or info-hash
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// Print the magnet link only
    #[arg(long, conflicts_with = "json")]
    pub magnet: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `verify`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  {bin} verify album.torrent --data ~/Music")]
pub struct VerifyArgs {
    /// The .torrent file
    #[arg(value_name = "TORRENT")]
    pub torrent: PathBuf,
    /// The folder that holds the content
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// What is printed.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `metadata`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  {bin} metadata 'magnet:?xt=urn:btih:…' -o album.torrent")]
pub struct MetadataArgs {
    /// Magnet link or info-hash
    #[arg(value_name = "MAGNET")]
    pub magnet: String,
    /// The .torrent file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// A peer known beforehand
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::dialable)]
    pub peer: Vec<SocketAddr>,
    /// Sockets and printing.
    #[command(flatten)]
    pub net: NetArgs,
}

/// `dht`
#[derive(Debug, Subcommand)]
pub enum DhtCommand {
    /// Be a node of the DHT until stopped
    #[command(
        after_help = "Examples:\n  {bin} dht run --listen 0.0.0.0:6881\n  {bin} dht run --bootstrap router.example.org:6881 --read-only"
    )]
    Run {
        /// Give contacts, but store nothing
        #[arg(long)]
        router: bool,
        /// Ask, but answer nothing (BEP 43)
        #[arg(long, conflicts_with = "router")]
        read_only: bool,
        /// Sockets and printing.
        #[command(flatten)]
        net: Box<NetArgs>,
    },
    /// Ping one node
    #[command(after_help = "Example:\n  {bin} dht ping 192.0.2.1:6881")]
    Ping {
        /// Its address
        #[arg(value_name = "ADDR:PORT", value_parser = values::dialable)]
        addr: SocketAddr,
        /// Sockets and printing.
        #[command(flatten)]
        net: Box<NetArgs>,
    },
    /// Find the nodes closest to an id
    #[command(
        after_help = "Example:\n  {bin} dht find-node d984f67af9917b214cd8b6048ab5624c7df6a07a"
    )]
    FindNode {
        /// 40 hexadecimal digits
        #[arg(value_name = "ID", value_parser = values::id20)]
        id: Id20,
        /// Sockets and printing.
        #[command(flatten)]
        net: Box<NetArgs>,
    },
    /// Find the peers of an info-hash
    #[command(
        after_help = "Example:\n  {bin} dht get-peers d984f67af9917b214cd8b6048ab5624c7df6a07a --json"
    )]
    GetPeers {
        /// 40 hexadecimal digits, or base32
        #[arg(value_name = "HASH", value_parser = values::id20)]
        hash: Id20,
        /// Sockets and printing.
        #[command(flatten)]
        net: Box<NetArgs>,
    },
    /// Announce a port as a peer of an info-hash
    #[command(
        after_help = "Example:\n  {bin} dht announce d984f67af9917b214cd8b6048ab5624c7df6a07a --port 6881"
    )]
    Announce {
        /// 40 hexadecimal digits, or base32
        #[arg(value_name = "HASH", value_parser = values::id20)]
        hash: Id20,
        /// The port [default: the one our datagrams come from]
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
        /// Sockets and printing.
        #[command(flatten)]
        net: Box<NetArgs>,
    },
    /// Ask one node for info-hashes that it keeps peers of (BEP 51)
    #[command(after_help = "Example:\n  {bin} dht sample 192.0.2.1:6881 --json")]
    Sample {
        /// Its address
        #[arg(value_name = "ADDR:PORT", value_parser = values::dialable)]
        addr: SocketAddr,
        /// Sockets and printing.
        #[command(flatten)]
        net: Box<NetArgs>,
    },
    /// Find the value that nodes keep under a target (BEP 44)
    #[command(after_help = "Examples:
  {bin} dht get e5f96f6f38320f0f33959cb4d3d656452117aadb
  {bin} dht get 77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548 --salt blog

What is printed was checked: its hash is the target, or the key has signed it. Of several the one
with the highest sequence number counts.")]
    Get {
        /// Its target, 40 hexadecimal digits; or the public key that signs it, 64
        #[arg(value_name = "TARGET", value_parser = values::item_name)]
        target: values::ItemName,
        /// The salt it was put with
        #[arg(long, value_name = "TEXT", value_parser = values::salt)]
        salt: Option<bytes::Bytes>,
        /// Sockets and printing.
        #[command(flatten)]
        net: Box<NetArgs>,
    },
    /// Have a value kept by the nodes closest to its hash, or to the key that signs it (BEP 44)
    #[command(after_help = "Examples:
  {bin} dht put 'Hello World!'
  {bin} dht put 'version 2' --key blog.key --salt blog

Prints the target. Nodes forget it after two hours: put it again before.")]
    Put {
        /// A text of at most 996 bytes
        #[arg(value_name = "VALUE", value_parser = values::item_value)]
        value: bytes::Bytes,
        /// Sign it with the seed in this file, 64 hexadecimal digits, so that it can be replaced; a
        /// file that is not there is made, with a new key
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Tells apart what one key signs, at most 64 bytes
        #[arg(long, value_name = "TEXT", requires = "key", value_parser = values::salt)]
        salt: Option<bytes::Bytes>,
        /// Its sequence number, higher than that of what it replaces [default: one more than what is
        /// found]
        #[arg(long, value_name = "N", requires = "key", value_parser = clap::value_parser!(i64).range(0..))]
        seq: Option<i64>,
        /// Only in the place of a value with this sequence number
        #[arg(long, value_name = "N", requires = "key", value_parser = clap::value_parser!(i64).range(0..))]
        cas: Option<i64>,
        /// Sockets and printing.
        #[command(flatten)]
        net: Box<NetArgs>,
    },
    /// Count the peers of an info-hash, about (BEP 33)
    #[command(after_help = "Example:\n  {bin} dht scrape d984f67af9917b214cd8b6048ab5624c7df6a07a")]
    Scrape {
        /// 40 hexadecimal digits, or base32
        #[arg(value_name = "HASH", value_parser = values::id20)]
        hash: Id20,
        /// Sockets and printing.
        #[command(flatten)]
        net: Box<NetArgs>,
    },
}

/// `demo`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  {bin} demo --leechers 10 --size 64M")]
pub struct DemoArgs {
    /// Nodes of the DHT
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub nodes: u16,
    /// Leechers
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub leechers: u16,
    /// Bytes of the file that is shared, at most 1G; everybody has a copy in the temporary folder
    #[arg(long, default_value = "16M", value_parser = values::demo_size)]
    pub size: u64,
    /// Bytes a second each peer may upload, so that the leechers need each other; 0: no limit
    #[arg(long, default_value = "8M", value_parser = values::size)]
    pub uplink: u64,
    /// What is printed.
    #[command(flatten)]
    pub output: OutputArgs,
}

fn tracker_url(text: &str) -> Result<String, String> {
    url(text, &["http://", "https://", "udp://"])
}

fn web_url(text: &str) -> Result<String, String> {
    url(text, &["http://", "https://"])
}

fn url(text: &str, schemes: &[&str]) -> Result<String, String> {
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    let good = rest.is_some_and(|rest| {
        !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(|b| b.is_ascii_graphic())
    });
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected a URL that begins with {}, not \"{text}\"",
            schemes.join(" or ")
        ))
    }
}

impl Cli {
    /// Reads a command line, its first element being the program.
    ///
    /// # Errors
    /// A text that was asked for (help, version), or what is wrong.
    pub fn parse_from_args<I, T>(binary: &'static str, args: I) -> Result<Self, Parsed>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let command = definition(binary);
        let matches = command.try_get_matches_from(args);
        let cli = matches.and_then(|matches| Self::from_arg_matches(&matches));
        cli.map_err(|error| {
            if error.use_stderr() {
                Parsed::Wrong(Failure {
                    code: USAGE,
                    message: one_line(&error.to_string()),
                })
            } else {
                Parsed::Text(error.to_string())
            }
        })
    }
}

/// What a command line is when it is not a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Help or version, for standard output.
    Text(String),
    /// It is wrong.
    Wrong(Failure),
}

/// The definition under the name of one binary.
pub(crate) fn definition(binary: &'static str) -> clap::Command {
    let command = Cli::command()
        // Help that nobody asked for is no error message.
        .arg_required_else_help(false)
        .mut_subcommand("dht", |dht| dht.arg_required_else_help(false))
        .name(binary)
        .bin_name(binary);
    adapted(command.after_help(EXAMPLES), binary)
}

/// Puts the binary's name into the examples and lets options reject negative numbers themselves,
/// those of subcommands too.
fn adapted(mut command: clap::Command, binary: &str) -> clap::Command {
    // What begins with a minus and a digit is a wrong value, told with what was expected.
    command = command.mut_args(|argument| match argument.get_action().takes_values() {
        true => argument.allow_negative_numbers(true),
        false => argument,
    });
    let names: Vec<String> = command
        .get_subcommands()
        .map(|below| below.get_name().to_owned())
        .collect();
    for name in names {
        command = command.mut_subcommand(name, |below| adapted(below, binary));
    }
    match command.get_after_help().map(ToString::to_string) {
        Some(help) => command.after_help(help.replace("{bin}", binary)),
        None => command,
    }
}

/// The parser's message without its usage block: what is wrong, and the near miss.
fn one_line(message: &str) -> String {
    let lines = message
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ").replace(":; ", ": ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    format!("{line} (see --help)")
}

#[cfg(test)]
mod tests;
