use super::*;
use crate::labels::{End, Reporter};
use flow_model::{Detail, Endpoint, FiveTuple, HttpExchange, Notes, Outcome, Protocol, Role, Slot, Transport, Ts};
use proptest::prelude::*;

fn edge() -> Edge {
    let end = |name: &str| End { workload: name.into(), namespace: "shop".into(), kind: "Deployment" };
    Edge::apart(end("web"), end("api"), "api".into(), Reporter::Server)
}

fn flow() -> FlowInfo {
    let end = |last, port| Endpoint { ip: [10, 0, 0, last].into(), port };
    let tuple = FiveTuple { transport: Transport::Tcp, local: end(2, 80), remote: end(1, 40_000) };
    FlowInfo { slot: Slot(2), tuple, role: Role::Server, opened: Ts(1), joined_midway: false, peer: None }
}

fn get(target: &str) -> L7Record {
    let detail =
        HttpExchange { method: "GET".into(), target: target.into(), status: Some(200), ..HttpExchange::default() };
    L7Record {
        protocol: Protocol::Http1,
        start: Ts(1_000),
        response_start: None,
        end: Ts(251_000),
        request_bytes: 100,
        response_bytes: 1_000,
        outcome: Outcome::Answered,
        notes: Notes::default(),
        detail: Detail::Http(detail),
    }
}

/// The taps of a node, and those that its pipeline tells.
struct Node {
    taps: Taps,
    told: Vec<Tap>,
    losses: Losses,
}

impl Node {
    fn new() -> Node {
        let losses = Losses::default();
        Node { taps: Taps::new(&losses), told: Vec::new(), losses }
    }

    fn open(&self, query: &[(&str, &str)]) -> TapReader {
        self.taps.open(TapQuery::read(query.iter().copied()).expect("good")).expect("room")
    }

    /// As the pipeline does it.
    fn tell(&mut self, record: &L7Record) {
        self.told.extend(self.taps.take_opened());
        self.told.iter_mut().for_each(|tap| tap.exchange(&edge(), &flow(), record));
        self.told.retain(|tap| !tap.is_over());
    }

    fn lost(&self) -> u64 {
        self.losses.rows().iter().filter(|row| row.stage == "tap").map(|row| row.total).sum()
    }
}

fn targets(told: &[Told]) -> Vec<String> {
    let target = |told: &Told| match told {
        Told::Exchange(record) => record.row(|at| at.0).target,
        Told::Lost(Gap { unread, unseen }) => format!("-{unread}-{}", unseen.iter().sum::<u64>()),
    };
    told.iter().map(target).collect()
}

#[test]
fn a_record_is_told_with_its_names_and_without_its_query() {
    let mut node = Node::new();
    let reader = node.open(&[]);
    node.tell(&get("/items/7?token=secret"));
    let told = reader.take(10);
    let [Told::Exchange(record)] = &told[..] else { panic!("{told:?}") };
    assert!(!format!("{record:?}").contains("secret"));
    let row = record.row(|at| at.0 + 5);
    assert_eq!((row.start_unix_nano, row.end_unix_nano, row.duration_ns), (1_005, 251_005, Some(250_000)));
    assert_eq!((&*row.src.name, &*row.dst.name, &*row.service), ("web", "api", "api"));
    assert_eq!((&*row.src_address, &*row.dst_address), ("10.0.0.1:40000", "10.0.0.2:80"));
    assert_eq!((&*row.reporter, &*row.protocol, &*row.operation), ("server", "http1", "GET"));
    assert_eq!((&*row.target, &*row.status, &*row.outcome), ("/items/7", "200", "answered"));
    assert_eq!((row.failed, row.request_bytes, row.response_bytes), (false, 100, 1_000));
}

#[test]
fn a_fifth_reader_is_refused_until_one_has_left() {
    let node = Node::new();
    let mut readers: Vec<TapReader> = (0..MOST_TAPS).map(|_| node.open(&[])).collect();
    assert_eq!(node.taps.open(TapQuery::default()).err(), Some(TooManyTaps));
    assert_eq!(node.taps.readers(), MOST_TAPS);
    readers.pop();
    node.open(&[]);
}

#[test]
fn nothing_is_kept_for_who_has_left_or_was_told_all() {
    let mut node = Node::new();
    let (reader, other) = (node.open(&[]), node.open(&[("limit", "2"), ("protocol", "redis,http")]));
    assert!(node.taps.want_paths());
    for target in ["/1", "/2", "/3"] {
        node.tell(&get(target));
    }
    assert_eq!(targets(&other.take(10)), ["/1", "/2"]);
    assert_eq!((node.told.len(), node.taps.told_to()), (1, 1), "the limit was reached");
    let weak = Arc::downgrade(&reader.queue);
    drop(reader);
    assert_eq!(node.told[0].queue.lock().take(10).len(), 0);
    node.tell(&get("/4"));
    assert!(node.told.is_empty() && weak.upgrade().is_none());
    drop(other);
    assert_eq!(node.taps.told_to(), 0);
    assert_eq!((node.taps.readers(), node.taps.want_paths()), (0, false));
    // One that no pipeline ever took.
    drop(node.open(&[]));
    assert!(node.taps.take_opened().is_empty());
}

#[test]
fn who_reads_no_http_keeps_no_paths() {
    let node = Node::new();
    let _redis = node.open(&[("protocol", "redis,grpc")]);
    assert!(!node.taps.want_paths());
    let http = node.open(&[("protocol", "redis,http2")]);
    assert!(node.taps.want_paths());
    drop(http);
    assert!(!node.taps.want_paths());
}

