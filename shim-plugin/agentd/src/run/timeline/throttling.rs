//! How often the CPU limit stopped containers whose probes are slow, or whose workload has another
//! finding: read of those alone, and only while they are. Pure: whoever reads the files says what they said.

use doctor::history::Periods;
use flow_model::Ts;
use golden_metrics::{Loss, Losses};
use k8s_sync::cluster::object::Uid;
use shim_plugin::{LocalName, Run, TaskId, TaskNews};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Runs of containers in pods, some of them in no pod that is known yet.
const MOST: usize = 2048;
/// Read at a time: two files each, some 10 us.
const AT_A_TIME: usize = 8;
/// Between two looks at one container.
const EVERY: Duration = Duration::from_secs(2);
/// What is told is of so long at most.
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Running {
    pid: u32,
    /// As containerd calls it.
    name: Option<Arc<LocalName>>,
    /// Its pod and its name there.
    of: Option<(Uid, Box<str>)>,
    asked: Option<Ts>,
    /// The first one of the window, and the last one.
    readings: Option<[(Ts, Periods); 2]>,
}

#[derive(Debug)]
pub struct Throttling {
    runs: HashMap<TaskId, Running>,
    full: Loss,
}

impl Throttling {
    pub fn new(losses: &Losses) -> Throttling {
        let full = losses.place("probes", "runs_full", "containers whose throttling is not told");
        Throttling { runs: HashMap::new(), full }
    }

    /// Before anybody is told that it ended.
    pub fn news(&mut self, news: &TaskNews) {
        match news {
            TaskNews::Began(_) if self.runs.len() >= MOST => self.full.add(1),
            TaskNews::Began(Run { task, pid, name, .. }) => {
                let of = name.as_deref().and_then(of);
                self.runs.insert(*task, Running { pid: *pid, name: name.clone(), of, asked: None, readings: None });
            }
            TaskNews::Named { task, name } => {
                if let Some(running) = self.runs.get_mut(task) {
                    running.of = of(name);
                    running.name = Some(name.clone());
                }
            }
            TaskNews::OutOfMemory { .. } | TaskNews::Ended { .. } => {}
        }
    }

    pub fn ended(&mut self, task: TaskId) {
        self.runs.remove(&task);
    }

    /// Which of these are to be looked at now, with their pids: by pod and container, and by whose they
    /// are.
    pub fn due(
        &mut self,
        now: Ts,
        suspects: &[(Uid, &str)],
        is_ill: impl Fn(&LocalName) -> bool,
    ) -> Vec<(TaskId, u32)> {
        let is_suspect =
            |of: &(Uid, Box<str>)| suspects.iter().any(|(uid, container)| of.0 == *uid && *of.1 == **container);
        let is_wanted = |running: &Running| {
            running.of.as_ref().is_some_and(is_suspect) || running.name.as_deref().is_some_and(&is_ill)
        };
        let is_due =
            |running: &&mut Running| running.asked.is_none_or(|asked| now.since(asked) >= EVERY) && is_wanted(running);
        let due = self.runs.iter_mut().map(|(task, running)| (*task, running)).filter(|(_, running)| is_due(running));
        let asked = |(task, running): (TaskId, &mut Running)| {
            running.asked = Some(now);
            (task, running.pid)
        };
        due.take(AT_A_TIME).map(asked).collect()
    }

    pub fn read(&mut self, task: TaskId, periods: Periods, now: Ts) {
        let Some(running) = self.runs.get_mut(&task) else { return };
        running.readings = Some(match running.readings {
            Some([first, _]) if now.since(first.0) <= WINDOW => [first, (now, periods)],
            // The window begins anew where the last one ended, if that is not long ago.
            Some([_, last]) if now.since(last.0) <= WINDOW => [last, (now, periods)],
            _ => [(now, periods); 2],
        });
    }

    /// Of late, of all that were looked at: with the time that it is of.
    pub fn all(&self, now: Ts) -> impl Iterator<Item = (&Arc<LocalName>, Periods, Duration)> {
        self.runs.values().filter_map(move |running| {
            let [(from, before), (at, after)] = running.readings?;
            let periods = (now.since(at) <= WINDOW).then(|| after.since(before))??;
            Some((running.name.as_ref()?, periods, at.since(from)))
        })
    }

