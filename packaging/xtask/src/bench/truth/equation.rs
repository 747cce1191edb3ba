//! The equation, as it is said and held.

use crate::bench::say;
use anyhow::{Result, ensure};
use std::time::Duration;
use testbed::{Agent, until};

/// Longest time that the last exchanges take to be counted or given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Packets that this machine's receive queues have had no room for (`/proc/net/softnet_stat`, second
/// column). Of one that is not sent again, as before a reset, only the sender's end knows.
#[derive(Debug)]
pub(super) struct Dropped(u64);

impl Dropped {
    pub(super) fn until_now() -> Dropped {
        let table = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
        let dropped = table.lines().filter_map(|cpu| u64::from_str_radix(cpu.split_whitespace().nth(1)?, 16).ok());
        Dropped(dropped.sum())
    }
}

/// Says what each reporter counted and lost of what was sent, and what is in neither. `before`: when
/// nothing was sent yet.
pub(super) fn hold(agent: &Agent, profile: &str, sent: u64, before: &Dropped) -> Result<()> {
    let mut exact = true;
    for reporter in ["client", "server"] {
        let mut seen = (0, 0);
        let settled = until("counted", PATIENCE, || {
            seen = agent.counted_and_lost(reporter).unwrap_or_default();
            seen.0 + seen.1 == sent
        });
        let (counted, lost) = seen;
        exact &= settled.is_ok();
        let found = i128::from(counted) + i128::from(lost);
        let verdict = match i128::from(sent) - found {
            _ if settled.is_ok() => "exact".to_owned(),
            missing if missing > 0 => format!("DIFFERS: {missing} in neither"),
            missing => format!("DIFFERS: {} more than were sent", -missing),
        };
        let why = reasons(agent, reporter);
        say(&format!("truth: {profile}: {reporter}: sent {sent}, counted {counted}, lost {lost}{why}: {verdict}"));
    }
    let dropped = Dropped::until_now().0.saturating_sub(before.0);
    let [aside, replaced] = ["pilotfish_ends_aside_total", "pilotfish_flows_replaced_total"]
        .map(|name| agent.metrics().map_or(0, |metrics| metrics.count(name, &[])));
    say(&format!(
        "truth: {profile}: places of loss: {}; ends told from aside: {aside}, flows replaced: {replaced}; packets \
         dropped by queues: {dropped}",
        places(agent)
    ));
    ensure!(exact, "the equation does not hold");
    Ok(())
}

/// `stage/reason n, ...` of what was dropped anywhere.
fn places(agent: &Agent) -> String {
    let Ok(metrics) = agent.metrics() else { return String::new() };
    let lost = metrics.named("pilotfish_lost_total").filter(|sample| sample.value > 0.0);
    let each: Vec<String> =
        lost.map(|sample| format!("{}/{} {}", sample.label("stage"), sample.label("reason"), sample.value)).collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

/// ` (reason n, ...)` of what a reporter lost; empty where it lost nothing.
fn reasons(agent: &Agent, reporter: &str) -> String {
    let Ok(metrics) = agent.metrics() else { return String::new() };
    let of_reporter = |sample: &&testbed::Sample| sample.label("reporter") == reporter && sample.value > 0.0;
    let each: Vec<String> = metrics
        .named("pilotfish_exchanges_lost_total")
        .filter(of_reporter)
        .map(|sample| format!("{} {}", sample.label("reason"), sample.value))
        .collect();
    if each.is_empty() { String::new() } else { format!(" ({})", each.join(", ")) }
}
