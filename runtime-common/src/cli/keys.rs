//! Keys of mutable DHT items (BEP 44): a file with a seed in hexadecimal digits.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use trackerless_core::dht::item::SigningKey;

use crate::error::Failure;

/// Most of a file that is read: a seed needs 65 bytes.
const MAX_FILE: u64 = 1_024;

/// The key in `path`; makes one there, which only its owner may read, if there is no such file:
/// `made` is told then.
///
/// # Errors
/// The file holds no seed, cannot be read, or cannot be made.
pub(crate) fn load_or_make(path: &Path, made: impl FnOnce()) -> Result<SigningKey, Failure> {
    let wrong = |why: String| Failure::usage(format!("--key {}: {why}", path.display()));
    match std::fs::File::open(path) {
        Ok(file) => {
            let mut text = String::new();
            io::Read::read_to_string(&mut io::Read::take(file, MAX_FILE), &mut text)
                .map_err(|error| wrong(error.to_string()))?;
            let seed = super::values::hex32(text.trim())
                .ok_or_else(|| wrong("expected a seed of 64 hexadecimal digits".into()))?;
            Ok(SigningKey::from_seed(&seed))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let seed = make(path).map_err(|error| wrong(format!("cannot be made: {error}")))?;
            made();
            Ok(SigningKey::from_seed(&seed))
        }
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn make(path: &Path) -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let digits: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    let written = writeln!(file, "{digits}").and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key would be in the way of the next.
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mut told = 0;
        let first = load_or_make(&path, || told += 1).unwrap().public();
        let again = load_or_make(&path, || told += 1).unwrap().public();
        assert_eq!((first, told), (again, 1));
        #[cfg(unix)]
        {
            let meta = std::fs::metadata(&path).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        let other = load_or_make(&folder.path().join("other"), || {}).unwrap();
        assert_ne!(other.public(), first);
    }

    #[test]
    fn what_is_no_key_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for text in [
            "",
            "abc",
            &"g".repeat(64),
            &"a".repeat(65),
            &"a".repeat(5_000),
        ] {
            std::fs::write(&path, text).unwrap();
            let failure = load_or_make(&path, || panic!("none is made")).unwrap_err();
            assert!(failure.message.contains("64 hexadecimal"), "{failure}");
            assert_eq!(failure.code, crate::error::USAGE);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let none = folder.path().join("nowhere/key");
        let failure = load_or_make(&none, || panic!("none is made")).unwrap_err();
        assert!(failure.message.contains("cannot be made"), "{failure}");
    }

    #[test]
    fn the_seed_of_a_vector_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        std::fs::write(&path, format!("{seed}\n")).unwrap();
        let key = load_or_make(&path, || {}).unwrap();
        assert_eq!(key.public()[..4], [0x3d, 0x40, 0x17, 0xc3]);
    }
}
