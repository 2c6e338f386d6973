//! `create`: a `.torrent` of a file or folder.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use trackerless_core::metainfo::{
    BuildError, PieceHash, Plan, Rules, Source, Torrent, Version, auto_piece_length,
};

use super::encode::Outer;
use super::nodes::nodes;
use super::walk::{is_executable, modified, walk};
use crate::cli::CreateArgs;
use crate::display::{Reporter, bytes as human, count};
use crate::error::{DONE, Failure};
use crate::keep::Kept;
use crate::state::{StateDir, write_atomic};
use crate::storage::{Storage, StorageConfig, is_hole};

/// Smallest and largest piece length, bytes.
const PIECE_LENGTHS: (u32, u32) = (16 << 10, 64 << 20);
/// Pieces that wait to be hashed or are being hashed: enough to keep every worker busy.
const IN_FLIGHT: u32 = 32;
/// Bytes read at once to be hashed: all that is held of the content, for each worker.
const CHUNK: usize = 256 << 10;

/// What is to be made.
#[derive(Debug, Clone)]
pub struct CreatePlan {
    /// File or folder.
    pub path: PathBuf,
    /// Name of the content; that of `path` if absent.
    pub name: Option<String>,
    /// The format.
    pub version: Version,
    /// Bytes per piece; chosen by size if absent.
    pub piece_length: Option<u32>,
    /// BEP 27.
    pub private: bool,
    /// What surrounds `info`.
    pub outer: Outer,
    /// The file that is written: a torrent of that name is left out when the folder is walked, and
    /// anything else of that name is content, which is not overwritten.
    pub skip: Option<PathBuf>,
    /// Whether symbolic links become what they lead to; else they stay links, which have to lead
    /// to something in the same folder.
    pub follow_symlinks: bool,
}

impl Default for CreatePlan {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            name: None,
            version: Version::V1,
            piece_length: None,
            private: false,
            outer: Outer::default(),
            skip: None,
            follow_symlinks: false,
        }
    }
}

impl CreatePlan {
    /// A torrent of this file or folder, everything else at its default.
    #[must_use]
    pub fn of(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }
}

/// A torrent that was made.
#[derive(Debug)]
pub struct Created {
    /// The bytes of the `.torrent` file.
    pub bytes: Vec<u8>,
    /// The same, read back.
    pub torrent: Torrent,
}

/// Makes a torrent: walks in order, hashes on the storage workers.
///
/// # Errors
/// What cannot be read, or cannot be in a torrent.
pub fn create(plan: &CreatePlan) -> Result<Created, Failure> {
    let content = Content::list(plan)?;
    let hashes = content
        .plan
        .join(&content.hash()?)
        .map_err(|error| Failure::failed(error.to_string()))?;
    let mut torrent = content
        .plan
        .finish(&hashes)
        .map_err(|error| Failure::usage(error.to_string()))?;
    plan.outer.put_into(&mut torrent);
    let bytes = torrent.to_bytes();
    // What we write, everybody must be able to read: ourselves first.
    let torrent = Torrent::parse(Bytes::from(bytes.clone()))
        .map_err(|error| Failure::failed(error.to_string()))?;
    Ok(Created { bytes, torrent })
}

/// The files on disk and what becomes of them.
struct Content {
    plan: Arc<Plan>,
    /// Where each source of the plan is, and when it was changed last.
    files: Arc<[(PathBuf, Option<SystemTime>)]>,
}

