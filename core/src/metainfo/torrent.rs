//! The outer part of a `.torrent` file.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Display;

use bytes::Bytes;

use super::info::{self, Rules, layer_sizes};
use super::{Ignored, Info, Magnet, MetainfoError, Torrent, merkle};
use crate::bencode::{self, Dict, Value};

/// Most DHT nodes, trackers and web seeds kept, of each.
const MAX_SOURCES: usize = 1_000;

impl Torrent {
    /// Reads a `.torrent` file with the default [`Rules`].
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(bytes: Bytes) -> Result<Self, MetainfoError> {
        Self::parse_with(bytes, &Rules::default())
    }

    /// Reads a `.torrent` file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse_with(bytes: Bytes, rules: &Rules) -> Result<Self, MetainfoError> {
        const KEY: &str = "torrent";
        let text = bytes.trim_ascii_end();
        let document = bencode::decode(text, &bencode::Limits::TORRENT)
            // A string may well end in white space: then nothing is to be trimmed.
            .or_else(|_| bencode::decode(&bytes, &bencode::Limits::TORRENT))
            .map_err(|error| MetainfoError::bencode(KEY, error))?;
        let root = document.root();
        let dict = root
            .as_dict()
            .ok_or_else(|| MetainfoError::wrong(KEY, root, "a dictionary"))?;
        let value = dict
            .find(b"info")
            .ok_or_else(|| MetainfoError::missing("info", dict, "a dictionary"))?;
        let info = info::read(value, bytes.slice(value.range()), rules)?;
        let piece_layers = read_layers(dict, &info, &bytes)?;
        let mut ignored = Vec::new();
        Ok(Self {
            info: Arc::new(info),
            nodes: read_nodes(dict, &mut ignored),
            trackers: read_trackers(dict, &mut ignored),
            web_seeds: read_web_seeds(dict, &mut ignored),
            comment: text_of(dict, b"comment.utf-8").or_else(|| text_of(dict, b"comment")),
            created_by: text_of(dict, b"created by"),
            creation_date: dict.int(b"creation date"),
            piece_layers,
            ignored,
        })
    }

    /// The link that leads to this torrent: its hashes, name, trackers, web seeds and nodes.
    #[must_use]
    pub fn magnet(&self) -> Magnet {
        Magnet {
            name: Some(self.info.name.clone()),
            trackers: self
                .trackers
                .iter()
                .flatten()
                .map(|url| Vec::from([url.clone()]))
                .collect(),
            web_seeds: self.web_seeds.clone(),
            nodes: self.nodes.clone(),
            ..Magnet::new(self.info.hashes)
        }
    }
}

fn text_of(dict: Dict<'_, '_>, key: &[u8]) -> Option<String> {
    let bytes = dict.bytes(key).filter(|bytes| !bytes.is_empty())?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// What is ignored of a torrent: it can do without any one of its sources of peers.
type Told = Vec<Ignored>;

fn ignore(told: &mut Told, key: impl Display, value: Value<'_, '_>, expected: &str) {
    Ignored::from(MetainfoError::wrong(key, value, expected)).tell(told);
}

/// The URL that `value` is.
fn url(value: Value<'_, '_>, key: impl Display, told: &mut Told) -> Option<String> {
    let Some(text) = value.as_str() else {
        ignore(told, key, value, "a URL: a string in UTF-8");
        return None;
    };
    Some(text.trim().to_string()).filter(|url| !url.is_empty())
}

fn read_nodes(dict: Dict<'_, '_>, told: &mut Told) -> Vec<(String, u16)> {
    let Some(value) = dict.find(b"nodes") else {
        return Vec::new();
    };
    let Some(list) = value.as_list() else {
        ignore(told, "nodes", value, "a list of [host, port]");
        return Vec::new();
    };
    let mut nodes = Vec::new();
    for (index, value) in list.iter().enumerate().take(MAX_SOURCES) {
        let pair = value.as_list().filter(|pair| pair.len() == 2);
        let host = pair.and_then(|pair| pair.get(0)).and_then(Value::as_str);
        let port = pair.and_then(|pair| pair.get(1)).and_then(Value::as_int);
        let in_range = port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0);
        let expected = "a host and a port from 1 to 65535";
        match (host.filter(|host| !host.is_empty()), port, in_range) {
            (Some(host), _, Some(port)) => nodes.push((host.to_string(), port)),
            (Some(host), Some(port), None) => {
                let key = format!("nodes[{index}]");
                let found = format!("{host}:{port}");
                Ignored::text(&key, &found, expected).tell(told);
            }
            _ => ignore(told, format_args!("nodes[{index}]"), value, expected),
        }
    }
    nodes
}

