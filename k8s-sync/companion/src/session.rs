//! The companion's end of one stream: a greeting, then pushes, in time. Told the time; its caller has
//! the connection.

use crate::fleet::Fleet;
use join::limits::PATIENCE;
use join::message::{Answers, FromAgent, FromCompanion, Resync, Says};
use join::{Applied, Reason, Refusal};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct Session {
    /// The node, and the number of the stream.
    open: Option<(String, u64)>,
    until: Duration,
}

impl Session {
    /// Of a stream of which was checked what it shows.
    #[must_use]
    pub fn new(now: Duration) -> Session {
        Session { open: None, until: now + PATIENCE }
    }

    /// When to end the stream if nothing comes.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.until
    }

    /// The node that has greeted.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.open.as_ref().map(|(node, _)| &**node)
    }

    /// Whether it has greeted.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// What the agent says. Returns the answer, if there is one.
    ///
    /// # Errors
    /// When the stream is to end.
    pub fn received(
        &mut self,
        now: Duration,
        message: FromAgent,
        fleet: &mut Fleet,
    ) -> Result<Option<FromCompanion>, Refusal> {
        let answer = match (&self.open, message.says) {
            (None, Some(Says::Hello(hello))) => {
                let (stream, welcome) = fleet.open(now, &hello)?;
                self.open = Some((hello.node, stream));
                Some(Answers::Welcome(welcome))
            }
            (Some((node, stream)), Some(Says::Part(part))) => match fleet.part(now, node, *stream, &part)? {
                Applied::More => None,
                Applied::Complete(ack) => Some(Answers::Ack(ack)),
                Applied::Resync => Some(Answers::Resync(Resync {})),
            },
            (Some((node, stream)), Some(Says::Findings(told))) => {
                fleet.told(now, node, *stream, &told)?;
                None
            }
            (Some((node, stream)), Some(Says::Bye(bye))) => {
                fleet.bye(node, *stream, bye);
                None
            }
            // Of another version: it has agreed to one that does without.
            (_, None) | (Some(_), Some(Says::Wants(_))) => None,
            (None, Some(Says::Part(_) | Says::Bye(_) | Says::Wants(_) | Says::Findings(_)))
            | (Some(_), Some(Says::Hello(_))) => {
                fleet.refused(Reason::Protocol);
                return Err(Refusal::new(Reason::Protocol, "a stream begins with one greeting"));
            }
        };
        // What it has not agreed to keeps no stream open.
        if answer.is_some() || self.open.is_some() {
            self.until = now + fleet.patience();
        }
        Ok(answer.map(FromCompanion::from))
    }

    /// The stream ended, for whatever reason.
    pub fn ended(self, fleet: &mut Fleet) {
        if let Some((node, stream)) = self.open {
            fleet.closed(&node, stream);
        }
    }
}
