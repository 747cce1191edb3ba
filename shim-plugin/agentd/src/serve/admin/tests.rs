use super::*;
use crate::serve::board::Kernel;
use crate::serve::traffic::Traffic;
use agent_api::Version;
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
    let directory = tempfile::tempdir().expect("temporary directory");
    let address = bind_address("127.0.0.1:0".parse().expect("address")).expect("bind");
    let local = address.local_addr().expect("bound");
    let (socket, file) = bind_socket(&directory.path().join("a.sock")).expect("bind");
    let board = Arc::new(Board::new(Version::default(), Traffic::silent(), Instant::now()));
    *board.kernel.lock() = Kernel::Loaded;
    let stop = CancellationToken::new();
    let admin = Admin { address, socket, connections: 4, debug, lookup: Arc::default() };
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
    assert!(served.board.evicted.load(Ordering::Relaxed) >= 8);
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