/// BEP 12: the list where there is one, else the single `announce`.
fn read_trackers(dict: Dict<'_, '_>, told: &mut Told) -> Vec<Vec<String>> {
    const KEY: &str = "announce-list";
    let mut tiers = Vec::new();
    let value = dict.find(KEY.as_bytes());
    let list = value.and_then(Value::as_list);
    if let (Some(value), None) = (value, list) {
        ignore(told, KEY, value, "a list of lists of URLs");
    }
    for (index, value) in list
        .iter()
        .flat_map(|list| list.iter())
        .enumerate()
        .take(MAX_SOURCES)
    {
        let mut tier = Vec::new();
        match value.as_list() {
            Some(urls) => {
                for (place, value) in urls.iter().enumerate().take(MAX_SOURCES) {
                    tier.extend(url(value, format_args!("{KEY}[{index}][{place}]"), told));
                }
            }
            // Some programs write URLs where tiers belong.
            None => tier.extend(url(value, format_args!("{KEY}[{index}]"), told)),
        }
        if !tier.is_empty() {
            tiers.push(tier);
        }
    }
    if tiers.is_empty()
        && let Some(value) = dict.find(b"announce")
    {
        let url = url(value, "announce", told);
        tiers.extend(url.map(|url| Vec::from([url])));
    }
    tiers
}

fn read_web_seeds(dict: Dict<'_, '_>, told: &mut Told) -> Vec<String> {
    const KEY: &str = "url-list";
    let Some(value) = dict.find(KEY.as_bytes()) else {
        return Vec::new();
    };
    let Some(list) = value.as_list() else {
        return url(value, KEY, told).into_iter().collect();
    };
    let urls = list.iter().enumerate().take(MAX_SOURCES);
    urls.filter_map(|(index, value)| url(value, format_args!("{KEY}[{index}]"), told))
        .collect()
}

/// Reads the layers there are and checks them against the roots. A torrent saved from metadata
/// alone has none: peers can be asked for them (BEP 52).
fn read_layers(
    dict: Dict<'_, '_>,
    info: &Info,
    bytes: &Bytes,
) -> Result<BTreeMap<[u8; 32], Bytes>, MetainfoError> {
    const KEY: &str = "piece layers";
    let sizes = layer_sizes(info);
    let mut layers = BTreeMap::new();
    let Some(value) = dict.find(b"piece layers") else {
        return Ok(layers);
    };
    let entries = value
        .as_dict()
        .ok_or_else(|| MetainfoError::wrong(KEY, value, "a dictionary"))?;
    for (root, value) in entries {
        let key = || format!("{KEY}.{}", crate::id::hex(root));
        let known = <[u8; 32]>::try_from(root).ok();
        let Some((root, pieces)) = known.and_then(|root| Some((root, *sizes.get(&root)?))) else {
            let found = "a layer of no file";
            let expected = "only roots of files larger than a piece";
            return Err(MetainfoError::found(key(), value, found, expected));
        };
        let layer = value
            .as_bytes()
            .filter(|layer| layer.len() as u64 == pieces * 32)
            .ok_or_else(|| {
                let expected = format!("a string of {} bytes", pieces * 32);
                MetainfoError::wrong(key(), value, expected)
            })?;
        if merkle::root_of_layer(layer, merkle::layer_height(info.piece_length)) != root {
            let found = "hashes that do not lead to the root";
            return Err(MetainfoError::found(
                key(),
                value,
                found,
                "those of the file's pieces",
            ));
        }
        layers.insert(root, bytes.slice_ref(layer));
    }
    Ok(layers)
}
