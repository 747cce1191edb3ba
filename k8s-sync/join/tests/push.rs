//! Both ends of a stream, with cuts anywhere: the copy is what the agent has, never falls, and counts
//! nothing twice.

use join::limits::{MISSING, PERIOD};
use join::message::{FromAgent, FromCompanion, Says, Welcome};
use join::{Action, Applied, Changes, Cut, Link, Me, PushCounts, Refusal, Replica, Source, Was, welcome};
use proptest::prelude::*;
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const SILENCE: Duration = PERIOD.saturating_mul(MISSING);

/// A series of the model: which life of it, and what it has counted in that one. A life is never used
/// again, so a copy that falls has mixed up two times.
type Count = (u64, u64);
type Series = BTreeMap<u8, Count>;

fn bytes((life, count): Count) -> Vec<u8> {
    // Some are long, so that a push has several parts.
    let mut bytes = [life.to_le_bytes(), count.to_le_bytes()].concat();
    bytes.resize(16 + usize::try_from(life % 7).unwrap() * 20, 0);
    bytes
}

fn read(bytes: &[u8]) -> Count {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    (number(0), number(8))
}

/// What the companion is told.
#[derive(Default)]
struct Heard {
    last: Series,
    /// What the copy had when a push was complete last.
    complete: Series,
    is_watched: bool,
}

impl Changes for Heard {
    type Name = u8;

    fn named(&mut self, key: &[u8]) -> Option<u8> {
        key.first().copied()
    }

    fn changed(&mut self, name: &u8, was: Was<'_>, value: &[u8]) {
        let value = read(value);
        match (was, self.last.get(name)) {
            (Was::Value(was), Some(last)) => {
                assert_eq!(read(was), *last, "what it was is what was said last");
                // Another life: it expired and came back between two refreshes.
                assert!(value >= *last, "{value:?} after {last:?}");
                assert!(self.is_watched);
            }
            (Was::New, _) => {
                assert_ne!(self.complete.get(name).map(|count| count.0), Some(value.0), "it was there before");
                assert!(self.is_watched);
            }
            (Was::Unknown, _) => assert!(!self.is_watched || !self.complete.contains_key(name)),
            (Was::Value(_), None) => panic!("of a series that was not there"),
        }
        self.last.insert(*name, value);
    }

    fn gone(&mut self, name: &u8, value: &[u8]) {
        assert_eq!(self.last.remove(name), Some(read(value)));
    }
}

/// An agent, a companion, and the messages between them.
struct Bed {
    now: Duration,
    lives: u64,
    agent: Me,
    series: Series,
    source: Source,
    /// What each generation of this process of the agent was.
    history: BTreeMap<u64, Series>,
    link: Link,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    companion: Me,
    replica: Replica<u8>,
    heard: Heard,
    completed: u64,
}

const SEED: u64 = 7;

