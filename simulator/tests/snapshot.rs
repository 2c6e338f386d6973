//! What the built-in scenarios come to, pinned: a change of behaviour is seen as a change of text.
//!
//! The same figures and the same root come out in every build profile, on every platform; virtual
//! time only, so nothing here depends on the machine. A line may change when what engines say or
//! decide is meant to change (a policy, a message, a default, a new random draw), or what the
//! simulator models. It may not change with a refactoring, a dependency, a compiler or a profile:
//! then something depends on what it must not.
//!
//! `SNAPSHOT=write cargo test -p trackerless-sim --test snapshot` writes the file anew; whoever
//! commits it has read the difference.

use std::fmt::Write as _;
use std::time::Duration;

use trackerless_sim::scenario;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshot.txt");

fn seconds(time: Duration) -> String {
    format!("{:.6} s", time.as_secs_f64())
}

fn table() -> String {
    let mut text = String::new();
    for (name, seed) in [("demo", 1), ("magnet", 1), ("pex-only", 1)] {
        let report = scenario::find(name).unwrap().run(seed);
        let completed = &report.results.completed_at;
        let mut times: Vec<_> = completed.iter().flatten().copied().collect();
        times.sort_unstable();
        let _ = writeln!(text, "{name}, seed {seed}");
        let _ = writeln!(text, "  trace root    {}", report.root);
        let _ = writeln!(text, "  inputs        {}", report.handled);
        let _ = writeln!(text, "  virtual time  {}", seconds(report.elapsed));
        let all = completed.len();
        let _ = writeln!(text, "  completed     {} of {all}", times.len());
        if let (Some(first), Some(last)) = (times.first(), times.last()) {
            let _ = writeln!(text, "  first         {}", seconds(*first));
            let _ = writeln!(text, "  last          {}", seconds(*last));
        }
    }
    text
}

#[test]
fn scenarios_come_to_what_they_came_to_before() {
    let now = table();
    if std::env::var_os("SNAPSHOT").is_some_and(|what| what == "write") {
        std::fs::write(FILE, &now).unwrap();
    }
    let before = std::fs::read_to_string(FILE).unwrap();
    assert!(
        now == before,
        "another outcome than in {FILE}; when may it change? See above this test.\n\
         before:\n{before}\nnow:\n{now}"
    );
}
