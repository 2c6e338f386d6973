//! File names that are safe to write, whatever a torrent says.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use unicode_normalization::UnicodeNormalization as _;

/// Which file system the names are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PathStyle {
    /// Only `/` and NUL are special.
    #[default]
    Posix,
    /// Also refuses what Windows cannot store: `?<>"|*:`, trailing dots and spaces, device names.
    Windows,
}

/// Longest path element kept, bytes: file systems allow 255, a number may be added later.
const MAX_ELEMENT: usize = 240;
/// An extension up to this long, bytes, survives when a name is shortened.
const MAX_EXTENSION: usize = 10;

/// Turns path elements as they came into ones that stay below the folder they are put in.
///
/// Slashes go, `.` and `..` are dropped, an empty element becomes `_`, a run of bytes that cannot
/// be in a name becomes one `_`, controls of text direction vanish. The result may be empty.
#[must_use]
pub fn clean_path(elements: &[&[u8]], style: PathStyle) -> Vec<String> {
    elements
        .iter()
        .filter_map(|element| clean_element(element, style))
        .collect()
}

/// One element of [`clean_path`]; `None` when nothing of it is left.
#[must_use]
pub fn clean_element(element: &[u8], style: PathStyle) -> Option<String> {
    if element.is_empty() {
        return Some("_".to_string());
    }
    let mut out = String::with_capacity(element.len());
    let mut replaced = false;
    for chunk in element.utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, '/' | '\\') || is_direction_control(c) {
                continue;
            }
            let usable = is_usable(c, style);
            if usable {
                out.push(c);
            } else if !replaced {
                out.push('_');
            }
            replaced = !usable;
        }
        if !chunk.invalid().is_empty() && !replaced {
            out.push('_');
            replaced = true;
        }
    }
    if matches!(out.as_str(), "" | "." | "..") {
        return None;
    }
    if style == PathStyle::Windows {
        out.truncate(out.trim_end_matches(['.', ' ']).len());
        if out.is_empty() {
            return None;
        }
        if is_device(&out) {
            out.insert(0, '_');
        }
    }
    shorten(&mut out);
    Some(out)
}

fn is_usable(c: char, style: PathStyle) -> bool {
    let reserved = style == PathStyle::Windows && "?<>\"|*:".contains(c);
    !c.is_control() && !reserved
}

/// Marks that make a name look other than it is.
fn is_direction_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let is = |device: &&str| stem.eq_ignore_ascii_case(device);
    let numbered = || {
        let port = stem
            .get(..3)
            .is_some_and(|s| s.eq_ignore_ascii_case("com") || s.eq_ignore_ascii_case("lpt"));
        port && matches!(stem.as_bytes(), [_, _, _, b'1'..=b'9'])
    };
    ["con", "prn", "aux", "nul"].iter().any(is) || numbered()
}

fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_EXTENSION => name.split_at(dot),
        _ => (name, ""),
    }
}

fn shorten(name: &mut String) {
    if name.len() <= MAX_ELEMENT {
        return;
    }
    let (stem, extension) = split_extension(name);
    let mut end = MAX_ELEMENT - extension.len();
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    *name = format!("{}{extension}", &stem[..end]);
}

/// Tells apart paths that would be one file on some file system: it compares without case and
/// Unicode form, and files also with folders. Folders keep their names, later files get a number.
/// Tells which paths those are, in order, and what their last elements were.
pub(super) fn tell_apart<'p>(
    paths: impl Iterator<Item = &'p mut Vec<String>>,
) -> Vec<(usize, String)> {
    let mut all_renamed = Vec::new();
    let mut paths: Vec<_> = paths.collect();
    let mut folders = Folders::default();
    let mut parents: Vec<u32> = Vec::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| &paths[before][..]);
        parents.push(folders.add(path, before.unwrap_or_default()));
    }

    let mut files = BTreeSet::new();
    // Where to go on counting for a name, so that many equal names do not cost their square.
    let mut counters: BTreeMap<(u32, String), u32> = BTreeMap::new();
    for (at, (path, parent)) in paths.iter_mut().zip(parents).enumerate() {
        let Some(name) = path.last_mut() else {
            continue;
        };
        let mut is_new =
            |key: &(u32, String)| !folders.ids.contains_key(key) && files.insert(key.clone());
        let original = (parent, fold(name));
        if is_new(&original) {
            continue;
        }
        let count = counters.entry(original).or_insert(0);
        let (stem, extension) = split_extension(name);
        let renamed = loop {
            *count += 1;
            let candidate = format!("{stem}.{count}{extension}");
            if is_new(&(parent, fold(&candidate))) {
                break candidate;
            }
        };
        all_renamed.push((at, core::mem::replace(name, renamed)));
    }
    all_renamed
}

