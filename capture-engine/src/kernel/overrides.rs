//! What user space wants of single flows: more than the heads of their messages, their frames, or nothing.

use super::convert;
use super::maps::{Overridden, Shared};
use crate::event::{FlowId, FlowKey};
use capture_wire as wire;
use flow_model::{Direction, Endpoint, Slot};
use l7::{Interest, Walk};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use zerocopy::{FromZeros, IntoBytes};

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
    /// has it after, is copied as flows begin. Of a message, `Everything` and `Pipeline` copy the first MiB
    /// ([`capture_wire::EVERYTHING_MOST`]): what is longer ends as it does for `Heads`. So do
    /// `Frames` where the place of the next header is not known.
    ///
    /// # Errors
    /// `E2BIG` when the table of overrides is full: the flow stays as it is.
    pub fn set(&self, key: &FlowKey, id: FlowId, interest: Interest) -> io::Result<()> {
        let (budget, walk) = match interest {
            Interest::Heads => return self.clear(key),
            Interest::Everything | Interest::Pipeline(_) => (wire::BUDGET_EVERYTHING, None),
            Interest::Frames(walk) => (wire::BUDGET_EVERYTHING, Some(walk)),
            Interest::Nothing => (wire::BUDGET_NOTHING, None),
        };
        let mut set = self.shared.overridden.lock();
        let mut value = wire::Override { flow_id: id.0, budget, ..wire::Override::new_zeroed() };
        if let Interest::Pipeline(client) = interest {
            value.frames = match client {
                Direction::Ingress => wire::FRAMES_LINES_IN,
                Direction::Egress => wire::FRAMES_LINES_OUT,
            };
        }
        if let Some(walk) = walk {
            value.frames = self.shared.frames_of(&mut set, walk)?;
            self.shared.begin_walk(key, id, value.frames)?;
        }
        self.shared.overrides.update(convert::wire_key(key).as_bytes(), value.as_bytes())?;
        set.flows.insert(*key, value);
        self.shared.publish_overrides(&set);
        Ok(())
    }

    /// A header of each direction begins at these sequence numbers ([`l7::Tcp::headers`]): a walked flow
    /// that has lost its way goes on there, if it is not past them. Nothing where it is not walked.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn straighten(&self, key: &FlowKey, id: FlowId, headers: [Option<u32>; 2]) -> io::Result<()> {
        let mut set = self.shared.overridden.lock();
        let Some(value) = set.flows.get_mut(key).filter(|value| value.flow_id == id.0 && is_walked(value)) else {
            return Ok(());
        };
        value.command = value.command.wrapping_add(1).max(1);
        value.straight = u8::from(headers[0].is_some()) | u8::from(headers[1].is_some()) << 1;
        value.header = headers.map(Option::unwrap_or_default);
        self.shared.overrides.update(convert::wire_key(key).as_bytes(), value.as_bytes())?;
        self.shared.control.commands().fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// From their next messages on nothing is copied of the flows of `slot`, which are counted all the
    /// same; or, of those that begin from then on, everything is as usual again.
    ///
    /// # Errors
    /// `E2BIG` when the table of overrides is full: the slot stays as it is.
    pub fn quiet(&self, slot: Slot, quiet: bool) -> io::Result<()> {
        let mut set = self.shared.overridden.lock();
        if set.quiet.contains(&slot) == quiet {
            return Ok(());
        }
        let key = wire::Key { slot: slot.0, ..wire::Key::new_zeroed() };
        if quiet {
            self.shared.overrides.update(key.as_bytes(), wire::Override::new_zeroed().as_bytes())?;
            set.quiet.insert(slot);
        } else {
            self.shared.overrides.delete(key.as_bytes())?;
            set.quiet.remove(&slot);
        }
        self.shared.control.quiet().store(u32::try_from(set.quiet.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        Ok(())
    }

    /// Connections to `server` that are seen to begin from then on, in whatever namespace, are copied
    /// whole, 1 MiB of each direction at most, as long as nothing was set of them; or, from then on, as
    /// flows begin.
    ///
    /// # Errors
    /// `E2BIG` when the table of overrides is full: they begin as others do.
    pub fn eager(&self, server: Endpoint, eager: bool) -> io::Result<()> {
        let mut set = self.shared.overridden.lock();
        if set.servers.contains(&server) == eager {
            return Ok(());
        }
        // A server may be at either end.
        let keys = convert::server_keys(server);
        if eager {
            let [first, second] = &keys;
            let all = wire::Override::new_zeroed();
            self.shared.overrides.update(first.as_bytes(), all.as_bytes())?;
            if let Err(full) = self.shared.overrides.update(second.as_bytes(), all.as_bytes()) {
                self.shared.overrides.delete(first.as_bytes())?;
                return Err(full);
            }
            set.servers.insert(server);
        } else {
            for key in &keys {
                self.shared.overrides.delete(key.as_bytes())?;
            }
            set.servers.remove(&server);
        }
        self.shared.control.servers().store(u32::try_from(set.servers.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
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

fn is_walked(value: &wire::Override) -> bool {
    (1..wire::FRAMES_LINES_IN).contains(&value.frames)
}

impl Shared {
    pub(super) fn clear_override(&self, key: &FlowKey) -> io::Result<()> {
        let mut set = self.overridden.lock();
        if let Some(old) = set.flows.remove(key) {
            let key = convert::wire_key(key);
            self.overrides.delete(key.as_bytes())?;
            if is_walked(&old) {
                self.walks.delete(key.as_bytes())?;
            }
            self.publish_overrides(&set);
        }
        Ok(())
    }

    /// One more than the place of `walk` among the protocols that are followed.
    fn frames_of(&self, set: &mut Overridden, walk: &'static Walk) -> io::Result<u8> {
        let known = set.walks.iter().position(|known| *known == walk);
        let place = known.unwrap_or(set.walks.len());
        if place >= wire::PROTOCOLS {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if known.is_none() {
            self.frames.update(&(place as u32).to_ne_bytes(), convert::frames(walk).as_bytes())?;
            set.walks.push(walk);
        }
        Ok(place as u8 + 1)
    }

    /// It stands nowhere until a message begins, or a command says where.
    fn begin_walk(&self, key: &FlowKey, id: FlowId, frames: u8) -> io::Result<()> {
        let mut walk = wire::Walk::new_zeroed();
        walk.flow_id = id.0;
        walk.frames = frames;
        self.walks.update(convert::wire_key(key).as_bytes(), walk.as_bytes())
    }

    /// While there are none, the programs do not look for them.
    fn publish_overrides(&self, set: &Overridden) {
        self.control.overrides().store(u32::try_from(set.flows.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}
