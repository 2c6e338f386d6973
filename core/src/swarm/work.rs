//! How many steps something took, counted in tests: what it costs whatever the machine.

/// Takes note of `steps` words looked at or entries moved. Nothing outside tests.
#[inline]
pub(super) fn note(steps: usize) {
    #[cfg(test)]
    tests::STEPS.with(|total| total.set(total.get() + steps as u64));
    #[cfg(not(test))]
    let _ = steps;
}

/// The steps that `run` takes.
#[cfg(test)]
pub(super) fn of<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let before = tests::STEPS.get();
    let result = run();
    (result, tests::STEPS.get() - before)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    std::thread_local! {
        /// A counter of each test, as each runs on a thread of its own.
        pub(super) static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    #[test]
    fn only_the_steps_of_the_run_count() {
        super::note(5);
        let ((), steps) = super::of(|| (1..=3).for_each(super::note));
        assert_eq!(steps, 6);
    }
}