/// The folders of a torrent, each known by a number, so that a deep path costs its own length once.
#[derive(Default)]
struct Folders {
    ids: BTreeMap<(u32, String), u32>,
    /// The folders of the path before, outermost first.
    open: Vec<u32>,
}

impl Folders {
    /// Adds the folders of `path` and tells which one its file is in; 0 is the output folder.
    fn add(&mut self, path: &[String], before: &[String]) -> u32 {
        let elements = &path[..path.len().saturating_sub(1)];
        let shared = elements
            .iter()
            .zip(before)
            .take_while(|(a, b)| a == b)
            .count();
        self.open.truncate(shared);
        for element in &elements[self.open.len()..] {
            let parent = self.open.last().copied().unwrap_or(0);
            let next = self.ids.len() as u32 + 1;
            self.open
                .push(*self.ids.entry((parent, fold(element))).or_insert(next));
        }
        self.open.last().copied().unwrap_or(0)
    }
}

/// What names are compared by: equal for names that some file system takes for one, because it
/// ignores case (NTFS, APFS, exFAT) or Unicode form (APFS, HFS+). Upper case first, since that is
/// what makes `ß` equal `SS`.
fn fold(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    let decomposed = name.nfd().flat_map(char::to_uppercase);
    decomposed.flat_map(char::to_lowercase).nfd().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::vec;

    fn joined(elements: &[&[u8]], style: PathStyle) -> String {
        clean_path(elements, style).join("/")
    }

    #[test]
    fn elements_are_cleaned() {
        let rows: &[(&[&[u8]], &str, &str)] = &[
            (&[b"a", b"..", b"c"], "a/c", "a/c"),
            (&[b"/..", b".", b"c"], "c", "c"),
            (&[b"/a/", b"b", b"c"], "a/b/c", "a/b/c"),
            (&[b"\\c", b".", b"c"], "c/c", "c/c"),
            (&[b"//\\"], "", ""),
            (&[b"a...b"], "a...b", "a...b"),
            (&[b"abc", b""], "abc/_", "abc/_"),
            (&[b"", b"abc"], "_/abc", "_/abc"),
            (&[b"\x08"], "_", "_"),
            (&[b"dev:"], "dev:", "dev_"),
            (&[b"c:", b"b"], "c:/b", "c_/b"),
            (&[b"abc..."], "abc...", "abc"),
            (&[b"abc   "], "abc   ", "abc"),
            (&[b"a. . ."], "a. . .", "a"),
            (&[b"filename\xc2"], "filename_", "filename_"),
            (&[b"filename\xe2"], "filename_", "filename_"),
            (&[b"filename\xe2\x9f"], "filename_", "filename_"),
            (&[b"filename\xf0\x9f\x92"], "filename_", "filename_"),
            (&[b"filename\xc0\xae"], "filename_", "filename_"),
            (&[b"filename\xe0\x80\xae"], "filename_", "filename_"),
            (&[b"filename\xf0\x80\x80\xae"], "filename_", "filename_"),
            (
                &[b"filename\xf8\x9f\x9f\x9f\x9ffoobar"],
                "filename_foobar",
                "filename_foobar",
            ),
            (&[b"\0\0\xed\0\x80"], "_", "_"),
            (&[b"foo\xe2\x80\x8e.bar"], "foo.bar", "foo.bar"),
            (&[b"foo\xe2\x80\xab.bar"], "foo.bar", "foo.bar"),
            (&[b"NUL.txt"], "NUL.txt", "_NUL.txt"),
            (&[b"com1", b"com10"], "com1/com10", "_com1/com10"),
        ];
        for (elements, posix, windows) in rows {
            assert_eq!(joined(elements, PathStyle::Posix), *posix, "{elements:?}");
            assert_eq!(
                joined(elements, PathStyle::Windows),
                *windows,
                "{elements:?}"
            );
        }
    }

    #[test]
    fn long_names_keep_their_extension() {
        let name = "é".repeat(200) + ".tar.zst";
        let clean = clean_element(name.as_bytes(), PathStyle::Posix).expect("a name");
        assert!(clean.len() <= MAX_ELEMENT && clean.ends_with(".zst"));
        let name = "a".repeat(300);
        let clean = clean_element(name.as_bytes(), PathStyle::Posix).expect("a name");
        assert_eq!(clean.len(), MAX_ELEMENT);
    }

    fn apart(paths: &[&[&str]]) -> Vec<String> {
        let mut paths: Vec<Vec<String>> = paths
            .iter()
            .map(|path| path.iter().map(ToString::to_string).collect())
            .collect();
        tell_apart(paths.iter_mut());
        paths.iter().map(|path| path.join("/")).collect()
    }

    #[test]
    fn colliding_names_are_told_apart() {
        assert_eq!(
            apart(&[
                &["t", "a.txt"],
                &["t", "A.TXT"],
                &["t", "a.1.txt"],
                &["t", "a.txt"]
            ]),
            ["t/a.txt", "t/A.1.TXT", "t/a.1.1.txt", "t/a.2.txt"]
        );
        assert_eq!(apart(&[&["t", "x"], &["T", "X", "y"]]), ["t/x.1", "T/X/y"]);
        assert_eq!(apart(&[&["Ä"], &["ä"]]), ["Ä", "ä.1"]);
        // Composed and decomposed, in files and folders; marks in any order; other cases of `s`.
        assert_eq!(
            apart(&[&["\u{e4}.txt"], &["a\u{308}.txt"], &["A\u{308}", "x"]]),
            ["\u{e4}.txt", "a\u{308}.1.txt", "A\u{308}/x"]
        );
        assert_eq!(
            apart(&[&["\u{e9}", "x"], &["e\u{301}"]]),
            ["\u{e9}/x", "e\u{301}.1"]
        );
        assert_eq!(
            apart(&[&["a\u{323}\u{307}"], &["a\u{307}\u{323}"]]),
            ["a\u{323}\u{307}", "a\u{307}\u{323}.1"]
        );
        assert_eq!(
            apart(&[
                &["Straße"],
                &["STRASSE"],
                &["\u{17f}"],
                &["s"],
                &["\u{212a}"],
                &["k"]
            ]),
            ["Straße", "STRASSE.1", "\u{17f}", "s.1", "\u{212a}", "k.1"]
        );
        // Another letter is another name.
        assert_eq!(apart(&[&["ä"], &["a"], &["å"]]), ["ä", "a", "å"]);
    }

    #[test]
    fn many_equal_names_are_told_apart_quickly() {
        let mut paths = vec![vec!["same".to_string()]; 20_000];
        tell_apart(paths.iter_mut());
        assert_eq!(paths[19_999], ["same.19999"]);
    }

    quickcheck! {
        fn no_element_can_leave_its_folder(elements: Vec<Vec<u8>>, windows: bool) -> bool {
            let style = if windows { PathStyle::Windows } else { PathStyle::Posix };
            let elements: Vec<&[u8]> = elements.iter().map(Vec::as_slice).collect();
            clean_path(&elements, style).iter().all(|element| {
                !element.is_empty()
                    && element != "."
                    && element != ".."
                    && !element.contains(['/', '\\', '\0'])
            })
        }

        fn paths_are_told_apart(names: Vec<u8>) -> bool {
            let alphabet = ["a", "A", "b", "a.1", "a.1.1", "B.txt", "b.TXT"];
            let mut paths: Vec<Vec<String>> = names
                .chunks(2)
                .map(|path| path.iter().map(|n| alphabet[usize::from(n % 7)].to_string()).collect())
                .collect();
            tell_apart(paths.iter_mut());
            let mut seen = BTreeSet::new();
            let folded = |path: &[String]| path.join("/").to_lowercase();
            paths.iter().all(|path| seen.insert(folded(path)))
                && paths.iter().all(|path| {
                    path.len() < 2 || !seen.contains(&folded(&path[..1]))
                })
        }
    }
}
