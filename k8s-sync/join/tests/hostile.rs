//! What an agent that does not keep to the protocol can do to its copy: nothing beyond its bounds.

use bytes::Bytes;
use join::limits;
use join::message::{Entry, Part, Sees};
use join::{Applied, Changes, Counted, Parts, Reason, Replica, Was};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Default)]
struct Heard(BTreeMap<Vec<u8>, Vec<u8>>);

impl Changes for Heard {
    type Name = Vec<u8>;

    fn named(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        (key != b"refused").then(|| key.to_vec())
    }

    fn changed(&mut self, name: &Vec<u8>, _: Was<'_>, value: &[u8]) {
        self.0.insert(name.clone(), value.to_vec());
    }

    fn gone(&mut self, name: &Vec<u8>, _: &[u8]) {
        assert!(self.0.remove(name).is_some());
    }
}

const NOW: Duration = Duration::from_secs(1);
/// Room for a hundred bytes of values.
const BYTES: usize = 100 + 3 * Replica::<Vec<u8>>::BESIDES;

fn entry(id: u64, key: &str, value: &str) -> Entry {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Entry { id, key: bytes(key), value: bytes(value), gone: false }
}

fn push(generation: u64, since: u64, entries: &[Entry]) -> Part {
    let mut parts = Parts::new(generation, since, usize::MAX);
    entries.iter().for_each(|entry| parts.push(entry));
    parts.finish().pop_front().unwrap()
}

fn replica() -> (Replica<Vec<u8>>, Heard) {
    let mut replica = Replica::new(NOW).bounded(3, BYTES);
    replica.begin(5);
    (replica, Heard::default())
}

/// What it sees counts once the push is complete; what this version does not know is a part.
#[test]
fn what_an_agent_sees_is_that_of_its_latest_complete_push() {
    let (mut replica, mut heard) = replica();
    let mut says = |generation, number, last, sees: i32| {
        let since = generation - 1;
        let part = Part { generation, since, number, last, sees, ..Part::default() };
        replica.part(NOW, &part, &mut heard).unwrap();
        replica.sees()
    };
    assert_eq!(says(1, 0, true, 0), Sees::Unsaid);
    assert_eq!(says(2, 0, false, 3), Sees::Unsaid);
    assert_eq!(says(2, 1, true, 1), Sees::All);
    for (generation, said, sees) in
        [(3, 2, Sees::Nameless), (4, 99, Sees::Part), (5, 3, Sees::All), (6, -1, Sees::Part)]
    {
        assert_eq!(says(generation, 0, true, said), sees);
    }
}

#[test]
fn series_beyond_the_bounds_are_refused_and_the_others_go_on() {
    let (mut replica, mut heard) = replica();
    let names = ["a", "b", "c", "d", "refused"];
    let entries: Vec<Entry> = (1..).zip(names).map(|(id, name)| entry(id, name, "1")).collect();
    let Ok(Applied::Complete(ack)) = replica.part(NOW, &push(1, 0, &entries), &mut heard) else { panic!() };
    assert_eq!((ack.refused, replica.len()), (2, 3));
    // Later values of what was refused have no name, and that is nothing to ask again for.
    let later = [entry(1, "", "2"), entry(4, "", "2"), entry(5, "", "2")];
    assert!(matches!(replica.part(NOW, &push(2, 1, &later), &mut heard), Ok(Applied::Complete(_))));
    assert_eq!(replica.counted(), Counted { refused: 2, unnamed: 2, resyncs: 0 });
    assert_eq!(heard.0[&b"a".to_vec()], b"2");
    // A value that grows past the bytes that there are.
    let wide = [entry(6, "a", &"x".repeat(101)), entry(7, "b", "3")];
    let Ok(Applied::Complete(ack)) = replica.part(NOW, &push(3, 0, &wide), &mut heard) else { panic!() };
    assert_eq!((ack.refused, replica.len(), replica.memory() <= BYTES), (3, 2, true));
    assert_eq!((&*heard.0[&b"a".to_vec()], &*heard.0[&b"b".to_vec()]), (&b"2"[..], &b"3"[..]));
}