impl Content {
    fn list(given: &CreatePlan) -> Result<Self, Failure> {
        let path = &given.path;
        let wrong = |message: &str| Failure::usage(format!("{}: {message}", path.display()));
        let meta = fs::metadata(path).map_err(|error| wrong(&error.to_string()))?;
        if !meta.is_file() && !meta.is_dir() {
            return Err(wrong("expected a file or folder, not a pipe or a device"));
        }
        let name = match &given.name {
            Some(name) => name.clone(),
            None => {
                default_name(path).ok_or_else(|| wrong("no name to use, give one with --name"))?
            }
        };
        let found = if meta.is_file() {
            let source = Source {
                length: meta.len(),
                executable: is_executable(&meta),
                ..Source::default()
            };
            vec![(source, modified(&meta))]
        } else {
            walk(path, given.skip.as_deref(), given.follow_symlinks)?
        };
        let total = found
            .iter()
            .fold(0u64, |sum, (file, _)| sum.saturating_add(file.length));
        if total == 0 {
            return Err(wrong("expected at least one byte of content"));
        }
        let piece_length = match given.piece_length {
            Some(length) => checked_piece_length(length)?,
            None => auto_piece_length(total),
        };
        let pieces = total.div_ceil(piece_length.into());
        let most = Rules::default().max_pieces;
        if pieces > most.into() {
            return Err(Failure::usage(format!(
                "--piece-length: {pieces} pieces of {piece_length} bytes; expected a length that \
                 gives at most {most}"
            )));
        }
        let (sources, times): (Vec<Source>, Vec<_>) = found.into_iter().unzip();
        // The plan keeps its own order: the way back from a path to its time.
        let mut times: std::collections::BTreeMap<Vec<String>, Option<SystemTime>> = sources
            .iter()
            .map(|it| it.path.clone())
            .zip(times)
            .collect();
        let plan = Plan::new(&name, sources, piece_length, given.version)
            .map_err(|error| match error {
                BuildError::Name(bad) if bad == name => Failure::usage(format!(
                    "--name: expected one plain file name, not \"{name}\""
                )),
                other => wrong(&other.to_string()),
            })?
            .private(given.private);
        let files = plan.sources().iter().map(|source| {
            let time = times.remove(&source.path).flatten();
            (path.join(source.path.iter().collect::<PathBuf>()), time)
        });
        Ok(Self {
            // `join` of nothing would add a slash, which no file has.
            files: if meta.is_file() {
                files.map(|(_, time)| (path.clone(), time)).collect()
            } else {
                files.collect()
            },
            plan: Arc::new(plan),
        })
    }

    /// Hashes every piece, each a job of the storage workers; of a sparse file its holes once.
    fn hash(&self) -> Result<Vec<PieceHash>, Failure> {
        // The workers have nothing to answer but what is sent here.
        let mut storage = Storage::new(StorageConfig::default(), |_, _| {});
        let (send, receive) = mpsc::channel();
        let count = self.plan.piece_count();
        let mut hashes = vec![PieceHash::default(); count as usize];
        let zeros: Arc<OnceLock<PieceHash>> = Arc::default();
        let (mut next, mut waiting) = (0, 0);
        while next < count || waiting > 0 {
            while next < count && waiting < IN_FLIGHT {
                let zeros = Arc::clone(&zeros);
                let (plan, files) = (Arc::clone(&self.plan), Arc::clone(&self.files));
                let (piece, send) = (next, send.clone());
                storage.run(piece as usize, move |buffer| {
                    // The receiver is gone when an earlier piece failed.
                    let hashed = match zeros.get().filter(|_| is_one_hole(&plan, &files, piece)) {
                        Some(known) => Ok(*known),
                        None => hash_piece(&plan, &files, piece, buffer, &zeros),
                    };
                    let _ = send.send((piece, hashed));
                });
                next += 1;
                waiting += 1;
            }
            let (piece, hash) = receive
                .recv()
                .map_err(|_| Failure::failed("a worker thread ended"))?;
            hashes[piece as usize] = hash.map_err(Failure::failed)?;
            waiting -= 1;
        }
        self.check_unchanged()?;
        Ok(hashes)
    }

    /// Content that changed while it was hashed would never verify.
    fn check_unchanged(&self) -> Result<(), Failure> {
        for ((path, time), source) in self.files.iter().zip(self.plan.sources()) {
            let same = match source.symlink {
                Some(_) => fs::symlink_metadata(path).is_ok_and(|meta| modified(&meta) == *time),
                None => fs::metadata(path)
                    .is_ok_and(|meta| meta.len() == source.length && modified(&meta) == *time),
            };
            if !same {
                return Err(Failure::failed(changed(path)));
            }
        }
        Ok(())
    }
}

/// Whether a piece is a full one of a larger file, and a hole: those have one hash.
fn is_one_hole(plan: &Plan, files: &[(PathBuf, Option<SystemTime>)], piece: u32) -> bool {
    let mut parts = plan.parts(piece);
    let (Some(part), None) = (parts.next(), parts.next()) else {
        return false;
    };
    part.length == plan.piece_length()
        && part.source.is_some_and(|source| {
            plan.sources()[source].length > u64::from(part.length)
                && File::open(&files[source].0)
                    .is_ok_and(|file| is_hole(file, part.offset, part.length.into()))
        })
}

