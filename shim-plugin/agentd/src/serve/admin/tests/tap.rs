//! The tap as whoever opens the socket meets it.

use super::*;
use flow_model::{
    Detail, Endpoint, FiveTuple, FlowInfo, HttpExchange, Identity, L7Record, Names, Notes, Outcome, Protocol, Role,
    Sink, Slot, Transport, Ts, Unknown,
};
use golden_metrics::{Config, FlowCache, Golden, Losses};
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;

/// Knows nobody.
#[derive(Debug)]
struct Nobody;

impl Names for Nobody {
    fn local(&self, _: Slot) -> Identity {
        Identity::Unknown(Unknown::NotFound)
    }

    fn remote(&self, _: Slot, _: Endpoint, _: Ts) -> Identity {
        Identity::Unknown(Unknown::NotFound)
    }

    fn version(&self) -> u64 {
        0
    }

    fn dns_answer(&mut self, _: Slot, _: &str, _: &[IpAddr], _: u32, _: Ts) {}
}

/// What the pipeline does for taps.
struct Pipeline {
    golden: Golden<Nobody>,
    cache: FlowCache,
}

impl Pipeline {
    fn new() -> Pipeline {
        let (golden, _) = Golden::new(Nobody, Config::default(), &Losses::default());
        Pipeline { golden, cache: FlowCache::default() }
    }

    /// A GET ended.
    fn get(&mut self, served: &Served, target: &str) {
        for tap in served.board.taps.take_opened() {
            self.golden.observe(Box::new(tap));
        }
        let end = |last, port| Endpoint { ip: [10, 0, 0, last].into(), port };
        let tuple = FiveTuple { transport: Transport::Tcp, local: end(2, 80), remote: end(1, 40_000) };
        let flow =
            FlowInfo { slot: Slot(2), tuple, role: Role::Server, opened: Ts(1), joined_midway: false, peer: None };
        let detail =
            HttpExchange { method: "GET".into(), target: target.into(), status: Some(200), ..HttpExchange::default() };
        let record = L7Record {
            protocol: Protocol::Http1,
            start: Ts(1_000),
            response_start: None,
            end: Ts(251_000),
            request_bytes: 100,
            response_bytes: 1_000,
            outcome: Outcome::Answered,
            notes: Notes::default(),
            detail: Detail::Http(detail),
        };
        self.golden.exchange(&flow, &mut self.cache, &record);
    }
}

impl Served {
    /// The lines behind the head of an answer of 200.
    fn tap(&self, parameters: &str) -> BufReader<UnixStream> {
        let mut stream = UnixStream::connect(self.directory.path().join("a.sock")).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
        write!(stream, "GET /v1/tap{parameters} HTTP/1.0\r\nHost: x\r\n\r\n").expect("write");
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).expect("a head") > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.0 200") && head.contains("application/x-ndjson"), "{head}");
        lines
    }

    fn wait_readers(&self, count: usize) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.board.taps.readers() != count {
            assert!(Instant::now() < until, "{} readers, not {count}", self.board.taps.readers());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn line(lines: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    line
}

#[test]
fn what_ends_is_told_to_the_socket_until_the_limit() {
    let (served, mut pipeline) = (serve(false), Pipeline::new());
    let mut lines = served.tap("?limit=2&status=2xx");
    for number in 0..3 {
        pipeline.get(&served, &format!("/{number}?token=secret"));
    }
    let [first, second, end, none] = std::array::from_fn(|_| line(&mut lines));
    assert!(first.contains(r#""type":"exchange""#) && first.contains(r#""target":"/0""#), "{first}");
    assert!(second.contains(r#""target":"/1""#) && !second.contains("secret"), "{second}");
    assert_eq!((end.as_str(), none.as_str()), ("{\"type\":\"end\",\"reason\":\"limit\"}\n", ""));
    served.wait_readers(0);
}

#[test]
fn nobody_taps_by_the_address_and_bad_words_are_refused_with_good_ones() {
    let served = serve(false);
    assert!(served.get("/v1/tap", "").starts_with("HTTP/1.1 404"));
    for (parameters, word) in [
        ("?status=6xx", "5xx"),
        ("?protocol=smtp", "there are http1"),
        ("?limit=0", "a number from 1"),
        ("?colour=red", "there are workload"),
        ("?workload=a&workload=b", "twice"),
    ] {
        let answer = served.on_socket(&format!("GET /v1/tap{parameters}"));
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(word), "{parameters}: {answer}");
    }
    assert_eq!(served.board.taps.readers(), 0);
}

#[test]
fn a_fifth_reader_is_told_so_and_finds_room_when_one_has_left() {
    let served = serve_many(false, 16, Duration::from_secs(30));
    let mut readers: Vec<_> = (0..4).map(|_| served.tap("")).collect();
    let refused = served.on_socket("GET /v1/tap");
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("4 taps are open"), "{refused}");
    assert!(refused.contains("retry-after: 5"), "{refused}");
    readers.pop();
    served.wait_readers(3);
    drop(served.tap(""));
    served.wait_readers(3);
}

#[test]
fn a_tap_is_not_late_while_nothing_happens_and_ends_with_the_agent() {
    let (served, mut pipeline) = (serve_many(false, 16, Duration::from_millis(200)), Pipeline::new());
    let mut lines = served.tap("");
    std::thread::sleep(Duration::from_millis(600));
    pipeline.get(&served, "/late");
    assert!(line(&mut lines).contains("/late"));
    assert_eq!(served.board.doors.late.load(Ordering::Relaxed), 0);
    // As the agent does, one right after the other.
    served.board.draining.store(true, Ordering::Relaxed);
    served.stop.cancel();
    assert_eq!(line(&mut lines), "{\"type\":\"end\",\"reason\":\"stopping\"}\n");
    assert_eq!(line(&mut lines), "");
}
