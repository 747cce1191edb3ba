//! Long-lived parts: each runs on a thread or a task of its own, and whoever ends first is heard of, however it ended.

use std::thread::{self, JoinHandle};
use tokio::sync::mpsc;

/// A part has ended.
#[derive(Debug)]
pub struct Ended {
    pub part: &'static str,
    /// Why, where it was not told to.
    pub reason: Result<(), String>,
}

/// Where parts report their end. One message each, so its queue is bounded by their number.
#[derive(Clone, Debug)]
pub struct Ends(mpsc::UnboundedSender<Ended>);

impl Ends {
    #[must_use]
    pub fn channel() -> (Ends, mpsc::UnboundedReceiver<Ended>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Ends(sender), receiver)
    }

    /// Starts a thread whose end, a panic included, is reported.
    ///
    /// # Errors
    /// No thread left.
    pub fn thread(
        &self,
        part: &'static str,
        run: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let Ends(sender) = self.clone();
        thread::Builder::new().name(part.to_owned()).spawn(move || {
            let mut last_words = LastWords { part, sender, reason: Err("it panicked".to_owned()) };
            last_words.reason = run().map_err(|error| format!("{error:#}"));
        })
    }

    /// Reports the end of something that is run elsewhere, when dropped.
    #[must_use]
    pub fn watch(&self, part: &'static str) -> LastWords {
        LastWords { part, sender: self.0.clone(), reason: Ok(()) }
    }
}

/// Says at its end how a part ended.
#[derive(Debug)]
pub struct LastWords {
    part: &'static str,
    sender: mpsc::UnboundedSender<Ended>,
    reason: Result<(), String>,
}

impl LastWords {
    /// Ends it, for this reason.
    pub fn fail(mut self, reason: String) {
        self.reason = Err(reason);
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let reason = match thread::panicking() {
            true => Err("it panicked".to_owned()),
            false => std::mem::replace(&mut self.reason, Ok(())),
        };
        // Nobody listens any more once the agent has drained.
        let _ = self.sender.send(Ended { part: self.part, reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_thread_is_reported_with_its_reason() {
        let (ends, mut ended) = Ends::channel();
        type Part = fn() -> anyhow::Result<()>;
        let checks: [(Part, Result<(), String>); 3] = [
            (|| Ok(()), Ok(())),
            (|| Err(anyhow::anyhow!("the ring").context("read")), Err("read: the ring".to_owned())),
            (|| panic!("on purpose, in a test"), Err("it panicked".to_owned())),
        ];
        for (run, expected) in checks {
            let thread = ends.thread("part", run).expect("spawn");
            let _ = thread.join();
            assert_eq!(ended.blocking_recv().expect("reported").reason, expected);
        }
    }
}
