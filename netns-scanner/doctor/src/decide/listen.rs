//! `listen-overflow`: SYNs dropped because a process accepts too slowly.

use crate::sample::{Delta, ListenQueue};
use crate::words::seconds;
use crate::{Certainty, CheckId, Finding, Severity, Subject, Thresholds};

/// Of a namespace: its counter's rise, and its listening sockets at the end of the window.
#[must_use]
pub fn listen_overflow(
    of: &Subject,
    overflows: Delta,
    queues: &[ListenQueue],
    thresholds: &Thresholds,
) -> Option<Finding> {
    if overflows.count == 0 {
        return None;
    }
    let rate = overflows.rate();
    let severity = if rate > thresholds.overflows_per_second { Severity::Error } else { Severity::Warning };
    let mut summary =
        format!("{} SYNs dropped at a full listen queue in {}", overflows.count, seconds(overflows.window));
    let fullest = fullest(queues);
    if let Some(queue) = fullest {
        summary.push_str(&format!(", queue {} of {} on :{}", queue.queue, queue.backlog, queue.local.port));
    }
    let mut finding = Finding::new(CheckId::ListenOverflow, severity, of, overflows.window, summary)
        .with("overflows", overflows.count)
        .with("window_s", overflows.window.as_secs_f64());
    match fullest {
        Some(queue) => {
            finding = finding
                .with("port", u64::from(queue.local.port))
                .with("queue", u64::from(queue.queue))
                .with("backlog", u64::from(queue.backlog));
        }
        // The counter is sure; that this namespace's workload owns the socket is what is left.
        None => finding.certainty = Certainty::Likely,
    }
    Some(finding)
}

/// The one that is full, and of several the one that is furthest beyond. One that has room now may
/// have been full within the window, but which one it was is not known then.
fn fullest(queues: &[ListenQueue]) -> Option<ListenQueue> {
    let full = queues.iter().filter(|queue| queue.queue > queue.backlog);
    full.max_by_key(|queue| (queue.queue - queue.backlog, queue.queue)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::Endpoint;
    use std::time::Duration;

    fn queue(port: u16, queue: u32, backlog: u32) -> ListenQueue {
        ListenQueue { local: Endpoint { ip: "0.0.0.0".parse().expect("address"), port }, queue, backlog }
    }

    fn severity(count: u64) -> Option<Severity> {
        let delta = Delta { count, window: Duration::from_secs(2) };
        listen_overflow(&Subject::default(), delta, &[], &Thresholds::default()).map(|finding| finding.severity)
    }

    #[test]
    fn none_is_fine_one_a_warning_and_more_than_five_a_second_an_error() {
        assert_eq!(severity(0), None);
        assert_eq!(severity(1), Some(Severity::Warning));
        assert_eq!(severity(10), Some(Severity::Warning), "exactly five a second");
        assert_eq!(severity(11), Some(Severity::Error));
    }

    #[test]
    fn the_socket_beyond_its_backlog_names_the_port_and_without_one_the_port_is_not_guessed() {
        let delta = Delta { count: 70, window: Duration::from_secs(60) };
        let find = |queues: &[ListenQueue]| {
            listen_overflow(&Subject::default(), delta, queues, &Thresholds::default()).expect("found")
        };
        let found = find(&[queue(22, 0, 128), queue(8080, 5, 4), queue(53, 4, 4)]);
        assert_eq!(found.summary, "70 SYNs dropped at a full listen queue in 60 s, queue 5 of 4 on :8080");
        assert_eq!(found.certainty, Certainty::Measured);
        let found = find(&[queue(22, 0, 128), queue(53, 4, 4)]);
        assert_eq!(found.certainty, Certainty::Likely);
        assert!(!found.evidence.contains_key("port"));
    }
}
