use super::*;
use crate::event::Counters;
use flow_model::Transport;
use flow_model::{Detail, Direction, Endpoint, FiveTuple, FlowDelta, FlowInfo, L7Record, Outcome};
use l7::MessageEnd;
use std::net::Ipv4Addr;

/// Writes down what it is told.
#[derive(Debug, Default)]
struct Diary(Vec<String>);

impl Sink for Diary {
    type PerFlow = ();

    fn exchange(&mut self, flow: &FlowInfo, _: &mut (), record: &L7Record) {
        let Detail::Http(http) = &record.detail else { return self.0.push("dns".to_owned()) };
        let status = http.status.map_or("-".to_owned(), |status| status.to_string());
        let end = match record.outcome {
            Outcome::Answered => record.end.since(record.start).as_micros().to_string(),
            outcome @ (Outcome::Unanswered | Outcome::OneWay) => outcome.as_str().to_owned(),
        };
        let target = if http.target.is_empty() { String::new() } else { format!(" {}", http.target) };
        self.0.push(format!("{:?} {}{target} {status} {end}", flow.role, http.method));
    }

    fn exchanges_lost(&mut self, _: &FlowInfo, _: &mut (), reason: LossReason, count: u64) {
        self.0.push(format!("lost {count} {}", reason.as_str()));
    }

    fn flow(&mut self, flow: &FlowInfo, _: &mut (), delta: &FlowDelta) {
        let what = match (delta.opened, delta.closed) {
            (true, Some(close)) => format!("opened and closed {close:?}"),
            (true, None) => "opened".to_owned(),
            (false, Some(close)) => format!("closed {close:?}"),
            (false, None) => "counted".to_owned(),
        };
        self.0.push(format!("tcp {:?} {what} {}", flow.role, delta.bytes[0] + delta.bytes[1]));
    }
}

/// A connection to port 80 of 10.0.0.9 as its client's namespace sees it. Times in microseconds.
struct Wire {
    pipeline: Pipeline<Diary>,
    key: FlowKey,
    id: u64,
    role: Role,
    seqs: [u32; 2],
    turn: u32,
    now: u64,
    quiet_ns: u64,
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn wire() -> Wire {
    let at = |last, port| Endpoint { ip: Ipv4Addr::new(10, 0, 0, last).into(), port };
    let tuple = FiveTuple { transport: Transport::Tcp, local: at(2, 40_000), remote: at(9, 80) };
    Wire {
        pipeline: Pipeline::new(PipelineConfig { flows: 2, ..PipelineConfig::default() }, Diary::default()),
        key: FlowKey { slot: Slot(1), tuple },
        id: 1,
        role: Role::Client,
        seqs: [1000, 5000],
        turn: 0,
        now: 0,
        quiet_ns: 1_000_000_000,
    }
}

impl Wire {
    fn at_port(&mut self, port: u16) -> &mut Self {
        self.key.tuple.local.port = port;
        (self.id, self.turn) = (self.id + 1, 0);
        self
    }

    /// A message whose head was captured.
    fn message(&mut self, dir: Direction, text: &str) -> &mut Self {
        self.step(dir, text, true)
    }

    /// A message that the kernel counted and whose head found the ring full.
    fn lost(&mut self, dir: Direction, text: &str) -> &mut Self {
        self.step(dir, text, false)
    }

    fn step(&mut self, dir: Direction, text: &str, captured: bool) -> &mut Self {
        self.turn += 1;
        self.now += 100;
        let seq = self.seqs[dir.index()];
        self.seqs[dir.index()] += text.len() as u32;
        if captured { self.piece(dir, seq, text, true) } else { self }
    }

    /// The message that was sent last is sent again.
    fn again(&mut self, dir: Direction, text: &str) -> &mut Self {
        self.now += 100;
        self.piece(dir, self.seqs[dir.index()] - text.len() as u32, text, false)
    }

    fn piece(&mut self, dir: Direction, seq: u32, text: &str, first: bool) -> &mut Self {
        let segment = Segment {
            key: self.key,
            id: FlowId(self.id),
            role: self.role,
            joined_midway: self.role == Role::Unknown,
            transport: Transport::Tcp,
            dir,
            at: Ts(self.now * 1000),
            seq,
            turn: self.turn,
            wire_len: text.len() as u32,
            first,
            prev: None,
            payload: text.as_bytes(),
            acked: None,
            walked: l7::Walked::default(),
        };
        self.pipeline.event(&Event::Segment(segment));
        self
    }

    fn exchange(&mut self) -> &mut Self {
        self.message(Direction::Egress, GET).message(Direction::Ingress, OK)
    }

