//! What the attach threads tell, on its way to the containers task. What is newer of a slot takes
//! the place of what is older, so that it is bounded by the number of slots
//! (`AttachConfig::max_namespaces`) however late it is taken.

use capture_engine::attach::AttachEvent;
use flow_model::Slot;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Mailbox {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    slots: HashMap<Slot, Kept>,
    /// Slots in `slots`, each once, in the order in which the first of them was told.
    order: VecDeque<Slot>,
}

/// At most one of each kind.
#[derive(Debug, Default)]
struct Kept {
    /// `Attached` or `Failed`.
    outcome: Option<AttachEvent>,
    interfaces: Option<AttachEvent>,
    addresses: Option<AttachEvent>,
    detached: Option<AttachEvent>,
}

#[derive(Clone, Debug, Default)]
pub struct Teller(Arc<Mailbox>);

#[derive(Debug)]
pub struct AttachNews(Arc<Mailbox>);

#[must_use]
pub fn channel() -> (Teller, AttachNews) {
    let mailbox = Arc::new(Mailbox::default());
    (Teller(mailbox.clone()), AttachNews(mailbox))
}

impl Teller {
    /// Never waits.
    pub fn tell(&self, event: AttachEvent) {
        let (AttachEvent::Attached { slot, .. }
        | AttachEvent::Interfaces { slot, .. }
        | AttachEvent::Addresses { slot, .. }
        | AttachEvent::Failed { slot, .. }
        | AttachEvent::Detached { slot }) = event;
        let mut waiting = self.0.waiting.lock();
        let Waiting { slots, order } = &mut *waiting;
        let kept = slots.entry(slot).or_insert_with(|| {
            order.push_back(slot);
            Kept::default()
        });
        match event {
            // It tells all interfaces and addresses, too.
            AttachEvent::Attached { .. } => *kept = Kept { outcome: Some(event), ..Kept::default() },
            AttachEvent::Failed { .. } => kept.outcome = Some(event),
            AttachEvent::Interfaces { .. } => kept.interfaces = Some(event),
            AttachEvent::Addresses { .. } => kept.addresses = Some(event),
            AttachEvent::Detached { .. } => kept.detached = Some(event),
        }
        drop(waiting);
        self.0.news.notify_one();
    }
}

impl AttachNews {
    /// The next event; cancelling the wait loses none.
    pub async fn next(&mut self) -> AttachEvent {
        loop {
            if let Some(event) = self.take() {
                return event;
            }
            self.0.news.notified().await;
        }
    }

    fn take(&mut self) -> Option<AttachEvent> {
        let mut waiting = self.0.waiting.lock();
        let Waiting { slots, order } = &mut *waiting;
        while let Some(slot) = order.front() {
            let Kept { outcome, interfaces, addresses, detached } = slots.entry(*slot).or_default();
            let next =
                outcome.take().or_else(|| interfaces.take()).or_else(|| addresses.take()).or_else(|| detached.take());
            if next.is_some() {
                return next;
            }
            slots.remove(slot);
            order.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netns::Own;

    fn failed(slot: u32, reason: &str) -> AttachEvent {
        AttachEvent::Failed { slot: Slot(slot), reason: reason.to_owned() }
    }

    #[tokio::test]
    async fn what_is_newer_takes_the_place_of_what_is_older_and_nothing_follows_the_end() {
        let (teller, mut news) = channel();
        let none = || AttachEvent::Addresses { slot: Slot(1), addresses: Arc::new([]), own: Arc::new(Own::default()) };
        for turn in 0..10_000 {
            teller.tell(failed(1, &turn.to_string()));
            teller.tell(none());
            teller.tell(failed(2, "no memory"));
        }
        teller.tell(AttachEvent::Detached { slot: Slot(1) });
        let expected = [failed(1, "9999"), none(), AttachEvent::Detached { slot: Slot(1) }, failed(2, "no memory")];
        for event in expected {
            assert_eq!(news.next().await, event);
        }
        assert_eq!(news.take(), None);
        assert!(news.0.waiting.lock().slots.is_empty());
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let (teller, mut news) = channel();
        let waits = tokio::spawn(async move { news.next().await });
        tokio::task::yield_now().await;
        teller.tell(failed(3, "refused"));
        assert_eq!(waits.await.expect("ends"), failed(3, "refused"));
    }
}