/// Hashes a piece; if it is the first hole, its hash is that of all `zeros`.
fn hash_piece(
    plan: &Plan,
    files: &[(PathBuf, Option<SystemTime>)],
    piece: u32,
    buffer: &mut Vec<u8>,
    zeros: &OnceLock<PieceHash>,
) -> Result<PieceHash, String> {
    let is_hole = is_one_hole(plan, files, piece);
    use std::io::Seek as _;
    let mut hasher = plan.piece_hasher(piece);
    buffer.resize(CHUNK, 0);
    for part in plan.parts(piece) {
        let Some(source) = part.source else { continue };
        let path = &files[source].0;
        let told = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut file = File::open(path).map_err(told)?;
        file.seek(std::io::SeekFrom::Start(part.offset))
            .map_err(told)?;
        let mut left = part.length as usize;
        while left > 0 {
            let chunk = &mut buffer[..left.min(CHUNK)];
            match file.read(chunk) {
                Ok(0) => return Err(changed(path)),
                Ok(read) => {
                    hasher.update(&chunk[..read]);
                    left -= read;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(told(error)),
            }
        }
    }
    let hash = hasher.finish().map_err(|error| error.to_string())?;
    // What was read is zeros only if nobody wrote there meanwhile.
    if is_hole && is_one_hole(plan, files, piece) {
        let _ = zeros.set(hash);
    }
    Ok(hash)
}

fn changed(path: &Path) -> String {
    format!(
        "{}: changed while it was read; try again when nobody writes to it",
        path.display()
    )
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
    if !crate::run::may_become_file(&args.output) {
        return Err(Failure::usage(format!(
            "--output: {}: expected a file in a folder that exists",
            args.output.display()
        )));
    }
    let report = Reporter::new(args.output_args);
    if args.private && args.tracker.is_empty() {
        report.warning(
            "private",
            "--private without --tracker: nobody will find peers of it but by --peer, since a \
             private torrent uses neither DHT, peer exchange nor local discovery",
        );
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let plan = CreatePlan {
        path: args.path.clone(),
        name: args.name.clone(),
        version: args.version(),
        piece_length: args.piece_length,
        private: args.private,
        outer: Outer {
            trackers: args.tracker.iter().map(|url| vec![url.clone()]).collect(),
            nodes: nodes(&args)?,
            web_seeds: args.web_seed.clone(),
            comment: args.comment.clone(),
            created_by: Some(concat!("Trackerless ", env!("CARGO_PKG_VERSION")).into()),
            creation_date: since.ok().map(|since| since.as_secs() as i64),
        },
        skip: Some(args.output.clone()),
        follow_symlinks: args.follow_symlinks,
    };
    // What is found in a folder is looked at as it is found.
    let mut kept = Kept::default();
    kept.add_config(args.config.as_deref());
    kept.add_table(StateDir::choose(args.state_dir.as_deref())?.as_ref());
    kept.add("PATH", &args.path);
    kept.check("--output", &args.output)?;
    crate::signals::exit_at_first()
        .map_err(|error| Failure::failed(format!("signals: {error}")))?;
    let created = create(&plan)?;
    write_atomic(&args.output, &created.bytes)
        .map_err(|error| Failure::failed(format!("{}: {error}", args.output.display())))?;
    let info = &created.torrent.info;
    let files = info.files.iter().filter(|file| !file.pad).count();
    report.say(&format!(
        "{}: {}, {}, {} of {}, written to {}",
        crate::display::printable(&info.name),
        human(info.content_length()),
        count(files as u64, "file"),
        count(info.piece_count, "piece"),
        human(info.piece_length.into()),
        args.output.display()
    ));
    let magnet = created.torrent.magnet().to_string();
    report.event(
        "metadata",
        serde_json::json!({
            "name": info.name,
            "size": info.content_length(),
            "files": files,
            "info_hash": info.hashes.best().to_string(),
            "magnet": magnet,
        }),
    );
    report.result(&magnet);
    Ok(DONE)
}

fn default_name(path: &Path) -> Option<String> {
    // `.` and `..` have a name of their own only once they are resolved.
    let resolved = path.canonicalize().ok()?;
    Some(resolved.file_name()?.to_str()?.to_owned())
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
