//! Writing of `.torrent` files.

use trackerless_core::bencode::Writer;

/// What surrounds `info` in a `.torrent` file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outer {
    /// Tiers of tracker URLs (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// DHT nodes (BEP 5).
    pub nodes: Vec<(String, u16)>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// Comment.
    pub comment: Option<String>,
    /// Program that made it.
    pub created_by: Option<String>,
    /// Unix seconds.
    pub creation_date: Option<i64>,
    /// Piece layers by root, ascending (BEP 52).
    pub piece_layers: Vec<([u8; 32], Vec<u8>)>,
}

/// A `.torrent` file around `info`, which is bencoding.
#[must_use]
pub fn torrent_bytes(info: &[u8], outer: &Outer) -> Vec<u8> {
    let mut out = Vec::with_capacity(info.len() + 1024);
    let mut writer = Writer::new(&mut out);
    writer.dict();
    if let Some(url) = outer.trackers.iter().flatten().next() {
        writer.key(b"announce").bytes(url.as_bytes());
    }
    if outer.trackers.iter().flatten().count() > 1 {
        writer.key(b"announce-list").list();
        for tier in &outer.trackers {
            writer.list();
            for url in tier {
                writer.bytes(url.as_bytes());
            }
            writer.end();
        }
        writer.end();
    }
    if let Some(comment) = &outer.comment {
        writer.key(b"comment").bytes(comment.as_bytes());
    }
    if let Some(program) = &outer.created_by {
        writer.key(b"created by").bytes(program.as_bytes());
    }
    if let Some(date) = outer.creation_date {
        writer.key(b"creation date").int(date);
    }
    writer.key(b"info").raw(info);
    if !outer.nodes.is_empty() {
        writer.key(b"nodes").list();
        for (host, port) in &outer.nodes {
            writer.list().bytes(host.as_bytes());
            writer.int(i64::from(*port)).end();
        }
        writer.end();
    }
    if !outer.piece_layers.is_empty() {
        writer.key(b"piece layers").dict();
        for (root, layer) in &outer.piece_layers {
            writer.key(root).bytes(layer);
        }
        writer.end();
    }
    match &outer.web_seeds[..] {
        [] => {}
        [url] => {
            writer.key(b"url-list").bytes(url.as_bytes());
        }
        urls => {
            writer.key(b"url-list").list();
            for url in urls {
                writer.bytes(url.as_bytes());
            }
            writer.end();
        }
    }
    writer.end();
    out
}
