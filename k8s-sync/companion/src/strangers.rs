//! Series of a node that tell of somebody who has no pod there. They are kept, and neither counted nor
//! shown. A pod that is heard of late makes them good: then what came meanwhile is counted.

use crate::names::Name;
use hashbrown::HashMap;
use join::Was;
use std::time::Duration;

/// A pod is heard of within this after its agent has met it.
const LATE: Duration = Duration::from_secs(60);
/// What is kept for those that are heard of late, of a node.
const ROOM: usize = 1 << 20;

/// Of a series, what it had counted when it was taken last.
#[derive(Debug)]
enum Before {
    Value(Box<[u8]>),
    New,
    Unknown,
    /// It is too late to make it good.
    Lost,
}

#[derive(Debug)]
struct Held {
    before: Before,
    since: Duration,
    /// Values that came.
    values: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    held: HashMap<Name, Held, foldhash::fast::RandomState>,
    bytes: usize,
}

/// From what it is to be counted.
pub(crate) enum Since {
    Value(Box<[u8]>),
    New,
}

impl Strangers {
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn has(&self, name: &Name) -> bool {
        !self.held.is_empty() && self.held.contains_key(name)
    }

    /// It is not to be counted now. Returns the values that are lost by that.
    pub(crate) fn hold(&mut self, now: Duration, name: &Name, was: Was<'_>, value: &[u8]) -> u64 {
        let is_new_value = !matches!(was, Was::Value(was) if was == value);
        let room = ROOM.saturating_sub(self.bytes);
        let held = self.held.entry(name.clone()).or_insert_with(|| {
            let before = match was {
                Was::Value(was) if was.len() <= room => Before::Value(was.into()),
                Was::Value(_) => Before::Lost,
                Was::New => Before::New,
                Was::Unknown => Before::Unknown,
            };
            if let Before::Value(bytes) = &before {
                self.bytes += bytes.len();
            }
            Held { before, since: now, values: 0 }
        });
        held.values += u64::from(is_new_value);
        match (was, &held.before) {
            // Nobody knows when it counted the rest.
            (Was::Unknown, Before::Value(bytes)) => {
                self.bytes -= bytes.len();
                held.before = Before::Unknown;
            }
            // From its first value on it is known.
            (Was::Value(was), Before::Unknown) if was.len() <= room => {
                self.bytes += was.len();
                held.before = Before::Value(was.into());
            }
            _ => {}
        }
        if now.saturating_sub(held.since) > LATE
            && let Before::Value(bytes) = std::mem::replace(&mut held.before, Before::Lost)
        {
            self.bytes -= bytes.len();
        }
        match held.before {
            Before::Lost => std::mem::take(&mut held.values),
            _ => 0,
        }
    }

    /// It is counted now. `None`: since its value before.
    pub(crate) fn release(&mut self, name: &Name) -> Option<Since> {
        if self.held.is_empty() {
            return None;
        }
        match self.held.remove(name)?.before {
            Before::Value(value) => {
                self.bytes -= value.len();
                Some(Since::Value(value))
            }
            Before::New => Some(Since::New),
            Before::Unknown | Before::Lost => None,
        }
    }

    /// It ended. Returns the values that are lost by that.
    pub(crate) fn ended(&mut self, name: &Name) -> u64 {
        let Some(Held { before, values, .. }) = self.held.remove(name) else { return 0 };
        if let Before::Value(value) = before {
            self.bytes -= value.len();
        }
        values
    }

    /// All of them ended. Returns the values that are lost by that.
    pub(crate) fn clear(&mut self) -> u64 {
        let Strangers { held, .. } = std::mem::take(self);
        held.values().map(|held| held.values).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Names;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn name(text: &str) -> Name {
        Names::new(1 << 20).get(text.as_bytes()).expect("room")
    }

    #[test]
    fn what_was_counted_meanwhile_is_counted_from_where_it_was_when_the_pod_is_heard_of_late() {
        let (mut strangers, a, b) = (Strangers::default(), name("a"), name("b"));
        assert_eq!(strangers.hold(at(0), &a, Was::Value(b"1"), b"2"), 0);
        assert_eq!(strangers.hold(at(30), &a, Was::Value(b"2"), b"3"), 0);
        assert_eq!(strangers.hold(at(40), &a, Was::Value(b"3"), b"3"), 0);
        assert_eq!(strangers.hold(at(40), &b, Was::New, b"1"), 0);
        assert!(strangers.has(&a) && strangers.bytes == 1);
        assert!(matches!(strangers.release(&a), Some(Since::Value(value)) if &*value == b"1"));
        assert!(matches!(strangers.release(&b), Some(Since::New)));
        assert!(strangers.is_empty() && strangers.bytes == 0 && strangers.release(&a).is_none());
    }

    #[test]
    fn after_a_minute_it_is_lost_value_by_value() {
        let (mut strangers, a) = (Strangers::default(), name("a"));
        assert_eq!(strangers.hold(at(0), &a, Was::Value(b"1"), b"2"), 0);
        assert_eq!(strangers.hold(at(10), &a, Was::Value(b"2"), b"3"), 0);
        // Nothing new came.
        assert_eq!(strangers.hold(at(61), &a, Was::Value(b"3"), b"3"), 2);
        assert_eq!((strangers.hold(at(70), &a, Was::Value(b"3"), b"4"), strangers.bytes), (1, 0));
        assert!(strangers.release(&a).is_none(), "it is counted since its value before");
    }

    #[test]
    fn what_ends_or_has_no_room_is_lost_at_once() {
        let (mut strangers, a, b) = (Strangers::default(), name("a"), name("b"));
        assert_eq!(strangers.hold(at(0), &a, Was::Unknown, b"2"), 0);
        assert_eq!(strangers.ended(&a), 1);
        assert_eq!(strangers.hold(at(0), &a, Was::Value(&[0; ROOM]), b"2"), 0);
        assert_eq!(strangers.hold(at(0), &b, Was::Value(b"1"), b"2"), 1);
        assert_eq!(strangers.ended(&a), 1);
        // Its agent came back: nobody knows when it counted what it says.
        assert_eq!(strangers.hold(at(0), &a, Was::Value(b"1"), b"2"), 0);
        assert_eq!((strangers.hold(at(1), &a, Was::Unknown, b"3"), strangers.bytes), (0, 0));
        // From then on it is known.
        assert_eq!(strangers.hold(at(2), &a, Was::Value(b"3"), b"4"), 0);
        assert_eq!((strangers.bytes, strangers.clear(), strangers.len()), (1, 3, 0));
    }
}
