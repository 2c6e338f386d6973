//! `create`: a `.torrent` of a file or folder.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use sha1::{Digest as _, Sha1};
use trackerless_core::bencode::{self, Writer};
use trackerless_core::compact;
use trackerless_core::metainfo::Torrent;

use super::encode::{Outer, torrent_bytes};
use crate::cli::{CreateArgs, ROUTERS};
use crate::display::{Reporter, bytes as human};
use crate::error::Failure;
use crate::state::{StateDir, write_atomic};

/// Nodes put into a torrent; more only make the magnet link long.
const MAX_NODES: usize = 8;
/// Pieces aimed at when the piece length is chosen by size.
const AIMED_PIECES: u64 = 2_000;
/// Smallest and largest piece length, bytes.
const PIECE_LENGTHS: (u32, u32) = (16 << 10, 64 << 20);
/// Files and folders below one another at most.
const MAX_DEPTH: usize = 64;

/// What is to be made.
#[derive(Debug, Clone, Default)]
pub struct CreatePlan {
    /// File or folder.
    pub path: PathBuf,
    /// Name of the content; that of `path` if absent.
    pub name: Option<String>,
    /// Bytes per piece; chosen by size if absent.
    pub piece_length: Option<u32>,
    /// BEP 27.
    pub private: bool,
    /// What surrounds `info`.
    pub outer: Outer,
    /// Left out when the folder is walked: the file that is written.
    pub skip: Option<PathBuf>,
}

/// A torrent that was made.
#[derive(Debug)]
pub struct Created {
    /// The bytes of the `.torrent` file.
    pub bytes: Vec<u8>,
    /// The same, read back.
    pub torrent: Torrent,
}

struct Source {
    path: PathBuf,
    /// Elements below the content's folder; empty for a single file.
    elements: Vec<String>,
    length: u64,
    executable: bool,
}

/// Makes a torrent: walks in order, hashes on all cores.
///
/// # Errors
/// What cannot be read, or cannot be in a torrent.
pub fn create(plan: &CreatePlan) -> Result<Created, Failure> {
    let path = &plan.path;
    let wrong = |message: &str| Failure::usage(format!("{}: {message}", path.display()));
    let meta = fs::metadata(path).map_err(|error| wrong(&error.to_string()))?;
    let name = match &plan.name {
        Some(name) => name.clone(),
        None => default_name(path).ok_or_else(|| wrong("no name to use, give one with --name"))?,
    };
    if name.is_empty() || name.contains(['/', '\\', '\0']) || name == "." || name == ".." {
        return Err(Failure::usage(format!(
            "--name: expected one plain file name, not \"{name}\""
        )));
    }
    let single = meta.is_file();
    let mut files = Vec::new();
    if single {
        files.push(Source {
            path: path.clone(),
            elements: Vec::new(),
            length: meta.len(),
            executable: is_executable(&meta),
        });
    } else {
        let skip = plan.skip.as_ref().and_then(|skip| skip.canonicalize().ok());
        walk(path, &mut Vec::new(), skip.as_deref(), &mut files)?;
    }
    let total: u64 = files.iter().map(|file| file.length).sum();
    if total == 0 {
        return Err(wrong("expected at least one byte of content"));
    }
    let piece_length = match plan.piece_length {
        Some(length) => checked_piece_length(length)?,
        None => piece_length_for(total),
    };
    let pieces = hash_pieces(&files, total, piece_length)?;

    let mut info = Vec::with_capacity(pieces.len() + 1024);
    let mut writer = Writer::new(&mut info);
    writer.dict();
    if single {
        if files[0].executable {
            writer.key(b"attr").bytes(b"x");
        }
        writer.key(b"length").int(total as i64);
    } else {
        writer.key(b"files").list();
        for file in &files {
            writer.dict();
            if file.executable {
                writer.key(b"attr").bytes(b"x");
            }
            writer.key(b"length").int(file.length as i64);
            writer.key(b"path").list();
            for element in &file.elements {
                writer.bytes(element.as_bytes());
            }
            writer.end().end();
        }
        writer.end();
    }
    writer.key(b"name").bytes(name.as_bytes());
    writer.key(b"piece length").int(piece_length.into());
    writer.key(b"pieces").bytes(&pieces);
    if plan.private {
        writer.key(b"private").int(1);
    }
    writer.end();
    let bytes = torrent_bytes(&info, &plan.outer);
    // What we write, everybody must be able to read: ourselves first.
    let torrent = Torrent::parse(Bytes::from(bytes.clone()))
        .map_err(|error| Failure::failed(error.to_string()))?;
    Ok(Created { bytes, torrent })
}

