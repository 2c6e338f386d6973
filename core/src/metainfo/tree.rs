//! The `file tree` of BEP 52.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::MetainfoError;
use super::info::{Listed, RawFile, Rules, read_file};
use crate::bencode::{Dict, DictIter, Value};

/// Lists the files of the tree in order, without recursion.
pub(super) fn read_tree<'a>(
    info: Dict<'_, 'a>,
    name: &[u8],
    rules: &Rules,
) -> Result<Listed<'a>, MetainfoError> {
    const KEY: &str = "info.file tree";
    let expected = "a dictionary of files";
    let value = info
        .find(b"file tree")
        .ok_or_else(|| MetainfoError::missing(KEY, info, expected))?;
    let tree = value
        .as_dict()
        .ok_or_else(|| MetainfoError::wrong(KEY, value, expected))?;

    let mut files: Vec<RawFile<'a>> = Vec::new();
    let mut open = Vec::from([Folder::new(tree)]);
    let mut names: Vec<&'a [u8]> = Vec::new();
    let mut path_bytes: u64 = 0;
    while let Some(folder) = open.last_mut() {
        let Some((element, value)) = folder.entries.next() else {
            open.pop();
            names.pop();
            continue;
        };
        let key = || key_of(&names, element);
        if element.is_empty() {
            let found = "a file without a name";
            return Err(MetainfoError::found(key(), value, found, "a name"));
        }
        // Both views, and all clients, must agree on the order.
        if folder
            .last
            .replace(element)
            .is_some_and(|last| last >= element)
        {
            let found = "a key that is not after the one before it";
            return Err(MetainfoError::found(key(), value, found, "sorted keys"));
        }
        let dict = value
            .as_dict()
            .ok_or_else(|| MetainfoError::wrong(key(), value, "a dictionary"))?;
        if open.len() > rules.max_path_depth as usize {
            let expected = format!("at most {} elements", rules.max_path_depth);
            return Err(MetainfoError::found(
                key(),
                value,
                "a deeper path",
                expected,
            ));
        }
        names.push(element);
        match dict.find(b"") {
            Some(leaf) => {
                if files.len() >= rules.max_files as usize {
                    let expected = format!("at most {} files", rules.max_files);
                    let key = key_of(&names, b"");
                    return Err(MetainfoError::found(key, value, "one more file", expected));
                }
                path_bytes += names.iter().map(|name| 24 + name.len() as u64).sum::<u64>();
                if path_bytes > rules.max_path_bytes {
                    let expected = format!("at most {} bytes of paths", rules.max_path_bytes);
                    let key = key_of(&names, b"");
                    return Err(MetainfoError::found(key, value, "more", expected));
                }
                files.push(read_leaf(dict, leaf, &names)?);
                names.pop();
            }
            None => open.push(Folder::new(dict)),
        }
    }
    if files.is_empty() {
        return Err(MetainfoError::wrong(KEY, value, "at least one file"));
    }
    let single = matches!(&files[..], [file] if file.names == [name]);
    Ok(Listed { files, single })
}

struct Folder<'t, 'a> {
    entries: DictIter<'t, 'a>,
    last: Option<&'a [u8]>,
}

impl<'t, 'a> Folder<'t, 'a> {
    fn new(dict: Dict<'t, 'a>) -> Self {
        Self {
            entries: dict.iter(),
            last: None,
        }
    }
}

fn key_of(names: &[&[u8]], last: &[u8]) -> String {
    let mut key = "info.file tree".to_string();
    for name in names.iter().chain([&last]).filter(|name| !name.is_empty()) {
        key.push('.');
        key.push_str(&name.escape_ascii().to_string());
    }
    key
}

fn read_leaf<'a>(
    parent: Dict<'_, 'a>,
    leaf: Value<'_, 'a>,
    names: &[&'a [u8]],
) -> Result<RawFile<'a>, MetainfoError> {
    let key = key_of(names, b"");
    let dict = leaf
        .as_dict()
        .ok_or_else(|| MetainfoError::wrong(&key, leaf, "a dictionary"))?;
    if parent.iter().nth(1).is_some() {
        let found = "names beside a file";
        return Err(MetainfoError::found(
            &key,
            leaf,
            found,
            "a file or a folder",
        ));
    }
    let mut file = read_file(dict, &key, |_| Ok(names.to_vec()))?;
    if file.attributes.pad {
        let found = "a pad file";
        return Err(MetainfoError::found(
            &key,
            leaf,
            found,
            "none, as v2 has no need of them",
        ));
    }
    if file.length > 0 {
        let key = format!("{key}.pieces root");
        let expected = "32 bytes that are not all zero";
        let value = dict
            .find(b"pieces root")
            .ok_or_else(|| MetainfoError::missing(&key, dict, expected))?;
        let root = value
            .as_array::<32>()
            .filter(|root| *root != [0; 32])
            .ok_or_else(|| MetainfoError::wrong(&key, value, expected))?;
        file.pieces_root = Some(root);
    }
    Ok(file)
}