    /// Of late; None where its CPU is not limited, or nobody looked twice.
    pub fn of(&self, pod: Uid, container: &str, now: Ts) -> Option<Periods> {
        let is_it = |of: &(Uid, Box<str>)| of.0 == pod && *of.1 == *container;
        let running = self.runs.values().find(|running| running.of.as_ref().is_some_and(is_it))?;
        let [(_, before), (at, after)] = running.readings?;
        (now.since(at) <= WINDOW).then(|| after.since(before))?
    }
}

fn of(name: &LocalName) -> Option<(Uid, Box<str>)> {
    let pod = Uid::parse(&name.pod_uid)?;
    (!name.container.is_empty()).then(|| (pod, (*name.container).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shim_plugin::{ContainerRef, LinkId, NameSource, Observe};
    use std::sync::Arc;

    const UID: &str = "0f3ac1ee-8d2b-4a76-9c63-0d1f2a3b4c5d";

    fn at(seconds: u64) -> Ts {
        Ts(seconds * 1_000_000_000)
    }

    fn named(container: &str) -> Arc<LocalName> {
        let workload = flow_model::Workload {
            namespace: "shop".into(),
            name: "api".into(),
            kind: flow_model::WorkloadKind::Deployment,
            pod: "api-1".into(),
        };
        Arc::new(LocalName {
            workload: Arc::new(workload),
            pod_uid: UID.into(),
            container: container.into(),
            source: NameSource::PodContainer,
            observe: Observe::All,
        })
    }

    fn began(task: u64, name: Option<Arc<LocalName>>) -> TaskNews {
        let container = ContainerRef::new(LinkId(0), "k8s.io", "c");
        TaskNews::Began(Run { task: TaskId(task), container, pid: 70, name, slot: None, sharing: 1 })
    }

    #[test]
    fn only_suspects_are_looked_at_and_what_is_told_is_of_the_last_minute() {
        let pod = Uid::parse(UID).expect("a uid");
        let mut throttling = Throttling::new(&Losses::default());
        throttling.news(&began(1, Some(named("app"))));
        throttling.news(&began(2, None));
        assert_eq!(throttling.due(at(1), &[], |_| false), []);
        assert_eq!(throttling.due(at(1), &[(pod, "app"), (pod, "late")], |_| false), [(TaskId(1), 70)]);
        throttling.news(&TaskNews::Named { task: TaskId(2), name: named("late") });
        assert_eq!(
            throttling.due(at(2), &[(pod, "app"), (pod, "late")], |_| false),
            [(TaskId(2), 70)],
            "the other one just was"
        );
        assert_eq!(throttling.due(at(3), &[(pod, "app")], |_| false), [(TaskId(1), 70)]);

        let mut read = |second, all, throttled| {
            throttling.read(TaskId(1), Periods { all, throttled }, at(second));
            throttling.of(pod, "app", at(second))
        };
        assert_eq!(read(10, 100, 100), None, "what was before says nothing");
        assert_eq!(read(40, 130, 105), Some(Periods { all: 30, throttled: 5 }));
        assert_eq!(read(70, 150, 125), Some(Periods { all: 50, throttled: 25 }));
        assert_eq!(read(71, 160, 130), Some(Periods { all: 10, throttled: 5 }), "the minute is over");
        assert_eq!(read(72, 160, 130), Some(Periods { all: 10, throttled: 5 }));
        assert_eq!(throttling.of(pod, "app", at(200)), None, "long ago");
        let workloads = |name: &LocalName| &*name.workload.name == "api";
        assert_eq!(throttling.due(at(80), &[], workloads).len(), 2, "whose workload has another finding");
        let all: Vec<_> = throttling.all(at(72)).map(|(name, periods, of)| (&*name.container, periods, of)).collect();
        assert_eq!(all, [("app", Periods { all: 10, throttled: 5 }, Duration::from_secs(2))]);
        throttling.ended(TaskId(1));
        assert_eq!(throttling.of(pod, "app", at(72)), None);
    }
}