/// The `create` command.
///
/// # Errors
/// What cannot be read, written, or be in a torrent.
pub fn create_command(args: CreateArgs) -> Result<u8, Failure> {
    let args = args.with_config()?;
    if args.private && !args.node.is_empty() {
        return Err(Failure::usage(
            "--node: a --private torrent does not use the DHT; leave one of them out",
        ));
    }
    let report = Reporter::new(args.output_args);
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let plan = CreatePlan {
        path: args.path.clone(),
        name: args.name.clone(),
        piece_length: args.piece_length,
        private: args.private,
        outer: Outer {
            trackers: args.tracker.iter().map(|url| vec![url.clone()]).collect(),
            nodes: nodes(&args),
            web_seeds: args.web_seed.clone(),
            comment: args.comment.clone(),
            created_by: Some(concat!("Trackerless ", env!("CARGO_PKG_VERSION")).into()),
            creation_date: since.ok().map(|since| since.as_secs() as i64),
            piece_layers: Vec::new(),
        },
        skip: Some(args.output.clone()),
    };
    let created = create(&plan)?;
    write_atomic(&args.output, &created.bytes)
        .map_err(|error| Failure::failed(format!("{}: {error}", args.output.display())))?;
    let info = &created.torrent.info;
    report.say(&format!(
        "{}: {}, {} files, {} pieces of {}, written to {}",
        info.name,
        human(info.content_length()),
        info.files.len(),
        info.piece_count,
        human(info.piece_length.into()),
        args.output.display()
    ));
    let magnet = created.torrent.magnet().to_string();
    if report.json() {
        report.event(
            "result",
            serde_json::json!({
                "info_hash": info.hashes.best().to_string(),
                "file": args.output.display().to_string(),
                "magnet": magnet,
            }),
        );
    } else {
        crate::display::print(&magnet);
    }
    Ok(crate::error::DONE)
}

