//! `rp-filter`: packets come by an interface by which their sender would not be answered, and are dropped.

use crate::sample::Delta;
use crate::words::seconds;
use crate::{Certainty, CheckId, Finding, Severity, Subject};

/// Of a namespace. On the node's own network packets with a forged sender are among them, and nobody can
/// tell.
#[must_use]
pub fn rp_filter(of: &Subject, dropped: Delta, is_node: bool) -> Option<Finding> {
    if dropped.count == 0 {
        return None;
    }
    let what = if dropped.count == 1 { "1 packet".to_owned() } else { format!("{} packets", dropped.count) };
    let summary = format!(
        "{what} dropped in {}: they came by another interface than the way back to their sender",
        seconds(dropped.window)
    );
    let mut finding = Finding::new(CheckId::RpFilter, Severity::Warning, of, dropped.window, summary)
        .with("dropped", dropped.count)
        .with("rate", dropped.rate())
        .with("window_s", dropped.window.as_secs_f64());
    if is_node {
        finding.certainty = Certainty::Likely;
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_packet_is_enough_and_on_the_nodes_own_network_it_is_likely() {
        let find = |count, is_node| {
            let found = rp_filter(&Subject::default(), Delta { count, window: Duration::from_secs(2) }, is_node);
            found.map(|found| (found.summary, found.certainty))
        };
        assert_eq!(find(0, false), None);
        let said = "1 packet dropped in 2.0 s: they came by another interface than the way back to their sender";
        assert_eq!(find(1, false), Some((said.to_owned(), Certainty::Measured)));
        assert_eq!(find(20, true).map(|(_, certainty)| certainty), Some(Certainty::Likely));
    }
}
