//! The names of a cluster and an agent's copy of them, through cuts and restarts of both sides.
#![forbid(unsafe_code)]

use bytes::Bytes;
use join::message::{Answers, Delta, FromCompanion, ShardPart};
use join::names::{Cursor, NamesCopy, Next, Shelf, Told};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

type Names = BTreeMap<Bytes, Bytes>;

/// Keeps what an agent is told.
#[derive(Default)]
struct Keeper {
    names: Names,
    listed: Option<BTreeSet<Bytes>>,
}

impl Keeper {
    fn take(&mut self, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Begun => self.listed = Some(BTreeSet::new()),
                Told::Put(key, value) => {
                    if let Some(listed) = &mut self.listed {
                        listed.insert(key.clone());
                    }
                    self.names.insert(key, value);
                }
                Told::Gone(key) => drop(self.names.remove(&key)),
                Told::Complete => {
                    let listed = self.listed.take().expect("it began");
                    self.names.retain(|key, _| listed.contains(key));
                }
                Told::Age(_) => {}
            }
        }
    }
}

/// A companion, an agent and what lies between them.
struct Bed {
    truth: Names,
    shelf: Shelf,
    copy: NamesCopy,
    keeper: Keeper,
    cursor: Option<Cursor>,
    now: Duration,
}

impl Bed {
    fn new() -> Bed {
        let mut shelf = Shelf::new(10_000);
        shelf.set_complete();
        let (copy, keeper) = (NamesCopy::default(), Keeper::default());
        Bed { truth: Names::new(), shelf, copy, keeper, cursor: None, now: Duration::ZERO }
    }

    fn edit(&mut self, key: u16, value: Option<u8>) {
        let key = Bytes::from(key.to_string());
        match value {
            Some(value) => {
                let value = Bytes::from(vec![value; 20]);
                self.truth.insert(key.clone(), value.clone());
                self.shelf.put(key, value);
            }
            None => {
                self.truth.remove(&key);
                self.shelf.remove(key);
            }
        }
    }

    /// Another process, which has listed the cluster anew.
    fn restart_companion(&mut self) {
        self.cut();
        self.shelf = Shelf::new(10_000);
        self.truth.iter().for_each(|(key, value)| self.shelf.put(key.clone(), value.clone()));
        self.shelf.commit();
        self.shelf.set_complete();
    }

    /// Its keeper has what was kept on disk.
    fn restart_agent(&mut self) {
        self.cut();
        self.copy = NamesCopy::default();
        self.keeper.listed = None;
    }

    fn cut(&mut self) {
        self.cursor = None;
        self.copy.reconnected();
    }

    /// Passes so many messages on.
    fn pass(&mut self, most: usize) -> usize {
        for passed in 0..most {
            self.now += Duration::from_secs(11);
            if let Some(wants) = self.copy.ask(self.now) {
                self.cursor = Some(self.shelf.cursor(wants));
            }
            let Some(cursor) = &mut self.cursor else { return passed };
            let (message, ends) = match self.shelf.next(cursor) {
                Next::Send(message) => (message, false),
                Next::Ask(message) => (message, true),
                Next::Nothing => return passed,
            };
            if ends {
                self.cursor = None;
            }
            self.keeper.take(self.copy.received(&message));
        }
        most
    }

    fn settle(&mut self) {
        self.shelf.commit();
        assert!(self.pass(100_000) < 100_000, "it has no end");
        assert_eq!(self.keeper.names, self.truth);
        assert_eq!((self.copy.len(), self.shelf.len()), (self.truth.len(), self.truth.len()));
        let counts = self.copy.counts();
        assert_eq!((counts.damaged, counts.differing, counts.left_out), (0, 0, 0));
    }
}

#[derive(Clone, Debug)]
enum Op {
    Edit(u16, Option<u8>),
    Commit,
    Pass(usize),
    Cut,
    RestartCompanion,
    RestartAgent,
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (0u16..600, proptest::option::weighted(0.7, any::<u8>())).prop_map(|(key, value)| Op::Edit(key, value)),
        4 => Just(Op::Commit),
        6 => (1usize..40).prop_map(Op::Pass),
        1 => Just(Op::Cut),
        1 => Just(Op::RestartCompanion),
        1 => Just(Op::RestartAgent),
        1 => Just(Op::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_sides_end_equal_whatever_breaks(
        before in proptest::collection::vec((0u16..600, any::<u8>()), 0..300),
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let mut bed = Bed::new();
        before.into_iter().for_each(|(key, value)| bed.edit(key, Some(value)));
        for op in ops {
            match op {
                Op::Edit(key, value) => bed.edit(key, value),
                Op::Commit => drop(bed.shelf.commit()),
                Op::Pass(most) => drop(bed.pass(most)),
                Op::Cut => bed.cut(),
                Op::RestartCompanion => bed.restart_companion(),
                Op::RestartAgent => bed.restart_agent(),
                Op::Settle => bed.settle(),
            }
        }
        bed.settle();
    }

    /// What a hostile or broken companion says ends in a count.
    #[test]
    fn bytes_that_nobody_packed_change_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 1..300), shard in any::<u32>(), number in 0u32..3, last in any::<bool>(),
    ) {
        let part = ShardPart { generation: 1, shard, number, last, digest: 0, entries: bytes.into() };
        let mut copy = NamesCopy::default();
        let told = copy.received(&FromCompanion::from(Answers::Shard(part)));
        prop_assert!(told.is_empty() || told == [Told::Begun]);
        prop_assert_eq!(copy.len(), 0);
    }
}