    fn state(&self, closed: Option<Close>) -> Sample {
        Sample {
            key: self.key,
            id: FlowId(self.id),
            at: Ts(self.now * 1000),
            role: self.role,
            joined_midway: self.role == Role::Unknown,
            established: true,
            counters: Counters { bytes: [500, 300], packets: [5, 5], ..Counters::default() },
            turns: self.turn,
            message: None,
            closed,
            half_closed: false,
        }
    }

    fn sampled(&mut self, closed: Option<Close>) -> &mut Self {
        self.pipeline.sample(&self.state(closed), Ts(self.now * 1000 + self.quiet_ns));
        self
    }

    /// Samples are taken this long after the last packet.
    fn quiet_for(&mut self, quiet_ns: u64) -> &mut Self {
        self.quiet_ns = quiet_ns;
        self
    }

    fn seeded(&mut self, role: Role) -> &mut Self {
        let seed = FlowSeed { slot: self.key.slot, tuple: self.key.tuple, role, pid: 0 };
        self.pipeline.seed(&seed, Ts(self.now * 1000));
        self
    }

    #[track_caller]
    fn check(&mut self, expected: &[&str]) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.pipeline.sink_mut().0), expected);
        self
    }
}

#[test]
fn an_exchange_is_told_as_soon_as_it_is_whole_and_its_connection_when_it_is_sampled() {
    wire()
        .exchange()
        .check(&["Client GET 200 100"])
        .sampled(None)
        .check(&["tcp Client opened 800"])
        .sampled(Some(Close::Fin))
        .check(&["tcp Client closed Fin 0"]);
}

#[test]
fn targets_are_kept_of_requests_that_begin_while_somebody_wants_them() {
    let mut wire = wire();
    wire.exchange().message(Direction::Egress, GET);
    wire.pipeline.keep_strings(true);
    wire.message(Direction::Ingress, OK).exchange();
    wire.check(&["Client GET 200 100", "Client GET 200 100", "Client GET / 200 100"]);
    // A connection that opens meanwhile, too.
    wire.at_port(40_001).exchange().message(Direction::Egress, GET);
    wire.pipeline.keep_strings(false);
    wire.message(Direction::Ingress, OK).exchange();
    wire.check(&["Client GET / 200 100", "Client GET / 200 100", "Client GET 200 100"]);
}

#[test]
fn heads_that_found_the_ring_full_are_lost_exchanges_and_the_next_one_is_whole() {
    let mut wire = wire();
    wire.exchange().check(&["Client GET 200 100"]);
    wire.lost(Direction::Egress, GET).lost(Direction::Ingress, OK).exchange();
    wire.check(&["lost 1 ring_full", "Client GET 200 100"]);
    wire.lost(Direction::Egress, GET).message(Direction::Ingress, OK).exchange();
    wire.check(&["lost 1 ring_full", "Client GET 200 100"]);
    wire.message(Direction::Egress, GET).lost(Direction::Ingress, OK).exchange();
    wire.check(&["lost 1 ring_full", "Client GET 200 100"]);
}

#[test]
fn what_is_lost_at_the_end_shows_in_the_final_count() {
    let mut wire = wire();
    wire.exchange().check(&["Client GET 200 100"]);
    wire.lost(Direction::Egress, GET).lost(Direction::Ingress, OK).sampled(Some(Close::Fin));
    wire.check(&["lost 1 ring_full", "tcp Client opened and closed Fin 800"]);
}

#[test]
fn a_connection_of_which_no_head_was_seen_is_counted_where_its_server_is_known() {
    let mut wire = wire();
    wire.lost(Direction::Egress, GET).lost(Direction::Ingress, OK).sampled(Some(Close::Fin));
    wire.check(&["tcp Client opened and closed Fin 800"]);
    wire.at_port(40_001).exchange().check(&["Client GET 200 100"]);
    wire.at_port(40_002).lost(Direction::Egress, GET).lost(Direction::Ingress, OK).sampled(Some(Close::Fin));
    wire.check(&["lost 1 ring_full", "tcp Client opened and closed Fin 800"]);
}

#[test]
fn what_is_lost_of_a_connection_that_stays_open_is_told_while_it_is_open() {
    let mut wire = wire();
    wire.exchange().check(&["Client GET 200 100"]);
    wire.at_port(40_001).lost(Direction::Egress, GET).lost(Direction::Ingress, OK).sampled(None);
    wire.check(&["lost 1 ring_full", "tcp Client opened 800"]);
    wire.sampled(None).check(&["tcp Client counted 0"]);
    wire.lost(Direction::Egress, GET).sampled(None).check(&["tcp Client counted 0"]);
    wire.lost(Direction::Ingress, OK).exchange();
    wire.check(&["lost 1 ring_full", "Client GET 200 100"]);
    wire.sampled(Some(Close::Fin)).check(&["tcp Client closed Fin 0"]);
}

