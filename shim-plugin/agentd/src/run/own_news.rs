//! What belongs to each namespace, on its way from the attach threads to the pipeline thread. What
//! is newer of a slot takes the place of what is older, so that it is bounded by the number of
//! slots (`AttachConfig::max_namespaces`) however late it is taken.

use flow_model::Slot;
use netns::Own;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone, Debug, Default)]
pub struct OwnNews(Arc<Mailbox>);

#[derive(Debug, Default)]
struct Mailbox {
    /// There may be some: who takes them looks a thousand times a second.
    any: AtomicBool,
    waiting: Mutex<HashMap<Slot, Own>>,
}

impl OwnNews {
    /// Never waits.
    pub fn tell(&self, slot: Slot, own: Own) {
        self.0.waiting.lock().insert(slot, own);
        self.0.any.store(true, Ordering::Release);
    }

    /// All that is new.
    pub fn take(&self) -> HashMap<Slot, Own> {
        if self.0.any.swap(false, Ordering::Acquire) {
            return std::mem::take(&mut *self.0.waiting.lock());
        }
        HashMap::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netns::{IfAddress, Network};

    #[test]
    fn the_newest_of_each_namespace_is_taken_once() {
        let own = |last: u8| {
            let ip = [10, 0, 0, last].into();
            let address = IfAddress { index: 2, ip, prefix: 24, scope: 0, leads_out: true };
            Own::of(&[], &[address], &[Network::of(ip, 24)])
        };
        let news = OwnNews::default();
        assert!(news.take().is_empty());
        for last in 1..100 {
            news.tell(Slot(1), own(last));
        }
        news.tell(Slot(2), own(7));
        assert_eq!(news.take(), HashMap::from([(Slot(1), own(99)), (Slot(2), own(7))]));
        assert!(news.take().is_empty());
    }
}
