//! How many steps something took, counted in tests: what it costs whatever the machine.

/// Takes note of `steps` words looked at or entries moved. Nothing outside tests.
#[inline]
pub(super) fn note(steps: usize) {
    #[cfg(test)]
    counted::STEPS.with(|total| total.set(total.get() + steps as u64));
    #[cfg(not(test))]
    let _ = steps;
}

/// The steps that `run` takes.
#[cfg(test)]
pub(super) fn of<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let before = counted::STEPS.get();
    let result = run();
    (result, counted::STEPS.get() - before)
}

#[cfg(test)]
mod counted {
    use std::cell::Cell;

    std::thread_local! {
        pub(super) static STEPS: Cell<u64> = const { Cell::new(0) };
    }
}