#[test]
fn what_was_lost_before_the_server_was_known_is_told_with_the_first_head() {
    let mut wire = wire();
    wire.lost(Direction::Egress, GET).lost(Direction::Ingress, OK).sampled(None).check(&["tcp Client opened 800"]);
    wire.exchange().check(&["lost 1 ring_full", "Client GET 200 100"]);
    wire.sampled(Some(Close::Fin)).check(&["tcp Client closed Fin 0"]);
}

#[test]
fn a_connection_that_showed_too_little_to_be_recognised_is_counted_where_its_server_is_known() {
    let mut wire = wire();
    wire.exchange().check(&["Client GET 200 100"]);
    wire.at_port(40_001).lost(Direction::Egress, GET).message(Direction::Ingress, "HT").sampled(Some(Close::Fin));
    wire.check(&["lost 1 ring_full", "tcp Client opened and closed Fin 800"]);
}

#[test]
fn a_sample_that_overtakes_an_event_loses_nothing() {
    let mut wire = wire();
    wire.exchange().check(&["Client GET 200 100"]);
    wire.lost(Direction::Egress, GET).quiet_for(100_000).sampled(None).check(&["tcp Client opened 800"]);
    wire.lost(Direction::Ingress, OK).sampled(Some(Close::Fin)).check(&[]);
    wire.quiet_for(1_000_000_000).sampled(Some(Close::Fin));
    wire.check(&["lost 1 ring_full", "tcp Client closed Fin 0"]);
}

#[test]
fn a_request_without_a_response_is_told_when_the_connection_ends() {
    wire()
        .message(Direction::Egress, GET)
        .check(&[])
        .sampled(Some(Close::Reset))
        .check(&["Client GET - unanswered", "tcp Client opened and closed Reset 800"]);
}

#[test]
fn a_tuple_that_is_used_again_is_another_connection() {
    let mut wire = wire();
    wire.message(Direction::Egress, GET);
    (wire.id, wire.turn) = (2, 0);
    wire.exchange();
    wire.check(&["lost 1 unfinished", "tcp Client closed Gone 0", "Client GET 200 100"]);
    // What was sampled before the tuple was used again says nothing of the connection that lives.
    wire.id = 1;
    wire.sampled(None).check(&[]);
    assert_eq!(wire.pipeline.stats().stale, 1);
}

#[test]
fn an_event_of_a_connection_that_was_settled_opens_nothing() {
    let mut wire = wire();
    wire.exchange().sampled(Some(Close::Fin));
    wire.check(&["Client GET 200 100", "tcp Client opened and closed Fin 800"]);
    wire.sampled(None).exchange().check(&[]);
    assert!(wire.pipeline.is_empty());
}

#[test]
fn a_seed_names_the_client_of_a_connection_joined_midway() {
    let mut wire = wire();
    wire.role = Role::Unknown;
    wire.seeded(Role::Client).check(&["tcp Client counted 0"]);
    wire.exchange().check(&["Client GET 200 100"]).sampled(None).check(&["tcp Client counted 800"]);
    assert_eq!(wire.pipeline.len(), 1);
}

#[test]
fn what_was_observed_outranks_a_seed() {
    wire().exchange().seeded(Role::Server).exchange().check(&["Client GET 200 100", "Client GET 200 100"]);
}

#[test]
fn a_full_table_refuses_and_counts() {
    let mut wire = wire();
    for port in 1..=3 {
        wire.at_port(port).exchange();
    }
    wire.check(&["Client GET 200 100", "Client GET 200 100", "lost 1 limit"]);
    assert_eq!(wire.pipeline.stats().table_full, 2);
}

#[test]
fn a_namespace_takes_its_flows_along() {
    let mut wire = wire();
    wire.exchange().check(&["Client GET 200 100"]);
    wire.pipeline.namespace_gone(Slot(1), Ts(9));
    wire.check(&["tcp Client closed Gone 0"]);
    assert!(wire.pipeline.is_empty());
    assert_eq!(wire.pipeline.requests().take_removable(Ts(u64::MAX)), [(wire.key, FlowId(1))]);
}

