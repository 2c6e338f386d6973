//! `show`: what is inside a torrent or a link.

use serde_json::{Value, json};
use trackerless_core::id::{InfoHashes, hex};
use trackerless_core::metainfo::{Magnet, Torrent, Version};

use crate::cli::ShowArgs;
use crate::display::{bytes, note, print, printable};
use crate::error::{DONE, Failure};
use crate::source::Source;

/// The `show` command.
///
/// # Errors
/// What is wrong with the source.
pub fn show_command(args: &ShowArgs) -> Result<u8, Failure> {
    let source = Source::read(&args.source)?;
    for ignored in source.ignored() {
        note(&format!("warning: {}", printable(&ignored.to_string())));
    }
    if args.magnet {
        print(&magnet_of(&source).to_string());
    } else if args.json {
        print(&show_json(&source).to_string());
    } else {
        print(&show_text(&source));
    }
    Ok(DONE)
}

fn magnet_of(source: &Source) -> Magnet {
    match source {
        Source::Magnet(magnet, _) => (**magnet).clone(),
        Source::Torrent(torrent) => torrent.magnet(),
    }
}

/// The object of `show --json`. What a link does not tell is null.
#[must_use]
pub fn show_json(source: &Source) -> Value {
    let magnet = magnet_of(source);
    let hashes = source.hashes();
    let node = |(host, port): &(String, u16)| host_port(host, *port);
    let nodes: Vec<String> = magnet.nodes.iter().map(node).collect();
    let mut object = json!({
        "name": magnet.name,
        "info_hash_v1": hashes.v1().map(|hash| hex(&hash)),
        "info_hash_v2": hashes.v2().map(|hash| hex(&hash)),
        "version": version_of(source, hashes),
        "total_size": null,
        "piece_length": null,
        "pieces": null,
        "files": null,
        "private": null,
        "nodes": nodes,
        "trackers": magnet.trackers,
        "web_seeds": magnet.web_seeds,
        "comment": null,
        "created_by": null,
        "creation_date": null,
        "magnet": magnet.to_string(),
    });
    if let Source::Torrent(torrent) = source {
        let info = &torrent.info;
        let files = info.files.iter().map(
            |file| json!({ "path": file.path.join("/"), "length": file.length, "pad": file.pad }),
        );
        object["name"] = json!(info.name);
        object["total_size"] = json!(info.content_length());
        object["piece_length"] = json!(info.piece_length);
        object["pieces"] = json!(info.piece_count);
        object["files"] = Value::Array(files.collect());
        object["private"] = json!(info.private);
        object["trackers"] = json!(torrent.trackers);
        object["comment"] = json!(torrent.comment);
        object["created_by"] = json!(torrent.created_by);
        object["creation_date"] = json!(torrent.creation_date);
    }
    object
}

fn version_of(source: &Source, hashes: InfoHashes) -> &'static str {
    let version = match source {
        Source::Torrent(torrent) => torrent.info.version,
        Source::Magnet(..) => match (hashes.v1(), hashes.v2()) {
            (Some(_), Some(_)) => Version::Hybrid,
            (None, Some(_)) => Version::V2,
            _ => Version::V1,
        },
    };
    match version {
        Version::V1 => "v1",
        Version::V2 => "v2",
        Version::Hybrid => "hybrid",
    }
}

fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn show_text(source: &Source) -> String {
    let magnet = magnet_of(source);
    let hashes = source.hashes();
    let mut out = Vec::new();
    let mut line = |key: &str, value: &str| out.push(format!("{key:<14}{}", printable(value)));
    line("name", &source.name());
    if let Some(v1) = hashes.v1() {
        line("info-hash v1", &hex(&v1));
    }
    if let Some(v2) = hashes.v2() {
        line("info-hash v2", &hex(&v2));
    }
    line("version", version_of(source, hashes));
    if let Source::Torrent(torrent) = source {
        show_torrent(torrent, &mut line);
    }
    for (host, port) in &magnet.nodes {
        line("node", &host_port(host, *port));
    }
    for (tier, urls) in magnet.trackers.iter().enumerate() {
        for url in urls {
            line("tracker", &format!("{url} (tier {tier})"));
        }
    }
    for url in &magnet.web_seeds {
        line("web seed", url);
    }
    for (host, port) in &magnet.peers {
        line("peer", &host_port(host, *port));
    }
    if let Source::Torrent(torrent) = source {
        for (index, file) in torrent.info.files.iter().enumerate() {
            let path = file.path.join("/");
            let what = match &file.symlink {
                Some(target) => format!(" -> {}", target.join("/")),
                None if file.pad => " (padding, not written)".into(),
                None if file.executable => " (executable)".into(),
                None => String::new(),
            };
            line(
                &format!("file {index}"),
                &format!("{:>9}  {path}{what}", bytes(file.length)),
            );
        }
    }
    line("magnet", &magnet.to_string());
    out.join("\n")
}

fn show_torrent(torrent: &Torrent, line: &mut dyn FnMut(&str, &str)) {
    let info = &torrent.info;
    let size = info.content_length();
    line("size", &format!("{} ({size} bytes)", bytes(size)));
    line(
        "pieces",
        &format!(
            "{} of {}",
            info.piece_count,
            bytes(info.piece_length.into())
        ),
    );
    if info.private {
        line("private", "yes");
    }
    for (key, value) in [
        ("comment", &torrent.comment),
        ("created by", &torrent.created_by),
    ] {
        if let Some(value) = value {
            line(key, value);
        }
    }
    if let Some(date) = torrent.creation_date {
        line("created", &format!("{date} (Unix seconds)"));
    }
}
