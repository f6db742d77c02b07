//! Many jobs side by side on the CPUs there are; results in the order of the jobs.
//!
//! Counts do not depend on what else runs, so this costs nothing but memory. Each worker thread is confined to no
//! CPU itself; the tree it runs is, where the job says so.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// As many workers as this process has CPUs.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Runs `work(index, worker)` for every index below `count` on `workers` threads, and hands each result to `done` on
/// this thread as it comes. Returns the results by index; those of a worker that died are absent.
pub fn run<T: Send>(
    count: usize,
    workers: usize,
    work: impl Fn(usize, usize) -> T + Sync,
    mut done: impl FnMut(usize, &T),
) -> Vec<Option<T>> {
    let next = AtomicUsize::new(0);
    let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        for worker in 0..workers.clamp(1, count.max(1)) {
            let (send, next, work) = (send.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count || send.send((index, work(index, worker))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (index, result) in receive {
            done(index, &result);
            results[index] = Some(result);
        }
    });
    results
}

/// The CPUs this process may use, in order.
pub fn cpus() -> Vec<usize> {
    let all = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0));
    let usable = |set: nix::sched::CpuSet| {
        (0..nix::sched::CpuSet::count())
            .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
            .collect()
    };
    all.map(usable)
        .ok()
        .filter(|cpus: &Vec<usize>| !cpus.is_empty())
        .unwrap_or_else(|| vec![0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_back_in_order_whatever_the_number_of_workers() {
        for workers in [1, 2, 7, 100] {
            let mut seen = 0;
            let results = run(20, workers, |index, _| index * index, |_, _| seen += 1);
            let expected: Vec<_> = (0..20).map(|index| Some(index * index)).collect();
            assert_eq!((results, seen), (expected, 20));
        }
    }

    #[test]
    fn no_jobs_are_no_results() {
        assert_eq!(
            run(0, 4, |index, _| index, |_, _| ()),
            Vec::<Option<usize>>::new()
        );
    }

    #[test]
    fn this_process_may_use_at_least_one_cpu() {
        assert!(!cpus().is_empty());
    }
}
