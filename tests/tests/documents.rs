//! What the documents name exists, and what they promise is run.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Texts between back-ticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn every_row_of_the_bep_table_names_modules_and_tests_that_exist() {
    let readme = read("README.md");
    let rows: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
        .collect();
    assert!(rows.len() >= 10, "the table has {} rows", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 4, "{row}");
        for module in quoted(cells[2]) {
            let base = root().join("core/src").join(module.replace("::", "/"));
            let exists = base.join("mod.rs").is_file() || base.with_extension("rs").is_file();
            assert!(exists, "there is no module {module}");
        }
        let tests: Vec<&str> = quoted(cells[3]).collect();
        assert!(!tests.is_empty(), "no test in: {row}");
        for test in tests {
            let text = read(test);
            let tested = text.contains("#[test]") || text.contains("quickcheck!");
            assert!(tested, "{test} has no test");
        }
    }
}

#[test]
fn the_readme_has_its_two_commands_and_ci_runs_them() {
    let readme = read("README.md");
    let ci = read(".ci/run");
    for command in [
        "cargo run --release -p trackerless-tokio -- demo",
        "cargo test --workspace",
    ] {
        assert!(
            readme.contains(&format!("```sh\n{command}\n```")),
            "{command}"
        );
    }
    assert!(ci.contains("tests/readme") && ci.contains("cargo test --workspace"));
}

#[test]
fn the_embedding_loop_shown_is_the_one_that_runs() {
    let readme = read("README.md");
    let example = read("runtime-common/examples/embed_loop.rs");
    let shown: Vec<&str> = readme.split("```rust\n").skip(1).collect();
    assert_eq!(shown.len(), 1);
    let code = shown[0].split("```").next().expect("a block ends");
    assert!(
        code.lines().count() >= 5 && example.contains(code),
        "{code}"
    );
    assert!(read(".ci/run").contains("*/examples/*.rs"));
}

#[test]
fn links_between_documents_lead_somewhere() {
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ] {
        for link in read(name).split("](").skip(1) {
            let target = link.split(')').next().expect("a link ends");
            if !target.contains("://") && !target.starts_with('#') {
                assert!(root().join(target).exists(), "{name} links to {target}");
            }
        }
    }
}
