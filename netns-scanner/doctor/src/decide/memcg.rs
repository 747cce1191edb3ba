//! `memcg-dying` and `slow-read`: memory cgroups that are removed and not gone, and what reading their
//! figures costs.

use crate::words::seconds;
use crate::{CheckId, Finding, Severity, Subject, Thresholds};
use std::time::Duration;

/// Memory cgroups of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryCgroups {
    /// That were removed, and are kept by pages that are charged to them.
    pub dying: u64,
    /// The others.
    pub living: u64,
    /// Release of the kernel: before 5.2 each read of a total sums all of them up.
    pub kernel: (u32, u32),
}

/// Kernels from here on keep totals, and dying cgroups cost memory alone.
const KEEPS_TOTALS: (u32, u32) = (5, 2);

/// Of the node.
#[must_use]
pub fn memcg_dying(of: &Subject, cgroups: MemoryCgroups, thresholds: &Thresholds) -> Option<Finding> {
    let MemoryCgroups { dying, living, kernel } = cgroups;
    let many = dying > thresholds.dying_cgroups && dying as f64 >= thresholds.dying_times * living.max(1) as f64;
    let severity = if kernel < KEEPS_TOTALS { Severity::Warning } else { Severity::Info };
    many.then(|| {
        let summary = format!("{dying} memory cgroups are removed and not gone, beside {living} that live");
        Finding::new(CheckId::MemcgDying, severity, of, Duration::ZERO, summary)
            .with("dying", dying)
            .with("living", living)
    })
}

/// One read of the root's `memory.stat`: what it took, None where it did not come back.
#[must_use]
pub fn slow_read(of: &Subject, took: Option<Duration>, thresholds: &Thresholds) -> Option<Finding> {
    let (severity, held, summary) = match took {
        None => {
            let limit = thresholds.read_error;
            (Severity::Error, limit, format!("one read of memory.stat did not come back in {}", seconds(limit)))
        }
        Some(took) if took > thresholds.read_warning => {
            (Severity::Warning, took, format!("one read of memory.stat took {} ms", took.as_millis()))
        }
        Some(_) => return None,
    };
    Some(Finding::new(CheckId::SlowRead, severity, of, Duration::ZERO, summary).with("took_s", held.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_dying_cgroups_are_evidence_and_on_old_kernels_a_warning() {
        let find = |dying, living, kernel| {
            let cgroups = MemoryCgroups { dying, living, kernel };
            memcg_dying(&Subject::default(), cgroups, &Thresholds::default()).map(|found| found.severity)
        };
        assert_eq!(find(2_001, 200, (6, 18)), Some(Severity::Info));
        assert_eq!(find(2_001, 200, (5, 2)), Some(Severity::Info));
        assert_eq!(find(2_001, 200, (5, 1)), Some(Severity::Warning));
        assert_eq!(find(2_001, 200, (4, 18)), Some(Severity::Warning));
        assert_eq!([find(2_000, 7, (4, 18)), find(2_001, 201, (4, 18)), find(0, 0, (4, 18))], [None; 3]);
    }

    #[test]
    fn a_tenth_of_a_second_is_slow_and_a_read_that_does_not_come_back_an_error() {
        let find = |took: Option<u64>| {
            let took = took.map(Duration::from_millis);
            slow_read(&Subject::default(), took, &Thresholds::default()).map(|found| (found.severity, found.summary))
        };
        assert_eq!(find(Some(100)), None);
        assert_eq!(find(Some(740)), Some((Severity::Warning, "one read of memory.stat took 740 ms".to_owned())));
        let said = "one read of memory.stat did not come back in 1.0 s".to_owned();
        assert_eq!(find(None), Some((Severity::Error, said)));
    }
}