/// The nodes of a trackerless torrent: those given, else those of our saved routing table, else
/// those we bootstrap from.
fn nodes(args: &CreateArgs) -> Vec<(String, u16)> {
    if args.private {
        return Vec::new();
    }
    let given = args.node.iter().flat_map(|list| &list.0);
    let mut nodes: Vec<(String, u16)> = given.map(|node| (node.host.clone(), node.port)).collect();
    if nodes.is_empty() && args.bootstrap.is_empty() {
        let state = match &args.state_dir {
            Some(root) => Some(StateDir::new(root)),
            None => StateDir::platform(),
        };
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
    nodes
}

/// Contacts of a saved routing table: compact nodes of both families.
fn table_nodes(table: &[u8]) -> Vec<(String, u16)> {
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

fn default_name(path: &Path) -> Option<String> {
    // `.` and `..` have a name of their own only once they are resolved.
    let resolved = path.canonicalize().ok()?;
    Some(resolved.file_name()?.to_str()?.to_owned())
}

fn walk(
    folder: &Path,
    elements: &mut Vec<String>,
    skip: Option<&Path>,
    files: &mut Vec<Source>,
) -> Result<(), Failure> {
    let wrong =
        |path: &Path, message: &str| Failure::usage(format!("{}: {message}", path.display()));
    if elements.len() > MAX_DEPTH {
        return Err(wrong(folder, "expected at most 64 folders in one another"));
    }
    let read = || -> io::Result<Vec<fs::DirEntry>> { fs::read_dir(folder)?.collect() };
    let mut entries = read().map_err(|error| wrong(folder, &error.to_string()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // A link is neither followed, which could loop or leave the folder, nor silently lost.
        let meta = entry
            .metadata()
            .map_err(|error| wrong(&path, &error.to_string()))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(wrong(&path, "expected a name in UTF-8"));
        };
        if skip.is_some_and(|skip| path.canonicalize().is_ok_and(|path| path == skip)) {
            continue;
        }
        elements.push(name.to_owned());
        if meta.is_dir() {
            walk(&path, elements, skip, files)?;
        } else if meta.is_file() {
            files.push(Source {
                elements: elements.clone(),
                length: meta.len(),
                executable: is_executable(&meta),
                path,
            });
        } else {
            return Err(wrong(
                &path,
                "expected a file or folder, not a link or a device",
            ));
        }
        elements.pop();
    }
    Ok(())
}

#[cfg(unix)]
fn is_executable(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    meta.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    false
}

fn checked_piece_length(length: u32) -> Result<u32, Failure> {
    let (least, most) = PIECE_LENGTHS;
    if length.is_power_of_two() && (least..=most).contains(&length) {
        return Ok(length);
    }
    Err(Failure::usage(format!(
        "--piece-length: expected a power of two from 16K to 64M, not {length}"
    )))
}

fn piece_length_for(total: u64) -> u32 {
    let (least, most) = PIECE_LENGTHS;
    let aimed = (total / AIMED_PIECES).max(1).next_power_of_two();
    aimed.clamp(least.into(), u64::from(most) / 4) as u32
}

fn hash_pieces(files: &[Source], total: u64, piece_length: u32) -> Result<Vec<u8>, Failure> {
    let count = total.div_ceil(piece_length.into()) as usize;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(count));
    let next = AtomicUsize::new(0);
    let hashes = Mutex::new(vec![0u8; count * 20]);
    let failed: Mutex<Option<Failure>> = Mutex::new(None);
    let mut starts = Vec::with_capacity(files.len());
    let mut at = 0u64;
    for file in files {
        starts.push(at);
        at += file.length;
    }
    let work = || {
        let mut reader = Reader {
            files,
            starts: &starts,
            open: None,
        };
        let mut buffer = Vec::new();
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= count || crate::storage::lock(&failed).is_some() {
                return;
            }
            let start = piece as u64 * u64::from(piece_length);
            let end = (start + u64::from(piece_length)).min(total);
            match reader.read(start, end, &mut buffer) {
                Ok(()) => {
                    let hash = Sha1::digest(&buffer);
                    let mut hashes = crate::storage::lock(&hashes);
                    hashes[piece * 20..piece * 20 + 20].copy_from_slice(&hash);
                }
                Err(failure) => *crate::storage::lock(&failed) = Some(failure),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match failed.into_inner().unwrap_or_default() {
        Some(failure) => Err(failure),
        None => Ok(hashes.into_inner().unwrap_or_default()),
    }
}

struct Reader<'a> {
    files: &'a [Source],
    starts: &'a [u64],
    open: Option<(usize, File)>,
}

impl Reader<'_> {
    fn read(&mut self, start: u64, end: u64, out: &mut Vec<u8>) -> Result<(), Failure> {
        out.clear();
        let mut at = start;
        let mut index = self.starts.partition_point(|&first| first <= start) - 1;
        while at < end {
            let file = &self.files[index];
            let from = at - self.starts[index];
            let take = (file.length - from).min(end - at);
            if take > 0 {
                self.read_file(index, from, take, out).map_err(|error| {
                    Failure::failed(format!("{}: {error}", file.path.display()))
                })?;
            }
            at += take;
            index += 1;
        }
        Ok(())
    }

    fn read_file(
        &mut self,
        index: usize,
        from: u64,
        take: u64,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        use std::io::Seek as _;
        let mut file = match self.open.take() {
            Some((open, file)) if open == index => file,
            _ => File::open(&self.files[index].path)?,
        };
        file.seek(io::SeekFrom::Start(from))?;
        let read = (&file).take(take).read_to_end(out)?;
        self.open = Some((index, file));
        if (read as u64) < take {
            return Err(io::Error::other("became shorter while it was read"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piece_lengths_grow_with_the_content() {
        assert_eq!(piece_length_for(1), 16 << 10);
        assert_eq!(piece_length_for(256 << 20), 256 << 10);
        assert_eq!(piece_length_for(u64::MAX / 2), 16 << 20);
        assert!(checked_piece_length(48 << 10).is_err());
    }

    #[test]
    fn contacts_of_a_saved_table_are_named() {
        let mut node = vec![7u8; 20];
        node.extend([10, 0, 0, 1, 0x1a, 0xe1]);
        let mut table = Vec::new();
        Writer::new(&mut table)
            .dict()
            .key(b"nodes")
            .bytes(&node)
            .end();
        assert_eq!(table_nodes(&table), [("10.0.0.1".to_owned(), 6881)]);
        assert!(table_nodes(b"junk").is_empty());
    }
}