impl Bed {
    fn new() -> Bed {
        let agent = Me::new("0.2.0", 100);
        Bed {
            now: Duration::from_secs(1),
            lives: 0,
            link: Link::new(agent.clone(), "n1", SEED),
            agent,
            series: Series::new(),
            source: Source::with_parts(100),
            history: BTreeMap::new(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            companion: Me::new("0.2.0", 1),
            replica: Replica::new(SILENCE),
            heard: Heard::default(),
            completed: 0,
        }
    }

    fn refresh(&mut self) {
        let series = &self.series;
        self.source.refresh(|put| series.iter().for_each(|(name, count)| put(&[*name], &bytes(*count))));
        self.history.insert(self.source.generation(), self.series.clone());
    }

    fn cut(&mut self) {
        self.up.clear();
        self.down.clear();
        self.link.cut(self.now, Cut::Broken("cut".to_owned()));
    }

    fn bump(&mut self, name: u8, by: u64) {
        self.lives += 1;
        let life = self.lives;
        self.series.entry(name).or_insert((life, 0)).1 += by;
    }

    /// The agent's messages into the stream, as far as it takes them.
    fn send(&mut self) {
        while self.up.len() < 2 {
            match self.link.poll(self.now, &self.source) {
                Some(Action::Dial) => self.link.connected(self.now),
                Some(Action::Send(message)) => self.up.push_back(message.encode_to_vec()),
                Some(Action::Hang(_)) => {
                    self.up.clear();
                    self.down.clear();
                }
                None => break,
            }
        }
    }

    /// One message of the agent arrives.
    fn arrive(&mut self) {
        let Some(message) = self.up.pop_front() else { return };
        match FromAgent::decode(&*message).unwrap().says.unwrap() {
            Says::Hello(hello) => {
                let protocol = welcome(&self.companion, &hello).unwrap();
                let generation = self.replica.begin(hello.instance);
                let Me { version, instance, .. } = self.companion.clone();
                let welcome = Welcome {
                    protocol,
                    version,
                    instance,
                    generation,
                    period_ms: 0,
                    replicas: Vec::new(),
                    names: false,
                    credential: false,
                    findings: false,
                };
                self.answer(join::message::Answers::Welcome(welcome).into());
            }
            Says::Part(part) => {
                let is_fresh = self.replica.completed().is_some_and(|at| self.now - at <= SILENCE);
                if part.number == 0 {
                    self.heard.is_watched = self.replica.generation() > 0 && is_fresh;
                }
                match self.replica.part(self.now, &part, &mut self.heard).unwrap() {
                    Applied::More => {}
                    Applied::Complete(ack) => {
                        self.complete(ack.generation);
                        self.answer(join::message::Answers::Ack(ack).into());
                    }
                    Applied::Resync => panic!("the agent sends what fits"),
                }
            }
            Says::Bye(_) | Says::Wants(_) | Says::Findings(_) => panic!("nobody says so"),
        }
    }

    fn answer(&mut self, message: FromCompanion) {
        self.down.push_back(message.encode_to_vec());
    }

    fn complete(&mut self, generation: u64) {
        self.completed += 1;
        let copy: Series = self.replica.series().map(|(name, value)| (*name, read(value))).collect();
        assert_eq!(Some(&copy), self.history.get(&generation), "generation {generation}");
        assert_eq!(copy, self.heard.last);
        self.heard.complete = copy;
    }

    /// One message of the companion arrives.
    fn hear(&mut self) {
        let Some(message) = self.down.pop_front() else { return };
        let action = self.link.received(self.now, FromCompanion::decode(&*message).unwrap());
        assert_eq!(action, None);
    }

    fn restart_agent(&mut self, keeps: bool) {
        self.cut();
        self.agent.instance += 1;
        self.source = Source::with_parts(100);
        self.history.clear();
        self.link = Link::new(self.agent.clone(), "n1", SEED + self.agent.instance);
        // Counters that were kept go on; others begin a new life, below or above where they were.
        if !keeps {
            let names: Vec<u8> = self.series.keys().copied().collect();
            self.series.clear();
            names.into_iter().step_by(2).for_each(|name| self.bump(name, 1));
        }
    }

    fn restart_companion(&mut self) {
        self.cut();
        self.companion.instance += 1;
        self.replica = Replica::new(SILENCE);
        self.heard = Heard::default();
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Count(name, by) => self.bump(name, by),
            Op::Expire(name) => drop(self.series.remove(&name)),
            Op::Refresh => self.refresh(),
            Op::Send => self.send(),
            Op::Arrive(n) => (0..n).for_each(|_| self.arrive()),
            Op::Hear => self.hear(),
            Op::Cut => self.cut(),
            Op::RestartAgent(keeps) => self.restart_agent(keeps),
            Op::RestartCompanion => self.restart_companion(),
            Op::Pass(seconds) => self.now += Duration::from_secs(seconds.into()),
            Op::Settle => self.settle(),
        }
    }

