//! What user space wants of single flows: more than the heads of their messages, or nothing.

use super::convert;
use super::maps::Shared;
use crate::event::{FlowId, FlowKey};
use l7::Interest;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use zerocopy::IntoBytes;

/// Sets how much of a flow is copied, from its next message on (UDP: from the next datagram on).
#[derive(Clone, Debug)]
pub struct Overrides {
    shared: Arc<Shared>,
}

impl Overrides {
    pub(super) fn new(shared: Arc<Shared>) -> Overrides {
        Overrides { shared }
    }

    /// Puts `interest` in the place of what was set before; `Heads` is the same as
    /// [`Overrides::clear`]. Meant is the flow that began as `id`: one that had its key before, or
    /// has it after, is copied as flows begin. Of a message, `Everything` copies the first MiB
    /// ([`capture_wire::EVERYTHING_MOST`]): what is longer ends as it does for `Heads`.
    ///
    /// # Errors
    /// `E2BIG` when the table of overrides is full: the flow stays as it is.
    pub fn set(&self, key: &FlowKey, id: FlowId, interest: Interest) -> io::Result<()> {
        let budget = match interest {
            Interest::Heads => return self.clear(key),
            Interest::Everything => capture_wire::BUDGET_EVERYTHING,
            Interest::Nothing => capture_wire::BUDGET_NOTHING,
        };
        let mut set = self.shared.overridden.lock();
        let value = capture_wire::Override { flow_id: id.0, budget, pad: 0 };
        self.shared.overrides.update(convert::wire_key(key).as_bytes(), value.as_bytes())?;
        set.insert(*key);
        self.shared.publish_overrides(&set);
        Ok(())
    }

    /// Back to the heads of messages, as flows begin.
    ///
    /// # Errors
    /// When the kernel refuses; a flow without an override is no error.
    pub fn clear(&self, key: &FlowKey) -> io::Result<()> {
        self.shared.clear_override(key)
    }
}

impl Shared {
    pub(super) fn clear_override(&self, key: &FlowKey) -> io::Result<()> {
        let mut set = self.overridden.lock();
        if set.remove(key) {
            self.overrides.delete(convert::wire_key(key).as_bytes())?;
            self.publish_overrides(&set);
        }
        Ok(())
    }

    /// While there are none, the programs do not look for them.
    fn publish_overrides(&self, set: &HashSet<FlowKey, foldhash::fast::RandomState>) {
        self.control.overrides().store(u32::try_from(set.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}