fn settled(names: u16) -> Bed {
    let mut bed = Bed::new();
    (0..names).for_each(|key| bed.edit(key, Some(1)));
    bed.settle();
    bed
}

/// Messages that carry a shard, until nothing is left to pass on.
fn shards_sent(bed: &mut Bed) -> usize {
    let before = bed.copy.counts().bytes;
    let mut shards = 0;
    loop {
        bed.now += Duration::from_secs(11);
        if let Some(wants) = bed.copy.ask(bed.now) {
            bed.cursor = Some(bed.shelf.cursor(wants));
        }
        let Some(cursor) = &mut bed.cursor else { break };
        let Next::Send(message) = bed.shelf.next(cursor) else { break };
        shards += usize::from(matches!(message.answers, Some(Answers::Shard(_))));
        bed.keeper.take(bed.copy.received(&message));
    }
    assert!(bed.copy.counts().bytes >= before);
    shards
}

#[test]
fn after_a_restart_of_the_companion_only_shards_that_differ_are_sent() {
    let mut bed = settled(5_000);
    bed.edit(7, None);
    bed.edit(8, Some(2));
    bed.restart_companion();
    let shards = shards_sent(&mut bed);
    assert!((1..=2).contains(&shards), "{shards}");
    // The deletion that nobody heard of.
    assert!(!bed.keeper.names.contains_key(&b"7"[..]));
    bed.settle();
}

#[test]
fn a_shard_is_encoded_once_for_all_streams() {
    let mut bed = settled(5_000);
    let encoded = bed.shelf.counts().encoded;
    assert_eq!(encoded, 256);
    for _ in 0..10 {
        bed.restart_agent();
        assert_eq!(shards_sent(&mut bed), 256);
    }
    assert_eq!(bed.shelf.counts().encoded, encoded);
    bed.settle();
}

#[test]
fn before_the_companion_knows_all_names_nobody_loses_one() {
    let mut bed = settled(500);
    bed.cut();
    bed.shelf = Shelf::new(10_000);
    bed.shelf.put(Bytes::from("1"), Bytes::from("x"));
    bed.shelf.commit();
    assert_eq!(bed.pass(100), 0);
    assert_eq!(bed.keeper.names.len(), 500);
}

/// A question that got lost, or an answer, is not waited for without end; one that is being answered is.
#[test]
fn who_hears_nothing_asks_again() {
    let (mut copy, at) = (NamesCopy::default(), Duration::from_secs);
    assert!(copy.ask(at(0)).is_some());
    assert!(copy.ask(at(59)).is_none());
    assert!(copy.ask(at(60)).is_some());
    let beat = FromCompanion { answers: Some(Answers::Delta(Delta::default())) };
    for second in (70..400).step_by(30) {
        copy.received(&beat);
        assert!(copy.ask(at(second)).is_none(), "{second}");
    }
    copy.unasked();
    assert!(copy.ask(at(400)).is_some(), "it did not go out");
}

#[test]
fn who_is_too_far_behind_says_again_what_it_has() {
    let mut bed = settled(500);
    let key = Bytes::from("large");
    for i in 0..200u32 {
        // Bytes that do not compress.
        let mut state = i | 1;
        let noise: Vec<u8> = (0..100_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        bed.truth.insert(key.clone(), noise.clone().into());
        bed.shelf.put(key.clone(), noise.into());
        bed.shelf.commit();
    }
    bed.settle();
    assert_eq!(bed.shelf.counts().again, 1);
}

#[test]
fn what_is_too_large_or_too_much_is_left_out_and_counted() {
    let mut shelf = Shelf::new(2);
    shelf.put(Bytes::from("a"), vec![0; 200 << 10].into());
    for key in ["b", "c", "d"] {
        shelf.put(Bytes::from(key), Bytes::from("x"));
    }
    shelf.commit();
    assert_eq!((shelf.len(), shelf.counts().left_out), (2, 2));
}
