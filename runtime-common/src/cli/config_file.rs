//! The TOML file of `--config`: the options of the command line under the same names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::values::{self, HostPorts};
use super::{CreateArgs, NetArgs};
use crate::error::Failure;

/// Largest file that is read.
const MAX_CONFIG: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ConfigFile {
    listen: Vec<toml::Spanned<String>>,
    bootstrap: Vec<toml::Spanned<String>>,
    no_dht: bool,
    no_pex: bool,
    no_lsd: bool,
    no_trackers: bool,
    no_utp: bool,
    no_tcp: bool,
    encryption: Option<toml::Spanned<String>>,
    download_limit: Option<toml::Spanned<Rate>>,
    upload_limit: Option<toml::Spanned<Rate>>,
    max_peers: Option<std::num::NonZeroU16>,
    state_dir: Option<PathBuf>,
    lab: bool,
    record: Option<PathBuf>,
    json: bool,
    quiet: bool,
    verbose: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected bytes per second, or a size as \"1M\"")]
enum Rate {
    Bytes(u64),
    Text(String),
}

impl NetArgs {
    /// Fills in what the command line left open from the file of `--config`, if there is one.
    ///
    /// # Errors
    /// The file, line and key that is wrong, and what was expected.
    pub fn with_config(mut self) -> Result<Self, Failure> {
        let Some(path) = self.config.clone() else {
            return Ok(self);
        };
        let (text, file) = load(&path)?;
        let wrong = |span: std::ops::Range<usize>, key: &str, message: String| {
            at(&path, &text, Some(span), &format!("{key}: {message}"))
        };
        if self.listen.is_empty() {
            self.listen = addresses(&file.listen, |span, message| wrong(span, "listen", message))?;
        }
        if self.bootstrap.is_empty() {
            self.bootstrap = contacts(&file.bootstrap, |span, message| {
                wrong(span, "bootstrap", message)
            })?;
        }
        if let Some(mode) = file.encryption.filter(|_| self.encryption.is_none()) {
            let read = values::encryption(mode.get_ref());
            let read = read.map_err(|message| wrong(mode.span(), "encryption", message))?;
            self.encryption = Some(read);
        }
        let rate = |given: Option<u64>, rate: Option<toml::Spanned<Rate>>, key: &str| {
            let Some(rate) = rate.filter(|_| given.is_none()) else {
                return Ok(given);
            };
            let span = rate.span();
            match rate.into_inner() {
                Rate::Bytes(bytes) => Ok(Some(bytes)),
                Rate::Text(text) => values::size(&text)
                    .map(Some)
                    .map_err(|message| wrong(span, key, message)),
            }
        };
        self.download_limit = rate(self.download_limit, file.download_limit, "download-limit")?;
        self.upload_limit = rate(self.upload_limit, file.upload_limit, "upload-limit")?;
        self.max_peers = self.max_peers.or(file.max_peers.map(Into::into));
        self.state_dir = self.state_dir.or(file.state_dir);
        self.record = self.record.or(file.record);
        self.no_dht |= file.no_dht;
        self.no_pex |= file.no_pex;
        self.no_lsd |= file.no_lsd;
        self.no_trackers |= file.no_trackers;
        self.no_utp |= file.no_utp;
        self.no_tcp |= file.no_tcp;
        self.lab |= file.lab;
        self.output.json |= file.json;
        self.output.quiet |= file.quiet && !self.output.verbose;
        self.output.verbose |= file.verbose && !self.output.quiet;
        Ok(self)
    }
}

impl CreateArgs {
    /// Fills in the state folder and the bootstrap nodes from the file of `--config`.
    ///
    /// # Errors
    /// The file, line and key that is wrong, and what was expected.
    pub fn with_config(mut self) -> Result<Self, Failure> {
        let net = NetArgs {
            config: self.config.clone(),
            bootstrap: std::mem::take(&mut self.bootstrap),
            state_dir: self.state_dir.take(),
            ..NetArgs::default()
        };
        let net = net.with_config()?;
        self.bootstrap = net.bootstrap;
        self.state_dir = net.state_dir;
        Ok(self)
    }
}

/// Whether the file at `path` asks for `--json`, however wrong the rest of it is.
pub(crate) fn wants_json(path: &Path) -> bool {
    let table = read(path).ok().and_then(|text| text.parse().ok());
    table.is_some_and(|table: toml::Table| table.get("json") == Some(&toml::Value::Boolean(true)))
}

fn read(path: &Path) -> Result<String, Failure> {
    let wrong = |error: String| Failure::usage(format!("{}: {error}", path.display()));
    let bytes =
        crate::source::read_file(path, MAX_CONFIG).map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| wrong("expected text in UTF-8".into()))
}

fn load(path: &Path) -> Result<(String, ConfigFile), Failure> {
    let text = read(path)?;
    match toml::from_str(&text) {
        Ok(file) => Ok((text, file)),
        Err(error) => {
            let key = error.span().and_then(|span| key_before(&text, span.start));
            let message = error.message();
            let message = key.map_or(message.into(), |key| format!("{key}: {message}"));
            Err(at(path, &text, error.span(), &message))
        }
    }
}

/// The key whose value is at `place`, if that is in the same line.
fn key_before(text: &str, place: usize) -> Option<&str> {
    let line = text.get(..place)?.rsplit('\n').next()?;
    let (key, _) = line.split_once('=')?;
    Some(key.trim())
}

fn addresses(
    list: &[toml::Spanned<String>],
    wrong: impl Fn(std::ops::Range<usize>, String) -> Failure,
) -> Result<Vec<SocketAddr>, Failure> {
    let read = |text: &toml::Spanned<String>| {
        values::address(text.get_ref()).map_err(|message| wrong(text.span(), message))
    };
    list.iter().map(read).collect()
}

fn contacts(
    list: &[toml::Spanned<String>],
    wrong: impl Fn(std::ops::Range<usize>, String) -> Failure,
) -> Result<Vec<HostPorts>, Failure> {
    let read = |text: &toml::Spanned<String>| {
        let parsed = text.get_ref().parse();
        parsed.map_err(|message| wrong(text.span(), message))
    };
    list.iter().map(read).collect()
}

fn at(path: &Path, text: &str, span: Option<std::ops::Range<usize>>, message: &str) -> Failure {
    let line = span.map(|span| {
        let before = text.get(..span.start).unwrap_or_default();
        before.matches('\n').count() + 1
    });
    let message = message.lines().collect::<Vec<_>>().join(" ");
    Failure::usage(match line {
        Some(line) => format!("{}:{line}: {message}", path.display()),
        None => format!("{}: {message}", path.display()),
    })
}
