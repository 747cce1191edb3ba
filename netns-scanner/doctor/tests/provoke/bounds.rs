//! What is beyond a bound is counted, and the checks that miss it are not fine.

use crate::api::knows_api_server;
use crate::room::{Room, brief};
use doctor::drops::BeginsToCount;
use doctor::{Asked, Bounds, By, CheckId, Report, examine};
use std::time::Duration;

const DROPS: Option<BeginsToCount> = Some(crate::drops::begin);

/// A look into a room with 20 connections, which is healthy.
fn look(bounds: Bounds) -> Report {
    let room = Room::new("connects", "true", "20");
    let api_server = Ok(knows_api_server());
    let only = Some([room.ino].into());
    let report = examine(&Asked { only, thresholds: brief(), bounds, api_server, drops: DROPS, ..Asked::default() });
    assert_eq!(report.findings, vec![], "{report:?}");
    assert_eq!(report.fine.len() + report.not_made.len(), CheckId::on_demand().count(), "{report:?}");
    report
}

/// As a report tells those that are fine.
fn sorted(wanted: impl Fn(CheckId) -> bool) -> Vec<CheckId> {
    let mut checks: Vec<CheckId> = CheckId::ALL.into_iter().filter(|id| wanted(*id)).collect();
    checks.sort_unstable();
    checks
}

/// Of the node, and drops: they are counted in all namespaces, whoever lives there.
fn without_sockets() -> Vec<CheckId> {
    sorted(|id| id.is_of_node() || id.by() == By::Drops)
}

fn reasons(report: &Report) -> Vec<(CheckId, &str)> {
    report.not_made.iter().map(|not_made| (not_made.id, not_made.reason.as_str())).collect()
}

#[test]
fn sockets_beyond_the_bound_leave_no_check_fine() {
    // 20 connections with both ends, and the listener.
    let report = look(Bounds { sockets: 10, ..Bounds::default() });
    assert_eq!((report.looked.sockets, &report.looked.left_out), (10, &[("sockets", 31)].into()));
    assert_eq!(report.fine, without_sockets());
    assert_eq!(reasons(&report)[0].1, "31 sockets beyond the bound were not looked at");
}

#[test]
fn connections_beyond_the_bound_leave_those_checks_alone_that_need_none() {
    let report = look(Bounds { connections: 30, ..Bounds::default() });
    assert_eq!(report.looked.left_out, [("connections", 10)].into());
    let fine = sorted(|id| id.is_on_demand() && id.by() != By::Connections);
    assert_eq!(report.fine, fine);
    let report = look(Bounds { cpu: Duration::ZERO, ..Bounds::default() });
    assert_eq!(report.looked.left_out, [("namespaces for want of processor time", 1)].into());
    assert_eq!(report.not_made.len(), CheckId::made_by(By::Connections).count());
}

#[test]
fn a_namespace_or_a_process_beyond_the_bound_is_counted() {
    let report = look(Bounds { namespaces: 0, processes: 0, ..Bounds::default() });
    assert_eq!(report.looked.left_out, [("namespaces", 1), ("processes", 1)].into());
    assert_eq!((report.fine, report.looked.namespaces), (without_sockets(), 0));
}

#[test]
fn a_look_that_sees_nobody_is_not_fine() {
    let nobody = netns::Netns::create().expect("make a namespace: run this as root");
    let only = Some([nobody.id().ino].into());
    let report = examine(&Asked { only, thresholds: brief(), drops: DROPS, ..Asked::default() });
    assert_eq!((report.findings.len(), report.fine.len(), report.looked.sockets), (0, without_sockets().len(), 0));
    let reason = "no process that holds a TCP or UDP socket was seen";
    assert!(reasons(&report).iter().all(|(_, told)| *told == reason), "{report:?}");
}

#[test]
fn a_look_without_time_says_so() {
    let report = look(Bounds { all: Duration::ZERO, ..Bounds::default() });
    assert_eq!(report.fine, vec![]);
    assert!(reasons(&report).iter().all(|(_, reason)| *reason == "the time for all reads is over"), "{report:?}");
}
