//! Handles of the folders that the files of a torrent are in.
//!
//! A folder is opened from the one above it, element by element, and where something is written
//! never through a symbolic link: so a handle stands for a folder below the output folder, and
//! whatever happens to its name later, it goes on to stand for that folder. That makes it safe to
//! keep. It is believed for [`LOOK_EVERY`] only, so that a folder that somebody takes away or puts
//! another in the place of is noticed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{self as rfs, Mode, OFlags};
use rustix::io::Errno;
use trackerless_core::metainfo::Info;

use super::changes::{LOOK_EVERY, changed};
use super::raw::clean;

/// Symbolic links are never followed where something is written, so that no link that was put below
/// the output folder, by a torrent or by anybody, leads a write out of it.
pub(super) const NO_FOLLOW: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// The output folder among the folders.
const ROOT: u32 = 0;

/// Device and inode.
type Identity = (u64, u64);

/// A folder of the torrent, open.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    pub(super) folder: Arc<File>,
    pub(super) device: u64,
    /// Names in it that are reserved.
    pub(super) reserved: Arc<[OsString]>,
    /// When it, or the first of those above it, was looked at by name.
    looked: Instant,
}

#[derive(Debug)]
struct Folder {
    above: u32,
    /// A file below it, whose path begins with this folder's.
    file: u32,
    /// Elements of its path.
    depth: u32,
}

/// The folders of one torrent.
#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
    /// The folder of each file.
    of_file: Vec<u32>,
    /// The output folder first, others after those they lie in.
    all: Vec<Folder>,
    open: HashMap<u32, Handle>,
    /// Oldest first.
    order: VecDeque<u32>,
    limit: usize,
    /// One that was not there, and when: its files and folders need not be looked for.
    absent: Option<(u32, Instant)>,
    /// Device and inode of the output folder, once it was seen.
    identity: Option<Identity>,
    /// A folder of each device that was written to.
    devices: BTreeMap<u64, Arc<File>>,
    /// Files that are never written.
    reserved: Vec<PathBuf>,
    /// What those are by now, and when that was looked up.
    reserved_now: Option<(Instant, Vec<Identity>)>,
}

impl Folders {
    /// Those of `info` below `root`, of which `limit` are kept open at most.
    pub(super) fn new(info: &Info, root: &Path, limit: usize) -> Self {
        let mut all = vec![Folder {
            above: ROOT,
            file: 0,
            depth: 0,
        }];
        let mut of_file = Vec::with_capacity(info.files.len());
        let mut known: HashMap<&[String], u32> = HashMap::new();
        for (index, file) in info.files.iter().enumerate() {
            let folder = file.path.split_last().map_or(&[][..], |(_, folder)| folder);
            let mut at = ROOT;
            // Padding is in no folder.
            if !file.pad && !folder.is_empty() {
                at = known.get(folder).copied().unwrap_or_else(|| {
                    for depth in 1..=folder.len() {
                        at = *known.entry(&folder[..depth]).or_insert_with(|| {
                            all.push(Folder {
                                above: at,
                                file: index as u32,
                                depth: depth as u32,
                            });
                            all.len() as u32 - 1
                        });
                    }
                    at
                });
            }
            of_file.push(at);
        }
        Self {
            root: root.to_owned(),
            of_file,
            all,
            open: HashMap::new(),
            order: VecDeque::new(),
            limit: limit.max(1),
            absent: None,
            identity: None,
            devices: BTreeMap::new(),
            reserved: Vec::new(),
            reserved_now: None,
        }
    }

    /// Files that are never written, under whatever name.
    pub(super) fn reserve(&mut self, files: &[PathBuf]) {
        self.reserved = files.to_vec();
    }

    /// Whether a file with this device and inode is reserved.
    pub(super) fn is_reserved(&mut self, identity: Identity) -> bool {
        if self.reserved.is_empty() {
            return false;
        }
        let fresh = |(at, _): &(Instant, _)| at.elapsed() < LOOK_EVERY;
        if !self.reserved_now.as_ref().is_some_and(fresh) {
            let files = self.reserved.iter();
            let found = files.filter_map(|path| std::fs::metadata(path).ok());
            let found = found.filter(std::fs::Metadata::is_file);
            let found = found.map(|meta| (meta.dev(), meta.ino())).collect();
            self.reserved_now = Some((Instant::now(), found));
        }
        let mut now = self.reserved_now.iter().flat_map(|(_, now)| now);
        now.any(|one| *one == identity)
    }

