//! Scenarios in `cargo test`.

use std::fmt::Write as _;
use std::ops::Range;

use crate::campaign::repeat;
use crate::scenario::Scenario;

/// The seed that [`check`] runs instead of all, if the environment names one.
pub const SEED_VARIABLE: &str = "TRACKERLESS_SIM_SEED";

/// Runs a scenario with each of these seeds, and panics if a property does not hold: with what was
/// seen, and how to repeat it.
///
/// ```
/// let scenario = trackerless_sim::scenario::find("demo").unwrap();
/// trackerless_sim::check(&scenario, 0..3);
/// ```
///
/// `TRACKERLESS_SIM_SEED=2 cargo test` repeats one seed alone.
///
/// # Panics
/// When a property does not hold with one of the seeds.
#[track_caller]
pub fn check(scenario: &Scenario, seeds: Range<u64>) {
    let only = std::env::var(SEED_VARIABLE)
        .ok()
        .and_then(|seed| seed.parse().ok());
    if let Err(message) = judge(scenario, seeds, only) {
        panic!("{message}");
    }
}

/// What [`check`] says, if anything.
fn judge(scenario: &Scenario, seeds: Range<u64>, only: Option<u64>) -> Result<(), String> {
    let seeds = only.map_or(seeds, |only| only..only + 1);
    let mut message = String::new();
    let mut failed = 0;
    for seed in seeds.clone() {
        let failures = scenario.run(seed).failures;
        failed += u32::from(!failures.is_empty());
        // One seed in full; of the others how many there are.
        if failures.is_empty() || failed > 1 {
            continue;
        }
        let _ = writeln!(message, "{}, seed {seed}:", scenario.name);
        for failure in &failures {
            let _ = writeln!(message, "  {failure}");
        }
        let test = std::thread::current()
            .name()
            .map(str::to_owned)
            .unwrap_or_default();
        let _ = writeln!(
            message,
            "repeat here: {SEED_VARIABLE}={seed} cargo test {test}"
        );
        let is_built_in = crate::scenario::find(&scenario.name).as_ref() == Some(scenario);
        if is_built_in {
            let _ = writeln!(message, "or: {}", repeat(&scenario.name, seed, &[]));
        }
    }
    if failed == 0 {
        return Ok(());
    }
    let all = seeds.end - seeds.start;
    let _ = write!(message, "{failed} of {all} seeds failed");
    Err(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::find;

    #[test]
    fn what_fails_is_told_with_the_way_to_repeat_it() {
        let mut scenario = find("demo").unwrap();
        assert_eq!(judge(&scenario, 0..2, None), Ok(()));
        scenario.pack.max_unchoked = Some(1);
        let said = judge(&scenario, 4..6, None).unwrap_err();
        assert!(said.starts_with("demo, seed 4:\n  slots: host "), "{said}");
        let repeat = "repeat here: TRACKERLESS_SIM_SEED=4 cargo test check::tests::what_fails";
        assert!(said.contains(repeat), "{said}");
        assert!(said.ends_with("2 of 2 seeds failed"), "{said}");
        let said = judge(&scenario, 4..6, Some(5)).unwrap_err();
        assert!(said.starts_with("demo, seed 5:"), "{said}");
        // As it is it could be repeated by its name, and this one is another.
        assert!(!said.contains("trackerless-sim run demo"), "{said}");
    }
}
