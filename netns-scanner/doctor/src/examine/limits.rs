//! The part of a look that asks how many files are open.

use super::Look;
use crate::decide::{fd_limit, file_table};
use crate::read::Unread;
use crate::sockets::Sockets;
use crate::{CheckId, Finding, Subject};

const CHECK: [CheckId; 1] = [CheckId::FdLimit];

impl Look<'_> {
    /// Of processes that hold sockets, and of the node where all of it is looked at.
    pub(super) fn decide_files(&mut self, sockets: &Sockets, found: &mut Vec<Finding>) {
        if !self.wants(&CHECK) {
            return;
        }
        let thresholds = &self.asked.thresholds;
        let most = self.asked.bounds.processes;
        for (pid, ino) in sockets.processes.iter().take(most) {
            let read = self.readers.descriptors(*pid);
            let is_old = matches!(read, Err(Unread::OldKernel { .. }));
            let limited = self.seen(read, &CHECK).flatten();
            let full = limited.and_then(|(open, most)| fd_limit(&Subject::default(), open, most, thresholds));
            if let Some(full) = full {
                let subject = self.subject(*ino, Some(*pid));
                found.push(Finding { subject, ..full }.with("pid", u64::from(*pid)));
            }
            if is_old {
                break;
            }
        }
        if self.asked.only.is_none() {
            let table = self.readers.file_table();
            if let Some((open, most)) = self.seen(table, &CHECK) {
                found.extend(file_table(&Subject::node(), open, most, thresholds));
            }
        }
    }
}
