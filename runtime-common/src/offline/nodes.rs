//! The DHT nodes that a trackerless torrent names.

use trackerless_core::bencode;
use trackerless_core::compact;

use crate::cli::{CreateArgs, ROUTERS};
use crate::error::Failure;
use crate::state::StateDir;

/// Nodes put into a torrent; more only make the magnet link long.
const MAX_NODES: usize = 8;

/// The nodes of a trackerless torrent: those given, else those of our saved routing table, else
/// those we bootstrap from.
///
/// # Errors
/// `--state-dir` is no folder.
pub(super) fn nodes(args: &CreateArgs) -> Result<Vec<(String, u16)>, Failure> {
    let state = args.state_dir.as_deref();
    let state = state.map(|root| StateDir::choose(Some(root))).transpose()?;
    if args.private {
        return Ok(Vec::new());
    }
    let given = args.node.iter().flat_map(|list| &list.0);
    let mut nodes: Vec<(String, u16)> = given.map(|node| (node.host.clone(), node.port)).collect();
    if nodes.is_empty() && args.bootstrap.is_empty() {
        let state = state.flatten().or_else(StateDir::platform);
        let table = state.and_then(|state| state.load_dht());
        nodes = table.map_or_else(Vec::new, |table| table_nodes(&table));
    }
    if nodes.is_empty() {
        let configured = args.bootstrap.iter().flat_map(|list| &list.0);
        nodes = configured
            .map(|node| (node.host.clone(), node.port))
            .collect();
    }
    if nodes.is_empty() {
        nodes = ROUTERS.map(|(host, port)| (host.to_owned(), port)).into();
    }
    Ok(nodes)
}

/// Contacts of a saved routing table: compact nodes of both families.
pub(crate) fn table_nodes(table: &[u8]) -> Vec<(String, u16)> {
    const ID: usize = 20;
    let Ok(document) = bencode::decode(table, &bencode::Limits::TORRENT) else {
        return Vec::new();
    };
    let Some(dict) = document.root().as_dict() else {
        return Vec::new();
    };
    let families = [
        (&b"nodes"[..], ID + compact::V4_LEN),
        (b"nodes6", ID + compact::V6_LEN),
    ];
    let mut nodes = Vec::new();
    for (key, size) in families {
        let all = dict.bytes(key).unwrap_or_default();
        for node in all.chunks_exact(size) {
            if let Some(addr) = compact::decode(&node[ID..])
                && !compact::is_undialable(addr)
                && nodes.len() < MAX_NODES
            {
                nodes.push((addr.ip().to_string(), addr.port()));
            }
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use trackerless_core::bencode::Writer;
    use trackerless_core::io::StateKind;

    fn table() -> Vec<u8> {
        let mut node = vec![7u8; 20];
        node.extend([10, 0, 0, 1, 0x1a, 0xe1]);
        let mut node6 = vec![9u8; 20];
        node6.extend([0xfd; 16]);
        node6.extend([0, 9]);
        let mut table = Vec::new();
        let mut writer = Writer::new(&mut table);
        writer.dict().key(b"nodes").bytes(&node);
        writer.key(b"nodes6").bytes(&node6).end();
        table
    }

    fn args(line: &[&str]) -> CreateArgs {
        let line = [&["t", "create", "a", "-o", "b"], line].concat();
        match crate::cli::Cli::parse_from_args("t", line).map(|cli| cli.command) {
            Ok(crate::cli::Command::Create(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    fn shown(line: &[&str]) -> Vec<String> {
        let shown = |(host, port): (String, u16)| format!("{host} {port}");
        nodes(&args(line)).unwrap().into_iter().map(shown).collect()
    }

    #[test]
    fn given_nodes_come_before_the_table_and_the_table_before_routers() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().to_str().unwrap();
        let empty = ["--state-dir", state];
        let routers = ROUTERS.map(|(host, port)| format!("{host} {port}"));
        assert_eq!(shown(&empty), routers);
        assert_eq!(
            shown(&["--state-dir", state, "--bootstrap", "a.example:5"]),
            ["a.example 5"]
        );
        StateDir::new(state)
            .save(StateKind::DhtTable, &table())
            .unwrap();
        let v6 = "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd 9";
        assert_eq!(shown(&empty), ["10.0.0.1 6881", v6]);
        assert_eq!(
            shown(&[
                "--state-dir",
                state,
                "--node",
                "router.bittorrent.com:6881, 127.0.0.1:8080",
                "--node",
                "[::1]:7",
            ]),
            ["router.bittorrent.com 6881", "127.0.0.1 8080", "::1 7"]
        );
        assert!(shown(&["--state-dir", state, "--private"]).is_empty());
    }

    #[test]
    fn a_table_that_is_none_has_no_nodes() {
        assert!(table_nodes(b"junk").is_empty());
        assert!(table_nodes(b"le").is_empty());
    }
}