    /// Until the companion has what the agent has now.
    fn settle(&mut self) {
        self.refresh();
        let generation = self.source.generation();
        for _ in 0..10_000 {
            self.send();
            self.arrive();
            self.hear();
            if self.link.held() == Some(generation) {
                assert_eq!(self.heard.complete, self.series);
                // Every push that began has ended, in one way.
                let PushCounts { begun, answered, cut, resyncs, .. } = self.link.counts();
                assert_eq!(begun, answered + cut + resyncs);
                return;
            }
            if self.up.is_empty() && self.down.is_empty() {
                self.now = self.now.max(self.link.deadline());
            }
        }
        panic!("no push gets through: {:?}", self.link);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Count(u8, u64),
    Expire(u8),
    Refresh,
    Send,
    Arrive(usize),
    Hear,
    Cut,
    RestartAgent(bool),
    RestartCompanion,
    Pass(u8),
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0u8..12, 0u64..5).prop_map(|(name, by)| Op::Count(name, by)),
        2 => (0u8..12).prop_map(Op::Expire),
        4 => Just(Op::Refresh),
        8 => Just(Op::Send),
        8 => (1usize..4).prop_map(Op::Arrive),
        6 => Just(Op::Hear),
        2 => Just(Op::Cut),
        1 => any::<bool>().prop_map(Op::RestartAgent),
        1 => Just(Op::RestartCompanion),
        5 => (0u8..40).prop_map(Op::Pass),
        2 => Just(Op::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn the_copy_is_what_the_agent_has_whatever_is_cut(ops in proptest::collection::vec(op(), 1..120)) {
        let mut bed = Bed::new();
        ops.iter().for_each(|op| bed.run(op));
        bed.settle();
        prop_assert!(bed.completed > 0);
    }

    /// A cut after each message of a push, one after the other, and it goes on from there.
    #[test]
    fn a_push_that_is_cut_after_any_part_counts_once(cut_after in 0usize..12, counts in 1u64..9) {
        let mut bed = Bed::new();
        (0..12).for_each(|name| bed.bump(name, counts));
        bed.settle();
        (0..12).for_each(|name| bed.bump(name, counts));
        bed.refresh();
        bed.now += PERIOD.mul_f64(1.2);
        for _ in 0..cut_after {
            bed.send();
            bed.arrive();
        }
        bed.cut();
        bed.settle();
    }
}

/// A stream that is open and has pushed once.
fn settled() -> Bed {
    let mut bed = Bed::new();
    (0..12).for_each(|name| bed.bump(name, 1));
    bed.settle();
    bed
}

#[test]
fn after_a_cut_only_what_changed_is_sent() {
    let mut bed = settled();
    // Its value is short, so that it does not close a part by itself.
    bed.bump(6, 1);
    bed.cut();
    bed.refresh();
    bed.now += Duration::from_secs(20);
    bed.send();
    bed.arrive();
    bed.hear();
    bed.send();
    let Says::Part(part) = FromAgent::decode(&*bed.up[0]).unwrap().says.unwrap() else { panic!("a part") };
    assert_eq!((part.since, part.number, part.last), (1, 0, true));
}

#[test]
fn who_gets_no_answer_hangs_up_and_dials_again() {
    let mut bed = settled();
    bed.now += PERIOD * 2;
    bed.refresh();
    bed.send();
    assert_eq!(bed.up.len(), 1);
    bed.now = bed.link.deadline();
    assert_eq!(bed.link.poll(bed.now, &bed.source), Some(Action::Hang(Cut::Silent)));
    assert_eq!((bed.link.is_open(), bed.link.why()), (false, Some(&Cut::Silent)));
    bed.up.clear();
    bed.settle();
    assert_eq!(bed.link.why(), None);
}

#[test]
fn a_stream_that_takes_nothing_makes_nothing_grow() {
    let mut bed = settled();
    for i in 0..1_000 {
        bed.bump(i as u8, 1);
        bed.refresh();
        bed.now += Duration::from_millis(20);
        bed.send();
        assert!(bed.up.len() <= 2);
    }
}

#[test]
fn fifty_agents_of_a_companion_that_went_away_come_back_apart() {
    let mut tenths = [0; 10];
    for seed in 0..1_000 {
        let mut link = Link::new(Me::new("0.2.0", seed + 10), "n1", seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let source = Source::default();
        assert_eq!(link.poll(Duration::ZERO, &source), Some(Action::Dial));
        link.cut(Duration::ZERO, Cut::Broken("refused".to_owned()));
        let wait = link.deadline();
        assert!(wait < Duration::from_secs(10));
        tenths[usize::try_from(wait.as_secs()).unwrap()] += 1;
        // Each attempt that fails doubles the span, up to a minute.
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            let now = link.deadline();
            assert_eq!(link.poll(now, &source), Some(Action::Dial));
            link.cut(now, Cut::Broken("refused".to_owned()));
            longest = longest.max(link.deadline() - now);
        }
        assert!(longest <= Duration::from_secs(60) && longest > Duration::from_secs(10));
    }
    assert!(tenths.iter().all(|n| (50..150).contains(n)), "{tenths:?}");
}

#[test]
fn who_is_refused_waits_for_people_and_says_why() {
    let mut bed = Bed::new();
    bed.send();
    let refusal = Refusal::new(join::Reason::Token, "the join token is not this cluster's");
    bed.link.cut(bed.now, Cut::Refused(refusal.clone()));
    assert_eq!(bed.link.why(), Some(&Cut::Refused(refusal)));
    assert!(bed.link.deadline() >= bed.now + Duration::from_secs(30));
}

#[test]
fn a_companion_that_asks_for_everything_gets_it_with_the_next_push() {
    let mut bed = settled();
    bed.now += PERIOD * 2;
    bed.send();
    let action = bed.link.received(bed.now, join::message::Answers::Resync(join::message::Resync {}).into());
    assert_eq!(action, None);
    bed.up.clear();
    bed.send();
    assert!(bed.up.is_empty(), "not at once: a companion that always asks gets one push a period");
    bed.now = bed.link.deadline();
    bed.send();
    let Says::Part(part) = FromAgent::decode(&*bed.up[0]).unwrap().says.unwrap() else { panic!("a part") };
    assert_eq!(part.since, 0);
}

#[test]
fn a_shorter_period_counts_at_once_and_stays_in_bounds() {
    let mut bed = settled();
    let period = |period_ms| join::message::Answers::Period(join::message::Period { period_ms }).into();
    assert!(bed.link.deadline() > bed.now + Duration::from_secs(8));
    bed.link.received(bed.now, period(2_000));
    assert_eq!(bed.link.deadline(), bed.now + Duration::from_secs(2));
    bed.link.received(bed.now, period(1));
    assert_eq!(bed.link.deadline(), bed.now + Duration::from_secs(1));
}

#[test]
fn a_companion_that_speaks_another_protocol_is_not_pushed_to() {
    let mut bed = Bed::new();
    bed.send();
    let welcome = Welcome {
        protocol: 9,
        version: "0.9.0".to_owned(),
        instance: 1,
        generation: 0,
        period_ms: 0,
        replicas: Vec::new(),
        names: false,
        credential: false,
        findings: false,
    };
    let action = bed.link.received(bed.now, join::message::Answers::Welcome(welcome).into());
    let Some(Action::Hang(Cut::Refused(refusal))) = action else { panic!("{action:?}") };
    let text = "companion 0.9.0 answers in protocol 9, agent 0.2.0 speaks 1 to 1: upgrade one of them";
    assert_eq!((refusal.reason, &*refusal.text), (join::Reason::Version, text));
}

#[test]
fn a_message_of_another_version_is_passed_over() {
    let mut bed = settled();
    assert_eq!(bed.link.received(bed.now, FromCompanion::default()), None);
    // Field 99 of a hello.
    let mut hello = bed.agent.hello("n1").encode_to_vec();
    hello.extend([0x98, 0x06, 0x01]);
    assert_eq!(join::message::Hello::decode(&*hello).unwrap(), bed.agent.hello("n1"));
}

/// What `poll` says until there is nothing to do: `f` findings, `p` a push, which is answered.
fn said(bed: &mut Bed) -> String {
    let mut said = String::new();
    while let Some(action) = bed.link.poll(bed.now, &bed.source) {
        let Action::Send(message) = action else { panic!("{action:?}") };
        match message.says.unwrap() {
            Says::Findings(_) => said.push('f'),
            Says::Part(part) => {
                said.push('p');
                let ack = join::message::Ack { generation: part.generation, ..join::message::Ack::default() };
                assert_eq!(bed.link.received(bed.now, join::message::Answers::Ack(ack).into()), None);
            }
            other => panic!("{other:?}"),
        }
    }
    bed.now += PERIOD * 2;
    said
}

/// Opens a stream to a companion of this version, or of the one before.
fn opened(bed: &mut Bed, findings: bool) {
    bed.cut();
    bed.now += Duration::from_secs(120);
    assert_eq!(bed.link.poll(bed.now, &bed.source), Some(Action::Dial));
    bed.link.connected(bed.now);
    assert!(matches!(bed.link.poll(bed.now, &bed.source), Some(Action::Send(_))));
    let welcome = Welcome { protocol: 1, instance: 1, findings, ..Welcome::default() };
    assert_eq!(bed.link.received(bed.now, join::message::Answers::Welcome(welcome).into()), None);
}

#[test]
fn findings_are_told_before_a_push_when_they_changed_and_to_each_stream_once() {
    let mut bed = Bed::new();
    bed.refresh();
    opened(&mut bed, true);
    assert_eq!(said(&mut bed), "p", "nobody has looked");
    let finding = |id: &str| join::message::Finding { id: id.to_owned(), ..join::message::Finding::default() };
    bed.source.findings_mut().tell(1, &vec![finding("a")].into());
    assert_eq!([said(&mut bed), said(&mut bed)], ["fp", "p"]);
    bed.source.findings_mut().tell(2, &vec![finding("a")].into());
    assert_eq!(said(&mut bed), "p");
    bed.source.findings_mut().tell(3, &Vec::new().into());
    assert_eq!(said(&mut bed), "fp");
    // A stream knows nothing of the one before.
    opened(&mut bed, true);
    assert_eq!([said(&mut bed), said(&mut bed)], ["fp", "p"]);
    // A companion of a version before is not troubled.
    opened(&mut bed, false);
    bed.source.findings_mut().tell(4, &vec![finding("b")].into());
    assert_eq!((said(&mut bed).as_str(), bed.link.takes_findings()), ("p", false));
}
