mod tap;

use super::*;
use crate::serve::board::Kernel;
use crate::serve::traffic::Traffic;
use agent_api::{Namespace, Version};
use flate2::read::GzDecoder;
use golden_metrics::SelfMetric;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

struct Served {
    board: Arc<Board>,
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    _file: SocketFile,
    directory: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

fn serve(debug: bool) -> Served {
    serve_many(debug, 4, Duration::from_secs(30))
}

fn serve_many(debug: bool, connections: usize, answer_time: Duration) -> Served {
    let directory = tempfile::tempdir().expect("temporary directory");
    let address = bind_address("127.0.0.1:0".parse().expect("address"), Duration::ZERO).expect("bind");
    let local = address.local_addr().expect("bound");
    let (socket, file) = bind_socket(&directory.path().join("a.sock")).expect("bind");
    let board = Arc::new(Board::new(Version::default(), Traffic::silent(), Instant::now()));
    *board.kernel.lock() = Kernel::Loaded;
    let stop = CancellationToken::new();
    let admin = Admin { address, socket, connections, answer_time, debug, lookup: Arc::default() };
    let thread = admin.spawn(board.clone(), stop.clone(), &Ends::channel().0).expect("spawn");
    Served { board, address: local, stop, thread: Some(thread), _file: file, directory }
}

impl Served {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
        stream
    }

