//! The part of a look that is of the node as a whole.

use super::Look;
use crate::decide::{memcg_dying, slow_read};
use crate::node::{NodeFile, memory_cgroups};
use crate::read::Unread;
use crate::{CheckId, Finding, Subject};

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
        if self.wants(&[CheckId::SlowRead]) {
            let (limit, helper) = (self.asked.thresholds.read_error, self.asked.helper);
            match self.readers.memory_stat(self.asked.memory_stat.as_deref(), helper, limit) {
                Ok(took) => found.extend(slow_read(&Subject::node(), took, &self.asked.thresholds)),
                Err(error) => self.gaps.add(&[CheckId::SlowRead], &error.to_string()),
            }
        }
    }

    fn decide_dying(&mut self, found: &mut Vec<Finding>) {
        let check = [CheckId::MemcgDying];
        let text = |file| match self.readers.node_file(file) {
            Ok(text) => Ok(Some(text)),
            Err(Unread::Gone) => Ok(None),
            Err(error) => Err(error),
        };
        let texts = || -> Result<_, Unread> {
            Ok((text(NodeFile::Cgroups)?, text(NodeFile::CgroupStat)?, text(NodeFile::Release)?))
        };
        let (cgroups, stat, release) = match texts() {
            Ok((cgroups, stat, release)) => (cgroups, stat, release.unwrap_or_default()),
            Err(error) => return self.gaps.add(&check, &Unread::to_string(&error)),
        };
        match memory_cgroups(&cgroups.unwrap_or_default(), stat.as_deref(), &release) {
            Some(cgroups) => found.extend(memcg_dying(&Subject::node(), cgroups, &self.asked.thresholds)),
            None => {
                let what = "the number of memory cgroups".to_owned();
                self.gaps.add(&check, &Unread::Missing { what }.to_string());
            }
        }
    }
}
