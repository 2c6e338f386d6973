//! The core stays pure: what it may depend on, and what its sources may not say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Everything the core may link in a normal build, direct or not. Each is `no_std` and none
/// touches a socket, clock, thread or file. Adding a line here is a decision, not a chore.
const CORE_MAY_LINK: &[&str] = &[
    "allocator-api2",
    "block-buffer",
    "bytes",
    "cfg-if",
    "chacha20",
    "cipher",
    "cmov",
    "const-oid",
    "cpubits",
    "cpufeatures",
    "crypto-bigint", // exchange of keys (feature `encryption`)
    "crypto-common",
    "ctutils",
    "curve25519-dalek", // and what follows: signatures of DHT items, behind the feature `ed25519`
    "curve25519-dalek-derive",
    "digest",
    "ed25519",
    "ed25519-dalek",
    "equivalent",
    "foldhash",
    "hashbrown",
    "hybrid-array",
    "inout",
    "libc", // constants for `cpufeatures` on some ARM systems; not linked elsewhere
    "num-traits",
    "proc-macro2", // with the three below: the compiler's, for `curve25519-dalek-derive`
    "quote",
    "rand_core",
    "rand_xoshiro",
    "rc4", // what it is all for (feature `encryption`)
    "sha1",
    "sha2",
    "signature",
    "smallvec",
    "subtle",
    "syn",
    "tinyvec",
    "typenum",
    "unicode-ident",
    "unicode-normalization", // which names one file system takes for one
    "zeroize",
];

/// No driver may link another driver's reactor, and what they share may link neither.
const MAY_NOT_LINK: &[(&str, &[&str])] = &[
    ("trackerless-common", &["tokio", "mio"]),
    ("trackerless-mio", &["tokio"]),
    ("trackerless-sim", &["tokio", "mio", "socket2", "ureq"]),
];

/// What speaks HTTP or TLS. One library does, and one package names it: what both drivers share.
const HTTP: &[&str] = &[
    "curl",
    "hyper",
    "isahc",
    "native-tls",
    "openssl",
    "reqwest",
    "rustls",
    "ureq",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What this machine would build; other platforms' packages need not be downloaded.
fn metadata() -> Value {
    let rustc = Command::new("rustc")
        .arg("-vV")
        .output()
        .expect("rustc runs");
    let rustc = String::from_utf8(rustc.stdout).expect("rustc prints UTF-8");
    let host = rustc
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc names its host");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", host])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Names of every package that `package` links in a normal build, on any platform.
fn links(metadata: &Value, package: &str) -> BTreeSet<String> {
    let mut names = BTreeMap::new();
    for entry in metadata["packages"].as_array().unwrap() {
        names.insert(
            entry["id"].as_str().unwrap(),
            entry["name"].as_str().unwrap(),
        );
    }
    let mut edges = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let normal: Vec<&str> = node["deps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dep| {
                let kinds = dep["dep_kinds"].as_array().unwrap();
                kinds.iter().any(|kind| kind["kind"].is_null())
            })
            .map(|dep| dep["pkg"].as_str().unwrap())
            .collect();
        edges.insert(node["id"].as_str().unwrap(), normal);
    }
    let start = *names
        .iter()
        .find(|(_, name)| **name == package)
        .unwrap_or_else(|| panic!("package {package} is in the workspace"))
        .0;
    let mut seen = BTreeSet::new();
    let mut stack = edges[start].clone();
    while let Some(id) = stack.pop() {
        if seen.insert(names[id].to_string()) {
            stack.extend(&edges[id]);
        }
    }
    seen
}

#[test]
fn the_core_links_only_what_is_allowed() {
    let linked = links(&metadata(), "trackerless-core");
    assert!(
        linked.contains("bytes"),
        "the walk found nothing: {linked:?}"
    );
    let strangers: Vec<_> = linked
        .iter()
        .filter(|name| !CORE_MAY_LINK.contains(&name.as_str()))
        .collect();
    assert!(
        strangers.is_empty(),
        "the core links {strangers:?}, which its allow-list does not name"
    );
}

#[test]
fn no_package_links_a_reactor_that_is_not_its_own() {
    let metadata = metadata();
    for (package, banned) in MAY_NOT_LINK {
        let linked = links(&metadata, package);
        for name in *banned {
            assert!(!linked.contains(*name), "{package} links {name}");
        }
    }
}

#[test]
fn no_driver_has_an_http_stack_of_its_own() {
    let metadata = metadata();
    let mut speakers = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let ours = name.starts_with("trackerless-");
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        for dependency in dependencies.filter(|_| ours) {
            let dependency = dependency["name"].as_str().unwrap();
            if HTTP.contains(&dependency) {
                speakers.push((name, dependency));
            }
        }
    }
    assert_eq!(speakers, [("trackerless-common", "ureq")]);
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn the_core_is_no_std_and_has_no_unsafe_code() {
    let lib = std::fs::read_to_string(root().join("core/src/lib.rs")).unwrap();
    assert!(lib.contains("#![no_std]"));
    assert!(lib.contains("#![forbid(unsafe_code)]"));

    let mut files = Vec::new();
    rust_files(&root().join("core/src"), &mut files);
    assert!(files.len() > 20, "the walk found {} files", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let production = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (number, line) in production.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for banned in [
                "#[ignore",
                "todo!(",
                "unimplemented!(",
                "thread_local!",
                "static mut ",
            ] {
                assert!(
                    !code.contains(banned),
                    "{}:{}: {banned}",
                    file.display(),
                    number + 1
                );
            }
        }
    }
}
