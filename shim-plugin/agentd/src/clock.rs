//! The one place of the workspace that asks what time it is for an observation.

use flow_model::Ts;
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Now by the kernel's monotonic clock, which the kernel programs stamp packets with (`bpf_ktime_get_ns`).
#[must_use]
pub fn now() -> Ts {
    // CLOCK_MONOTONIC exists on every Linux, and the pointer is ours: it does not fail.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or_else(|_| nix::sys::time::TimeSpec::new(0, 0));
    let (seconds, nanos) = (u64::try_from(time.tv_sec()).unwrap_or(0), u64::try_from(time.tv_nsec()).unwrap_or(0));
    Ts(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// The processor's time that this thread has used.
#[must_use]
pub fn of_this_thread() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// The processor's time that all threads of this process have used.
#[must_use]
pub fn of_this_process() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}
