//! Files of `/proc` that hang: nothing waits for them. Needs root.
#![forbid(unsafe_code)]

use nix::sys::stat::Mode;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// For whatever is waited for; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The first address that the log names as listened on.
fn listening(log: &Path) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        if let Some((_, rest)) = text.split_once("listen=") {
            return rest.split_whitespace().next().unwrap_or_default().to_owned();
        }
        assert!(Instant::now() < until, "the agent never listened:\n{text}");
        std::thread::yield_now();
    }
}

fn value(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn a_file_that_hangs_is_read_once_told_as_late_and_delays_no_page() {
    let dir = tempfile::Builder::new().prefix("pfs").tempdir().expect("temporary directory");
    let proc = dir.path().join("proc/self");
    fs::create_dir_all(proc.join("fd")).expect("directory");
    // Opening a FIFO that nobody writes to hangs like a file system that does not answer.
    nix::unistd::mkfifo(&proc.join("status"), Mode::S_IRWXU).expect("FIFO");
    let config = dir.path().join("agent.toml");
    let text = format!(
        "[containerd]\nsockets = [{:?}]\n[admin]\nlisten = \"127.0.0.1:0\"\nsocket = {:?}\n[log]\nformat = \"text\"\n[debug]\nproc = {:?}\n",
        dir.path().join("containerd.sock"),
        dir.path().join("agent.sock"),
        dir.path().join("proc"),
    );
    fs::write(&config, text).expect("write");
    let log = dir.path().join("log");
    let agent = Command::new(env!("CARGO_BIN_EXE_pilotfish"))
        .args(["agent", "--config"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("log"))
        .spawn()
        .expect("starts");
    let agent = Agent(agent);
    let address = listening(&log);
    let until = Instant::now() + PATIENCE;
    let metrics = loop {
        // Each of these pages is answered while the read hangs; with one that waited for it, this
        // loop would end in the assertion.
        let metrics = get(&address, "/metrics").expect("answers");
        assert!(get(&address, "/livez").expect("answers").contains("200 OK"));
        if value(&metrics, "pilotfish_late_reads_total{file=\"process\"}").is_some_and(|late| late >= 1.0) {
            break metrics;
        }
        assert!(Instant::now() < until, "the late read was never told:\n{metrics}");
        std::thread::yield_now();
    };
    assert_eq!(value(&metrics, "pilotfish_stale_files"), Some(1.0));
    assert!(value(&metrics, "process_cpu_seconds_total").is_some_and(|cpu| cpu > 0.0), "what needs no file is fresh");
    let hanging = || {
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let parent = format!("PPid:\t{}\n", agent.0.id());
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        let readers = all.filter(|process| text(&process.path().join("status")).contains(&parent));
        let tasks = readers.flat_map(|reader| fs::read_dir(reader.path().join("task")).into_iter().flatten().flatten());
        // Threads that wait for work are in another call than this.
        let opens = format!("{} ", libc::SYS_openat);
        tasks.filter(|task| text(&task.path().join("syscall")).starts_with(&opens)).count()
    };
    // Reads that end are in it as well, for a moment.
    let until = Instant::now() + PATIENCE;
    while hanging() != 1 {
        assert!(Instant::now() < until, "one read in flight, not {}", hanging());
        std::thread::yield_now();
    }
    let status = Command::new(env!("CARGO_BIN_EXE_pilotfish"))
        .args(["status", "--socket"])
        .arg(dir.path().join("agent.sock"))
        .output()
        .expect("runs");
    assert!(String::from_utf8_lossy(&status.stdout).contains("late, shown as they were: "), "{status:?}");
}