#[test]
fn what_builds_on_another_state_is_asked_for_anew() {
    let (mut replica, mut heard) = replica();
    assert_eq!(replica.part(NOW, &push(5, 4, &[]), &mut heard), Ok(Applied::Resync));
    assert!(matches!(replica.part(NOW, &push(5, 0, &[entry(1, "a", "1")]), &mut heard), Ok(Applied::Complete(_))));
    assert_eq!(replica.part(NOW, &push(6, 5, &[entry(2, "", "1")]), &mut heard), Ok(Applied::Resync));
    assert_eq!(replica.counted(), Counted { refused: 0, unnamed: 1, resyncs: 2 });
    assert_eq!(replica.len(), 1);
}

#[test]
fn a_part_out_of_turn_ends_the_stream_and_leaves_the_copy() {
    let (mut replica, mut heard) = replica();
    replica.part(NOW, &push(3, 0, &[entry(1, "a", "1")]), &mut heard).unwrap();
    let odd = [
        Part { number: 1, ..push(4, 3, &[]) },
        push(2, 0, &[]),
        push(0, 0, &[]),
        Part { entries: Bytes::from_static(b"\xff\xff\xff"), ..push(4, 3, &[]) },
    ];
    for part in odd {
        let refusal = replica.part(NOW, &part, &mut heard).unwrap_err();
        assert_eq!(refusal.reason, Reason::Protocol, "{part:?}");
    }
    assert_eq!((replica.generation(), replica.len()), (3, 1));
}

#[test]
fn a_name_is_one_series_and_a_number_is_one_series() {
    let (mut replica, mut heard) = replica();
    let twice = [entry(1, "a", "1"), entry(2, "a", "2"), entry(2, "b", "3")];
    replica.part(NOW, &push(1, 0, &twice), &mut heard).unwrap();
    assert_eq!(heard.0, BTreeMap::from([(b"b".to_vec(), b"3".to_vec())]));
    let copy: Vec<_> = replica.series().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(copy, [(&b"b"[..], &b"3"[..])]);
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let text = proptest::collection::vec(any::<u8>(), 0..4).prop_map(Bytes::from);
    (0u64..6, text.clone(), text, any::<bool>()).prop_map(|(id, key, value, gone)| Entry { id, key, value, gone })
}

proptest! {
    #[test]
    fn whatever_comes_the_copy_keeps_its_bounds_and_tells_all(
        pushes in proptest::collection::vec((0u64..5, 0u64..5, 0u32..2, any::<bool>(), proptest::collection::vec(any_entry(), 0..9)), 0..20),
        again in proptest::collection::vec(0u64..3, 20),
    ) {
        let (mut replica, mut heard) = replica();
        for ((generation, since, number, last, entries), instance) in pushes.into_iter().zip(again) {
            if instance > 0 {
                replica.begin(instance);
            }
            let part = Part { number, last, ..push(generation, since, &entries) };
            let _ = replica.part(NOW, &part, &mut heard);
            let copy: BTreeMap<Vec<u8>, Vec<u8>> =
                replica.series().map(|(name, value)| (name.clone(), value.to_vec())).collect();
            prop_assert!(copy.len() <= 3 && replica.memory() <= BYTES);
            let values: usize = copy.values().map(Vec::len).sum();
            prop_assert_eq!(replica.memory(), values + copy.len() * Replica::<Vec<u8>>::BESIDES);
            prop_assert_eq!(&copy, &heard.0);
        }
        replica.clear(&mut heard);
        prop_assert!(heard.0.is_empty() && replica.is_empty());
    }

    #[test]
    fn bytes_that_are_no_part_are_refused_or_taken_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let (mut replica, mut heard) = replica();
        let part = Part { generation: 1, last: true, entries: bytes.into(), ..Part::default() };
        let _ = replica.part(NOW, &part, &mut heard);
        prop_assert!(replica.len() <= 3 && limits::SERIES > 3);
    }
}