#[test]
fn what_finds_no_room_is_counted_and_told_at_its_place() {
    let mut node = Node::new();
    let reader = node.open(&[]);
    for number in 0..5_000 {
        node.tell(&get(&format!("/{number}")));
    }
    assert_eq!(node.lost(), 5_000 - 4_096);
    let mut told = targets(&reader.take(4_000));
    node.tell(&get("/late"));
    told.extend(targets(&reader.take(usize::MAX)));
    assert_eq!(told.len(), 4_096 + 2);
    assert_eq!(told[4_095..], ["/4095", "-904-0", "/late"].map(str::to_owned));
    assert!(reader.take(1).is_empty());
}

#[test]
fn records_of_long_targets_are_bounded_by_their_bytes() {
    let mut node = Node::new();
    let reader = node.open(&[]);
    let long = format!("/{}", "x".repeat(5_000));
    for _ in 0..4_096 {
        node.tell(&get(&long));
    }
    let told = reader.take(usize::MAX);
    let bytes: usize = told.iter().map(|told| if let Told::Exchange(record) = told { record.held() } else { 0 }).sum();
    assert!((1 << 20..=2 << 20).contains(&bytes), "{bytes}");
    assert_eq!(told.len() as u64 - 1 + node.lost(), 4_096);
    assert_eq!(targets(&told[..1])[0].len(), 1_024);
}

#[test]
fn exchanges_that_nobody_saw_are_told_of_the_ends_that_were_asked_for() {
    let mut node = Node::new();
    let (both, other) = (node.open(&[("workload", "api"), ("protocol", "dns")]), node.open(&[("workload", "db")]));
    node.tell(&get("/"));
    for tap in &mut node.told {
        tap.lost(&edge(), &flow(), LossReason::Gap, 2);
        tap.lost(&edge(), &flow(), LossReason::RingFull, 5);
    }
    let told = both.take(10);
    let [Told::Lost(Gap { unread: 0, unseen })] = told[..] else { panic!("{told:?}") };
    assert_eq!((unseen[LossReason::Gap.index()], unseen[LossReason::RingFull.index()]), (2, 5));
    assert!(other.take(10).is_empty());
    assert_eq!(node.lost(), 0, "they are counted where they were lost");
}

#[derive(Clone, Debug)]
enum Act {
    Push(usize),
    Unseen(u64),
    Take(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1_usize..900).prop_map(Act::Push),
        1 => (1_u64..9).prop_map(Act::Unseen),
        2 => (0_usize..700).prop_map(Act::Take),
    ];
    prop::collection::vec(act, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    /// Whatever is pushed and read, in whatever order: each record is told once and in its order, or is
    /// part of the gap that stands exactly where it is missing; and the bounds hold.
    #[test]
    fn a_queue_tells_everything_in_order_or_says_how_much_is_missing_where(
        acts in acts(), limit in prop::option::of(1_u64..6_000), length in 0_usize..1_000,
    ) {
        let mut queue = Queue::new(limit);
        let (edge, flow) = (edge(), flow());
        let (mut next, mut pushed, mut unseen, mut accepted) = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut told: Vec<Told> = Vec::new();
        for act in acts.into_iter().chain([Act::Take(usize::MAX), Act::Take(usize::MAX)]) {
            match act {
                Act::Push(count) => for _ in 0..count {
                    if queue.is_over() {
                        break;
                    }
                    let target = format!("/{pushed}/{}", "x".repeat(length));
                    pushed += 1;
                    accepted += u64::from(queue.push(Tapped::new(&edge, &flow, &get(&target))));
                },
                Act::Unseen(count) => if !queue.is_over() {
                    unseen += count;
                    queue.unseen(LossReason::Gap, count);
                },
                Act::Take(most) => {
                    let taken = queue.take(most);
                    prop_assert!(taken.len() <= most);
                    told.extend(taken);
                }
            }
            prop_assert!(limit.is_none_or(|limit| accepted <= limit));
        }
        let mut exchanges = 0;
        for told in &told {
            match told {
                Told::Lost(gap) => {
                    prop_assert!(!gap.is_empty());
                    next += gap.unread;
                    unseen -= gap.unseen[LossReason::Gap.index()];
                }
                Told::Exchange(record) => {
                    let target = record.row(|at| at.0).target;
                    prop_assert!(target.starts_with(&format!("/{next}/")), "{} is not {}", target, next);
                    next += 1;
                    exchanges += 1;
                }
            }
        }
        prop_assert_eq!((next, exchanges, unseen), (pushed, accepted, 0));
    }

    #[test]
    fn what_waits_is_bounded(sizes in prop::collection::vec(0_usize..1_024, 1..40), rounds in 1_usize..100) {
        let mut queue = Queue::new(None);
        let (edge, flow) = (edge(), flow());
        for size in sizes.iter().cycle().take(sizes.len() * rounds) {
            queue.push(Tapped::new(&edge, &flow, &get(&format!("/{}", "x".repeat(*size)))));
        }
        let told = queue.take(usize::MAX);
        let held = |told: &Told| if let Told::Exchange(record) = told { record.held() } else { 0 };
        prop_assert!(told.len() <= 4_096 + 1);
        prop_assert!(told.iter().map(held).sum::<usize>() <= 2 << 20);
    }
}
