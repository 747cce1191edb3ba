//! The part of a look that reads cgroups: kills for memory, and the periods of CPU limits.

use super::Look;
use crate::decide::{cpu_throttled, oom_inside};
use crate::history::Periods;
use crate::sample::OomKills;
use crate::sockets::Sockets;
use crate::{CheckId, Finding, Subject};
use flow_model::Ts;
use std::collections::BTreeMap;
use std::path::PathBuf;

const CHECKS: [CheckId; 2] = [CheckId::OomInside, CheckId::CpuThrottled];

/// Whose a file of a cgroup is: the namespace and one of its processes.
type Files = BTreeMap<PathBuf, (u64, u32)>;

/// Cgroups of processes, and what their files said at the window's beginning.
#[derive(Debug, Default)]
pub struct Cgroups {
    kills_in: Files,
    kills: BTreeMap<PathBuf, OomKills>,
    periods_in: Files,
    periods: BTreeMap<PathBuf, (Ts, Periods)>,
}

impl Look<'_> {
    pub(super) fn cgroups(&mut self, sockets: &Sockets) -> Cgroups {
        let mut cgroups = Cgroups::default();
        if !self.wants(&CHECKS) {
            return cgroups;
        }
        let most = self.asked.bounds.processes;
        for (pid, ino) in sockets.processes.iter().take(most) {
            let files = self.readers.cgroup_files(*pid);
            let Some(files) = self.seen(files, &CHECKS) else { continue };
            if let Some(file) = files.kills.filter(|_| self.wants(&[CheckId::OomInside])) {
                cgroups.kills_in.entry(file).or_insert((*ino, *pid));
            }
            if let Some(file) = files.periods.filter(|_| self.wants(&[CheckId::CpuThrottled])) {
                cgroups.periods_in.entry(file).or_insert((*ino, *pid));
            }
        }
        cgroups.kills = self.kills(&cgroups.kills_in);
        cgroups.periods = self.periods(&cgroups.periods_in);
        cgroups
    }

    fn kills(&mut self, files: &Files) -> BTreeMap<PathBuf, OomKills> {
        let mut kills = BTreeMap::new();
        for file in files.keys() {
            let read = self.readers.oom_kills(file);
            kills.extend(self.seen(read, &[CheckId::OomInside]).map(|read| (file.clone(), read)));
        }
        kills
    }

    /// Of those whose CPU is limited.
    fn periods(&mut self, files: &Files) -> BTreeMap<PathBuf, (Ts, Periods)> {
        let mut periods = BTreeMap::new();
        for file in files.keys() {
            let read = self.readers.periods(file);
            let read = self.seen(read, &[CheckId::CpuThrottled]).flatten();
            periods.extend(read.map(|read| (file.clone(), read)));
        }
        periods
    }

    pub(super) fn decide_cgroups(&mut self, cgroups: &Cgroups, found: &mut Vec<Finding>) {
        let after = self.kills(&cgroups.kills_in);
        for (file, (ino, pid)) in &cgroups.kills_in {
            let Some((before, after)) = cgroups.kills.get(file).zip(after.get(file)) else { continue };
            if let Some(mut killed) = oom_inside(&Subject::default(), *before, *after, self.asked.since) {
                killed.subject = self.subject(*ino, Some(*pid));
                found.push(killed);
            }
        }
        let after = self.periods(&cgroups.periods_in);
        for (file, (ino, pid)) in &cgroups.periods_in {
            let Some(((from, before), (to, after))) = cgroups.periods.get(file).zip(after.get(file)) else { continue };
            let Some(periods) = after.since(*before) else { continue };
            let window = to.since(*from);
            let stopped = cpu_throttled(&Subject::default(), periods, window, &self.asked.thresholds);
            if let Some(mut stopped) = stopped {
                stopped.subject = self.subject(*ino, Some(*pid));
                found.push(stopped);
            }
        }
    }
}