    /// Forgets every handle: the next use looks at every folder again.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.order.clear();
        self.absent = None;
    }

    /// A folder of each device that was written to.
    pub(super) fn devices(&self) -> Vec<Arc<File>> {
        self.devices.values().cloned().collect()
    }

    /// The output folder.
    pub(super) fn root(&mut self, info: &Info) -> io::Result<Handle> {
        self.get(info, ROOT, false, false, |_, _| false)
    }

    /// The folder of file `index`. With `create` it is made where it is missing, unless `was_here`
    /// says of a file below it, and of how many elements of its path, that it was there before.
    /// With `follow` links are followed.
    pub(super) fn of(
        &mut self,
        info: &Info,
        index: u32,
        create: bool,
        follow: bool,
        was_here: impl Fn(usize, usize) -> bool,
    ) -> io::Result<Handle> {
        let folder = self.of_file[index as usize];
        self.get(info, folder, create, follow, was_here)
    }

    /// Something is about to be written in a folder.
    pub(super) fn note_device(&mut self, handle: &Handle) {
        let known = self.devices.entry(handle.device);
        known.or_insert_with(|| Arc::clone(&handle.folder));
    }

    fn get(
        &mut self,
        info: &Info,
        folder: u32,
        create: bool,
        follow: bool,
        was_here: impl Fn(usize, usize) -> bool,
    ) -> io::Result<Handle> {
        // Up to the nearest that is believed, then down again.
        let mut chain = Vec::new();
        let mut at = folder;
        let mut handle = loop {
            if let Some(known) = self.open.get(&at)
                && known.looked.elapsed() < LOOK_EVERY
            {
                break known.clone();
            }
            if let Some((absent, looked)) = self.absent
                && absent == at
            {
                if !create && looked.elapsed() < LOOK_EVERY {
                    return Err(io::ErrorKind::NotFound.into());
                }
                self.absent = None;
            }
            if at == ROOT {
                let root = self.open_root(create)?;
                break self.keep(ROOT, root, Instant::now())?;
            }
            chain.push(at);
            at = self.all[at as usize].above;
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let flags = if follow { flags } else { flags | NO_FOLLOW };
        for at in chain.into_iter().rev() {
            let Folder { file, depth, .. } = self.all[at as usize];
            let element = clean(&info.files[file as usize].path[depth as usize - 1])?;
            let open = || rfs::openat(&*handle.folder, element, flags, Mode::empty());
            let next = match open() {
                Err(Errno::NOENT) if create => {
                    if was_here(file as usize, depth as usize) {
                        return Err(changed());
                    }
                    let mode = Mode::from_raw_mode(0o777);
                    match rfs::mkdirat(&*handle.folder, element, mode) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    open()?
                }
                Err(Errno::NOENT) => {
                    self.absent = Some((at, Instant::now()));
                    return Err(io::ErrorKind::NotFound.into());
                }
                next => next?,
            };
            // As old as what it was found by: else a deep folder would be believed for longer.
            let looked = handle.looked;
            handle = self.keep(at, next.into(), looked)?;
        }
        Ok(handle)
    }

    /// The output folder itself is the user's choice, a link or not.
    fn open_root(&mut self, create: bool) -> io::Result<File> {
        if create && self.identity.is_none() {
            std::fs::create_dir_all(&self.root)?;
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        match rfs::open(&self.root, flags, Mode::empty()) {
            Err(Errno::NOENT) if self.identity.is_some() => Err(changed()),
            Err(Errno::NOENT) => {
                self.absent = Some((ROOT, Instant::now()));
                Err(io::ErrorKind::NotFound.into())
            }
            root => Ok(root?.into()),
        }
    }

    fn keep(&mut self, at: u32, folder: File, looked: Instant) -> io::Result<Handle> {
        let meta = folder.metadata()?;
        let identity = (meta.dev(), meta.ino());
        if at == ROOT && *self.identity.get_or_insert(identity) != identity {
            return Err(changed());
        }
        let handle = Handle {
            folder: Arc::new(folder),
            device: meta.dev(),
            reserved: self.reserved_in(identity).into(),
            looked,
        };
        if self.open.insert(at, handle.clone()).is_none() {
            self.order.push_back(at);
            if self.order.len() > self.limit
                && let Some(oldest) = self.order.pop_front()
            {
                self.open.remove(&oldest);
            }
        }
        Ok(handle)
    }

    /// Names in the folder with this device and inode that are reserved, there or not.
    fn reserved_in(&self, folder: Identity) -> Vec<OsString> {
        let mut above: Vec<(&Path, bool)> = Vec::new();
        let mut names = Vec::new();
        for path in &self.reserved {
            let parent = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let is_here = match above.iter().find(|(known, _)| *known == parent) {
                Some((_, is_here)) => *is_here,
                None => {
                    let meta = std::fs::metadata(parent);
                    let is_here = meta.is_ok_and(|it| (it.dev(), it.ino()) == folder);
                    above.push((parent, is_here));
                    is_here
                }
            };
            if is_here && let Some(name) = path.file_name() {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// Whether a file was seen, as `is_seen` says, in the folder that the first `depth` elements of the
/// path of file `index` lead to. Files of a folder follow each other.
pub(super) fn was_here(
    info: &Info,
    index: usize,
    depth: usize,
    is_seen: impl Fn(u32) -> bool,
) -> bool {
    let files = &info.files;
    let folder = &files[index].path[..depth];
    let inside = |at: &usize| files[*at].pad || files[*at].path.starts_with(folder);
    let before = (0..index).rev().take_while(inside);
    let after = (index..files.len()).take_while(inside);
    let mut all = before.chain(after);
    all.any(|at| is_seen(at as u32))
}
