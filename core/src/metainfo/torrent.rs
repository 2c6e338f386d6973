//! The outer part of a `.torrent` file.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::info::{self, Rules, layer_sizes};
use super::{Info, Magnet, MetainfoError, Torrent, merkle};
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
        Ok(Self {
            info: Arc::new(info),
            nodes: read_nodes(dict)?,
            trackers: read_trackers(dict)?,
            web_seeds: read_web_seeds(dict)?,
            comment: text_of(dict, b"comment.utf-8").or_else(|| text_of(dict, b"comment")),
            created_by: text_of(dict, b"created by"),
            creation_date: dict.int(b"creation date"),
            piece_layers,
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

fn text(value: Value<'_, '_>, key: impl core::fmt::Display) -> Result<String, MetainfoError> {
    value
        .as_str()
        .map(|text| text.trim().to_string())
        .ok_or_else(|| MetainfoError::wrong(key, value, "a string in UTF-8"))
}

fn read_nodes(dict: Dict<'_, '_>) -> Result<Vec<(String, u16)>, MetainfoError> {
    let Some(value) = dict.find(b"nodes") else {
        return Ok(Vec::new());
    };
    let list = value
        .as_list()
        .ok_or_else(|| MetainfoError::wrong("nodes", value, "a list of [host, port]"))?;
    let mut nodes = Vec::new();
    for (index, value) in list.iter().enumerate().take(MAX_SOURCES) {
        let pair = value.as_list().filter(|pair| pair.len() == 2);
        let host = pair.and_then(|pair| pair.get(0)).and_then(Value::as_str);
        let port = pair.and_then(|pair| pair.get(1)).and_then(Value::as_int);
        let port = port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0);
        let (Some(host), Some(port)) = (host.filter(|host| !host.is_empty()), port) else {
            let key = format!("nodes[{index}]");
            return Err(MetainfoError::wrong(
                key,
                value,
                "a host and a port from 1 to 65535",
            ));
        };
        nodes.push((host.to_string(), port));
    }
    Ok(nodes)
}

/// BEP 12: the list where there is one, else the single `announce`.
fn read_trackers(dict: Dict<'_, '_>) -> Result<Vec<Vec<String>>, MetainfoError> {
    let mut tiers = Vec::new();
    if let Some(value) = dict.find(b"announce-list") {
        const KEY: &str = "announce-list";
        let list = value
            .as_list()
            .ok_or_else(|| MetainfoError::wrong(KEY, value, "a list of lists of URLs"))?;
        for (index, value) in list.iter().enumerate().take(MAX_SOURCES) {
            let key = format!("{KEY}[{index}]");
            let mut tier = Vec::new();
            match value.as_list() {
                Some(urls) => {
                    for (index, url) in urls.iter().enumerate().take(MAX_SOURCES) {
                        tier.push(text(url, format_args!("{key}[{index}]"))?);
                    }
                }
                // Some programs write URLs where tiers belong.
                None => tier.push(text(value, key)?),
            }
            tier.retain(|url| !url.is_empty());
            if !tier.is_empty() {
                tiers.push(tier);
            }
        }
    }
    if tiers.is_empty()
        && let Some(value) = dict.find(b"announce")
    {
        let url = text(value, "announce")?;
        tiers.extend((!url.is_empty()).then(|| Vec::from([url])));
    }
    Ok(tiers)
}

fn read_web_seeds(dict: Dict<'_, '_>) -> Result<Vec<String>, MetainfoError> {
    let Some(value) = dict.find(b"url-list") else {
        return Ok(Vec::new());
    };
    let mut seeds = Vec::new();
    match value.as_list() {
        Some(list) => {
            for (index, url) in list.iter().enumerate().take(MAX_SOURCES) {
                seeds.push(text(url, format_args!("url-list[{index}]"))?);
            }
        }
        None => seeds.push(text(value, "url-list")?),
    }
    seeds.retain(|url| !url.is_empty());
    Ok(seeds)
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
