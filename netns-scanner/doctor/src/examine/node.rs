//! The part of a look that is of the node as a whole.

use super::Look;
use crate::decide::{clock, inotify_limit, memcg_dying, slow_read};
use crate::node::{NodeFile, NodeReading, NodeText, NodeTexts, NodeWatch, memory_cgroups, release};
use crate::read::{self, Unread};
use crate::{CheckId, Finding, Subject};
use std::collections::BTreeMap;

/// Checks that take two looks, with their files.
const TWICE: [(CheckId, &[NodeFile]); 2] = [
    (CheckId::NeighboursFull, &[NodeFile::ArpCache, NodeFile::NdiscCache, NodeFile::ArpMax, NodeFile::NdiscMax]),
    (CheckId::Softnet, &[NodeFile::Softnet]),
];

/// Of each of these checks, what its first look was.
pub type NodeWatches = BTreeMap<CheckId, NodeWatch>;

impl Look<'_> {
    /// How many connections may be followed, as the file has it.
    pub(super) fn most_connections(&mut self) -> Option<String> {
        let read = self.readers.node_file(NodeFile::ConntrackMax);
        self.seen(read, &[CheckId::ConntrackFull])
    }

    pub(super) fn decide_node(&mut self, found: &mut Vec<Finding>) {
        if self.wants(&[CheckId::MemcgDying]) {
            self.decide_dying(found);
        }
        if self.wants(&[CheckId::InotifyLimit]) {
            let room = self.readers.inotify();
            if let Some((room, most)) = self.seen(room, &[CheckId::InotifyLimit]) {
                found.extend(inotify_limit(&Subject::node(), room, most));
            }
        }
        if self.wants(&[CheckId::Clock]) {
            let time = self.readers.time_of_day();
            if let Some(time) = self.seen(time, &[CheckId::Clock]) {
                found.extend(clock(&Subject::node(), time, &self.asked.thresholds));
            }
        }
        if self.wants(&[CheckId::SlowRead]) {
            let (limit, helper) = (self.asked.thresholds.read_error, self.asked.helper);
            match self.readers.memory_stat(self.asked.memory_stat.as_deref(), helper, limit) {
                Ok(took) => found.extend(slow_read(&Subject::node(), took, &self.asked.thresholds)),
                Err(error) => self.gaps.add(&[CheckId::SlowRead], &error.to_string()),
            }
        }
    }

    /// The first of two looks. A check that could not is done with.
    pub(super) fn node(&mut self) -> NodeWatches {
        let mut watches = NodeWatches::new();
        for (check, files) in TWICE.into_iter().filter(|(check, _)| self.asked.checks.contains(check)) {
            let mut watch = NodeWatch::default();
            if self.look_at_node(check, files, &mut watch).is_some() {
                watches.insert(check, watch);
            }
        }
        watches
    }

    pub(super) fn decide_node_twice(&mut self, watches: &mut NodeWatches, found: &mut Vec<Finding>) {
        for (check, files) in TWICE {
            let Some(watch) = watches.get_mut(&check) else { continue };
            found.extend(self.look_at_node(check, files, watch).into_iter().flatten());
        }
    }

    fn look_at_node(&mut self, check: CheckId, files: &[NodeFile], watch: &mut NodeWatch) -> Option<Vec<Finding>> {
        let mut texts = NodeTexts::new();
        for file in files {
            let text = match self.readers.node_file(*file) {
                Ok(text) => NodeText::There(text),
                Err(Unread::Gone) => NodeText::Absent,
                Err(error) => {
                    self.gaps.add(&[check], &error.to_string());
                    return None;
                }
            };
            texts.insert(*file, text);
        }
        let reading = NodeReading { texts, ..NodeReading::default() };
        let look = watch.look(&reading, read::now(), &self.asked.thresholds);
        if look.not_made.contains(&check) {
            self.gaps.add(&[check], "it is told in the node's own network alone, and its first process is not seen");
            return None;
        }
        Some(look.found.into_iter().filter(|finding| finding.id == check).collect())
    }

    fn decide_dying(&mut self, found: &mut Vec<Finding>) {
        let check = [CheckId::MemcgDying];
        let text = |file| match self.readers.node_file(file) {
            Ok(text) => Ok(Some(text)),
            Err(Unread::Gone) => Ok(None),
            Err(error) => Err(error),
        };
        let texts = || -> Result<_, Unread> { Ok((text(NodeFile::Cgroups)?, text(NodeFile::CgroupStat)?)) };
        let (cgroups, stat) = match texts() {
            Ok(texts) => texts,
            Err(error) => return self.gaps.add(&check, &Unread::to_string(&error)),
        };
        match memory_cgroups(&cgroups.unwrap_or_default(), stat.as_deref(), &release()) {
            Some(cgroups) => found.extend(memcg_dying(&Subject::node(), cgroups, &self.asked.thresholds)),
            None => {
                let what = "the number of memory cgroups".to_owned();
                self.gaps.add(&check, &Unread::Missing { what }.to_string());
            }
        }
    }
}