    fn get(&self, path: &str, fields: &str) -> String {
        exchange(self.connect(), &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n"))
    }

    fn on_socket(&self, request: &str) -> String {
        let stream = std::os::unix::net::UnixStream::connect(self.directory.path().join("a.sock")).expect("connect");
        exchange(stream, &format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn pages_answer_what_the_board_says() {
    let served = serve(false);
    assert!(served.get("/livez", "").starts_with("HTTP/1.1 200"));
    let text = served.get("/metrics", "");
    assert!(text.contains("text/plain; version=0.0.4") && text.contains("\npilotfish_ready 1\n"), "{text}");
    let open = served.get("/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n");
    assert!(open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{open}");
    let families = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let protobuf = served.get("/metrics", &format!("Accept: {families}\r\n"));
    assert!(protobuf.contains("encoding=delimited") && protobuf.contains("pilotfish_build_info"), "{protobuf}");
    served.board.containerd.lock().detail = "no socket yet".to_owned();
    let ready = served.get("/readyz", "");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("no socket yet"), "{ready}");
    *served.board.kernel.lock() = Kernel::Loading;
    assert!(served.get("/readyz", "").starts_with("HTTP/1.1 503"));
    assert!(served.get("/nothing", "").starts_with("HTTP/1.1 404"));
}

#[test]
fn the_command_lines_pages_are_on_the_socket_only() {
    let served = serve(false);
    assert!(served.get("/v1/status", "").starts_with("HTTP/1.1 404"));
    assert!(served.on_socket("GET /v1/status").starts_with("HTTP/1.1 200"));
    assert!(served.on_socket("GET /v1/edges").ends_with("[]"));
    assert!(served.on_socket("POST /debug/pause?ms=5").starts_with("HTTP/1.1 404"), "not enabled");
}

#[test]
fn the_reader_is_paused_only_where_debugging_is_enabled() {
    let served = serve(true);
    assert!(served.get("/debug/pause?ms=5", "").starts_with("HTTP/1.1 404"), "never on the address");
    assert!(served.on_socket("POST /debug/pause?ms=5").starts_with("HTTP/1.1 202"));
    assert_eq!(served.board.take_pause(), Some(Duration::from_millis(5)));
    assert!(served.on_socket("POST /debug/pause?ms=x").starts_with("HTTP/1.1 400"));
}

#[test]
fn garbage_and_silence_keep_nobody_out() {
    let served = serve(false);
    // More silent connections than are served at once: the oldest make room.
    let silent: Vec<TcpStream> = (0..12).map(|_| served.connect()).collect();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        &[0; 9000],
        &[b'A'; 20_000],
        b"GET / HTTP/1.1\r\n\r\r\r\n",
    ] {
        let mut stream = served.connect();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(served.get("/livez", "").starts_with("HTTP/1.1 200"));
    assert!(served.board.doors.evicted.load(Ordering::Relaxed) >= 8);
    drop(silent);
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    let served = serve(false);
    let mut slow = served.connect();
    slow.write_all(b"GET /livez HTTP/1.1\r\nX: ").expect("write");
    // Ends by the server's clock: its answer or its close is what is waited for.
    let mut answer = Vec::new();
    let _ = slow.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn a_request_of_its_own_is_refused_and_one_of_another_agent_is_not() {
    let served = serve(false);
    let own = format!("X-Pilotfish-Instance: {}\r\n", served.board.instance);
    assert!(served.get("/api/v1/pods", &own).starts_with("HTTP/1.1 508"));
    assert!(served.get("/livez", &own).starts_with("HTTP/1.1 508"));
    assert!(served.get("/livez", "X-Pilotfish-Instance: 0\r\n").starts_with("HTTP/1.1 200"));
}

#[test]
fn who_has_an_address_is_not_known_before_there_is_traffic_to_name() {
    let served = serve(false);
    assert!(served.on_socket("GET /v1/identity?ip=10.0.0.1").starts_with("HTTP/1.1 503"));
    assert!(served.on_socket("GET /v1/identity?ip=ten").starts_with("HTTP/1.1 400"));
    assert!(served.get("/v1/identity?ip=10.0.0.1", "").starts_with("HTTP/1.1 404"), "not on the address");
}

/// Rows whose names compress little: 100 bytes each, most of them random.
fn names(count: usize) -> impl Iterator<Item = String> {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new();
    (0..count).map(move |i| (0..6).map(|part| format!("{:016x}", random.hash_one((i, part)))).collect())
}

/// `/metrics` and `/v1/status` of some 4 MB.
fn serve_large(answer_time: Duration) -> Served {
    let served = serve_many(false, 64, answer_time);
    let metric = |name| SelfMetric::gauge("pilotfish_test", "Many.", 1.0).with("name", name);
    *served.board.counted.lock() = Arc::new(names(30_000).map(metric).collect());
    let namespace = |name| Namespace { workload: name, ..Namespace::default() };
    *served.board.namespaces.lock() = Arc::new(names(15_000).map(namespace).collect());
    served
}

/// A reader that has the answer's head, and takes no more than a byte now and then.
fn slow<S: Read + Write>(mut stream: S, request: &str) -> S {
    stream.write_all(request.as_bytes()).expect("write");
    let mut beginning = [0; 64];
    stream.read_exact(&mut beginning).expect("an answer");
    assert!(beginning.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&beginning));
    stream
}

fn body(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    &answer[end + 4..]
}

#[test]
fn slow_readers_of_metrics_hold_less_than_a_page_together_and_keep_nobody_out() {
    let served = serve_large(Duration::from_secs(60));
    let page = served.get("/metrics", "").len();
    assert!(page > 3 << 20);
    let accepts = ["text/plain", "application/openmetrics-text", "*/*;q=0"];
    let mut readers = Vec::new();
    for round in 0..3 {
        for accept in accepts {
            let stream = served.connect();
            setsockopt(&stream, sockopt::RcvBuf, &4096).expect("a small buffer");
            let gzip = if round % 2 == 0 { "gzip" } else { "identity" };
            // Each of them has the page of another second or format: what a page a reader would keep.
            let fields = format!("Accept: {accept}\r\nAccept-Encoding: {gzip}\r\nCache-Control: no-cache\r\n");
            readers.push(slow(stream, &format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{fields}\r\n")));
            readers.iter_mut().for_each(|reader| drop(reader.read(&mut [0; 1])));
            let held = served.board.shelf.bytes();
            assert!(held <= page + readers.len() * (64 << 10), "{held} bytes for {} readers", readers.len());
        }
    }
    let whole = served.get("/metrics", "Cache-Control: no-cache\r\n");
    assert!(whole.len() >= page && whole.contains("\npilotfish_test{"), "{} bytes", whole.len());
    assert!(whole.contains("pilotfish_admin_page_bytes "), "what they hold is shown");
}

#[test]
fn slow_readers_of_rows_share_the_same_room() {
    let served = serve_large(Duration::from_secs(60));
    let page = served.on_socket("GET /v1/status").len();
    let mut readers = Vec::new();
    for _ in 0..8 {
        let path = served.directory.path().join("a.sock");
        let stream = std::os::unix::net::UnixStream::connect(path).expect("connect");
        readers.push(slow(stream, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"));
        let held = served.board.shelf.bytes();
        assert!(held <= page + readers.len() * (64 << 10), "{held} bytes for {} readers", readers.len());
    }
    // The pages of the first had to go: they are told, not left with half an answer.
    let mut rest = Vec::new();
    let _ = readers.remove(0).read_to_end(&mut rest);
    assert!(rest.len() < page && served.board.shelf.gone.load(Ordering::Relaxed) > 0);
    let whole = served.on_socket("GET /v1/status");
    let parsed: agent_api::Status = serde_json::from_slice(body(whole.as_bytes())).expect("JSON");
    assert_eq!(parsed.namespaces.len(), 15_000);
}

#[test]
fn a_page_is_sent_as_gzip_to_who_asks_for_it() {
    let served = serve(false);
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: gzip\r\n\r\n";
    let mut stream = served.connect();
    stream.write_all(request.as_bytes()).expect("write");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let head = String::from_utf8_lossy(&answer).into_owned();
    assert!(head.contains("\r\ncontent-encoding: gzip\r\n") && head.contains("\r\nvary: accept, accept-encoding\r\n"));
    let mut page = String::new();
    GzDecoder::new(body(&answer)).read_to_string(&mut page).expect("gzip");
    assert!(page.contains("\npilotfish_ready 1\n"), "{page}");
    let plain = served.get("/metrics", "");
    assert!(plain.contains("\r\ncontent-length: ") && !plain.contains("content-encoding"));
}

#[test]
fn a_reader_of_a_byte_now_and_then_is_cut_off_when_its_time_is_over() {
    let served = serve_large(Duration::from_secs(2));
    let stream = served.connect();
    setsockopt(&stream, sockopt::RcvBuf, &4096).expect("a small buffer");
    let mut reader = slow(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    // By the server's clock; each byte that is read would put off a deadline for each write.
    while served.board.doors.late.load(Ordering::Relaxed) == 0 {
        let _ = reader.read(&mut [0; 1]);
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest);
    assert!(rest.len() < 3 << 20);
}