#[test]
fn a_long_response_is_looked_at_until_its_end_is_known() {
    let mut wire = wire();
    wire.message(Direction::Egress, GET);
    wire.message(Direction::Ingress, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    let (key, id) = (wire.key, FlowId(wire.id));
    let mut asked = 0;
    let mut at = |bytes: u64, last: u64| {
        asked += 1;
        let end =
            MessageEnd { turn: 2, bytes, packets: 9, first: Ts(200_000), last: Ts(last), ..MessageEnd::default() };
        Some(Sample {
            key,
            id,
            at: Ts(last),
            role: Role::Client,
            joined_midway: false,
            established: true,
            counters: Counters::default(),
            turns: 2,
            message: Some(end),
            closed: None,
            half_closed: false,
        })
    };
    wire.pipeline.tick(Ts(1_000_000), |_| None);
    wire.pipeline.tick(Ts(60_000_000), |_| at(50_000, 55_000_000));
    wire.check(&[]);
    wire.pipeline.tick(Ts(100_000_000), |_| at(0, 0));
    wire.pipeline.tick(Ts(200_000_000), |_| at(100_043, 150_100_000));
    assert_eq!(asked, 2, "the second look comes later than the first");
    wire.check(&["Client GET 200 150000"]);
    wire.pipeline.tick(Ts(10_000_000_000), |_| panic!("nothing waits any more"));
}

#[test]
fn holes_that_never_filled_are_counted_when_their_flow_ends() {
    let mut wire = wire();
    wire.exchange();
    wire.seqs[Direction::Egress.index()] += 50;
    wire.exchange();
    assert_eq!(wire.pipeline.stats().holes, 0);
    wire.sampled(Some(Close::Fin));
    let PipelineStats { holes, holes_bounded, flows_closed, .. } = wire.pipeline.stats();
    assert_eq!((holes, holes_bounded, flows_closed), (1, 0, 1));
}

/// A round came late, and while it went on the addresses and ports were used again: by the SYN's news
/// the old connection ends once more.
#[test]
fn an_end_that_the_table_told_of_is_not_told_again_by_the_ring() {
    let mut wire = wire();
    wire.exchange().sampled(Some(Close::Fin));
    wire.check(&["Client GET 200 100", "tcp Client opened and closed Fin 800"]);
    wire.at_port(40_001).lost(Direction::Egress, GET).lost(Direction::Ingress, OK).sampled(Some(Close::Fin));
    wire.check(&["lost 1 ring_full", "tcp Client opened and closed Fin 800"]);
    let (later, news) = (Ts(u64::MAX), Event::Closed(wire.state(Some(Close::Fin))));
    assert_eq!(wire.pipeline.requests().take_removable(later).len(), 2);
    wire.pipeline.requests().forget(later, 0, 100);
    wire.pipeline.event(&news);
    wire.check(&[]);
}

#[test]
fn what_is_sent_again_when_the_kernel_has_forgotten_its_connection_is_no_exchange() {
    for (dir, text) in [(Direction::Ingress, OK), (Direction::Egress, GET)] {
        let mut wire = wire();
        wire.exchange().sampled(Some(Close::Fin));
        wire.check(&["Client GET 200 100", "tcp Client opened and closed Fin 800"]);
        let now = Ts(wire.now * 1000 + 1);
        assert_eq!(wire.pipeline.requests().take_removable(now).len(), 1, "a table of two has no room for it");
        wire.pipeline.requests().forget(now, 0, 0);
        (wire.id, wire.turn, wire.role) = (wire.id + 1, 0, Role::Unknown);
        wire.message(dir, text).sampled(None).sampled(Some(Close::Fin)).check(&[]);
        let (key, id) = (wire.key, FlowId(wire.id));
        assert_eq!(wire.pipeline.requests().take_removable(Ts(wire.now * 1000)), [(key, id)]);
        // With a handshake it is another one.
        (wire.id, wire.turn, wire.role) = (wire.id + 1, 0, Role::Client);
        wire.exchange().check(&["Client GET 200 100"]);
    }
}

/// What is sent again of a message that was refused says nothing, but it has been seen.
#[test]
fn what_is_lost_after_a_piece_of_what_was_told_as_lost_is_told_too() {
    let mut wire = wire();
    wire.exchange().sampled(Some(Close::Fin));
    wire.check(&["Client GET 200 100", "tcp Client opened and closed Fin 800"]);
    wire.at_port(40_001).lost(Direction::Egress, GET).lost(Direction::Ingress, OK).sampled(None);
    wire.check(&["lost 1 ring_full", "tcp Client opened 800"]);
    wire.again(Direction::Ingress, OK).check(&[]);
    for _ in 0..2 {
        wire.lost(Direction::Egress, GET).lost(Direction::Ingress, OK);
    }
    wire.sampled(Some(Close::Fin)).check(&["lost 2 ring_full", "tcp Client closed Fin 0"]);
}

#[test]
fn a_connection_that_was_let_go_of_goes_on_as_one_that_was_joined() {
    let mut wire = wire();
    wire.exchange().check(&["Client GET 200 100"]);
    let key = wire.key;
    wire.pipeline.let_go(&key, Ts(wire.now * 1000));
    wire.check(&["tcp Client closed Gone 0"]);
    (wire.id, wire.turn, wire.role) = (wire.id + 1, 0, Role::Unknown);
    wire.exchange().check(&["Client GET 200 100"]);
}
