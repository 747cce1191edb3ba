//! What `pilotfish status` says of the namespaces: each fact asked of whoever owns it.

use super::namespace::Namespace;
use agent_api as api;
use capture_engine::attach::{AttachState, AttachStatus, Mechanism};
use flow_model::Slot;
use shim_plugin::{OBSERVE, TaskState, TaskView, Why};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Namespaces with a slot, as the attacher has them, and tasks that have none.
pub fn namespaces(
    known: &BTreeMap<Slot, Namespace>,
    quiet: &BTreeSet<Slot>,
    attached: Vec<AttachStatus>,
    tasks: Vec<TaskView>,
) -> Vec<api::Namespace> {
    let mut attached: HashMap<Slot, AttachStatus> = attached.into_iter().map(|status| (status.slot, status)).collect();
    let with_slot = known.iter().map(|(slot, known)| {
        let is_quiet = quiet.contains(slot);
        namespace(*slot, known, is_quiet, attached.remove(slot))
    });
    with_slot.chain(tasks.into_iter().filter_map(without_slot)).collect()
}

fn namespace(slot: Slot, known: &Namespace, is_quiet: bool, status: Option<AttachStatus>) -> api::Namespace {
    let mode = status.as_ref().and_then(AttachStatus::mechanism);
    let (state, interfaces, attached_at, doubts) = match status {
        Some(AttachStatus { slot: _, state, interfaces, attached_at, took: _, failures: _, doubts }) => {
            let quiet = is_quiet.then(|| format!("its label {OBSERVE} says \"tcp\""));
            let doubts: Vec<String> = quiet.into_iter().chain(doubts.iter().cloned()).collect();
            (state, interfaces, attached_at, doubts.join("; "))
        }
        // The attacher has let go of it, and its word for that is on the way.
        None => (AttachState::Leaving, Arc::new([]) as Arc<[_]>, None, String::new()),
    };
    let (state, mode, reason, attached_at) = match state {
        // It has a slot: to wait for a worker is part of attaching.
        AttachState::Discovered | AttachState::Attaching => ("attaching", "", String::new(), None),
        // A namespace whose interfaces are still to come is attached: they will be, when they
        // appear.
        AttachState::Attached => ("attached", mode.map_or("none", Mechanism::as_str), doubts, attached_at),
        AttachState::Failed { reason } => ("failed", "", reason, None),
        AttachState::Leaving | AttachState::Gone => ("leaving", "", String::new(), None),
    };
    let (namespace, workload) = match known.workload() {
        Some(workload) => (workload.namespace.to_string(), workload.name.to_string()),
        None => Default::default(),
    };
    let netns = known.netns();
    api::Namespace {
        slot: slot.0,
        netns: format!("{}:{}", netns.dev, netns.ino),
        state: state.to_owned(),
        mode: mode.to_owned(),
        reason,
        namespace,
        workload,
        addresses: known.addresses().map(|ip| ip.to_string()).collect(),
        interfaces: interfaces.iter().map(|interface| interface.name.clone()).collect(),
        attach_ms: attached_at.map(|at| at.saturating_duration_since(known.asked()).as_secs_f64() * 1e3),
        // The board knows.
        forwarded: 0,
    }
}

/// A container whose namespace could not be opened, was not taken, or not yet, or is left out.
fn without_slot(view: TaskView) -> Option<api::Namespace> {
    let TaskView { container, state, name, .. } = view;
    let (state, reason) = match state {
        TaskState::Discovered => ("discovered", String::new()),
        TaskState::Failed { reason, .. } => ("failed", reason),
        // One row a namespace.
        TaskState::LeftOut { why, first: true, .. } => ("left_out", left_out(why)),
        TaskState::LeftOut { .. } | TaskState::Attaching(_) | TaskState::Placed(_) | TaskState::Node => return None,
    };
    let (namespace, workload) = match name {
        Some(name) => (name.workload.namespace.to_string(), name.workload.name.to_string()),
        None => (container.namespace.to_string(), container.id.to_string()),
    };
    Some(api::Namespace { state: state.to_owned(), reason, namespace, workload, ..Default::default() })
}

fn left_out(why: Why) -> String {
    match why {
        Why::Namespace => "capture.exclude_namespaces names its namespace".to_owned(),
        Why::Label => format!("its label {OBSERVE} says \"false\""),
    }
}

#[cfg(test)]
mod tests {
    use super::super::namespace::Met;
    use super::*;
    use capture_engine::attach::Interface;
    use flow_model::{NetnsId, Ts};
    use k8s_sync::{IdentityIndex, Limits};
    use shim_plugin::{ContainerRef, LinkId, TaskId};
    use std::time::{Duration, Instant};

    fn status(slot: u32, state: AttachState, attached_at: Option<Instant>) -> AttachStatus {
        let eth0 = Interface { index: 2, name: "eth0".to_owned(), mechanism: Mechanism::Clsact };
        AttachStatus {
            slot: Slot(slot),
            state,
            interfaces: Arc::new([eth0]),
            attached_at,
            took: None,
            failures: 0,
            doubts: Arc::new([]),
        }
    }

    fn told(rows: &[api::Namespace]) -> Vec<String> {
        let row = |row: &api::Namespace| {
            format!("{} {} {} {} {:?}", row.slot, row.state, row.mode, row.reason, row.attach_ms.map(|ms| ms as u64))
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn the_attacher_says_how_a_namespace_stands_and_the_registry_why_a_task_has_none() {
        let asked = Instant::now();
        let at = Some(asked + Duration::from_millis(7));
        let met = Met { asked, since: Ts(0), pid: 1, is_new: true, is_old: false };
        let names = IdentityIndex::new(Limits::default()).expectation();
        let namespace = || Namespace::new(NetnsId { dev: 4, ino: 9 }, met, names.begin());
        let known = (1..=6).map(|slot| (Slot(slot), namespace())).collect();
        let refused = || AttachState::Failed { reason: "refused".to_owned() };
        let attached = vec![
            status(1, AttachState::Discovered, None),
            status(2, AttachState::Attaching, None),
            status(3, AttachState::Attached, at),
            status(4, refused(), at),
            status(5, AttachState::Leaving, at),
        ];
        let task = |state| TaskView {
            task: TaskId(1),
            container: ContainerRef::new(LinkId(0), "k8s.io", "c1"),
            pid: 42,
            state,
            name: None,
        };
        let failed = TaskState::Failed { reason: "all 1 attachments are in use".to_owned(), attempts: 3 };
        let left_out = |first| task(TaskState::LeftOut { why: Why::Label, on_node: false, first });
        let tasks = vec![
            task(TaskState::Discovered),
            task(failed),
            task(TaskState::Placed(Slot(3))),
            left_out(true),
            left_out(false),
        ];
        assert_eq!(
            told(&namespaces(&known, &BTreeSet::from([Slot(3)]), attached, tasks)),
            [
                "1 attaching   None",
                "2 attaching   None",
                "3 attached clsact its label pilotfish.io/observe says \"tcp\" Some(7)",
                "4 failed  refused None",
                "5 leaving   None",
                "6 leaving   None",
                "0 discovered   None",
                "0 failed  all 1 attachments are in use None",
                "0 left_out  its label pilotfish.io/observe says \"false\" None",
            ]
        );
    }
}
