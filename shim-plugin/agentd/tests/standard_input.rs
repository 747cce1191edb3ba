//! A capture that comes through a pipe, as `tcpdump -w -` writes it.
#![forbid(unsafe_code)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 2], 40_000);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 80);

/// Little-endian, microseconds, Ethernet.
fn header() -> Vec<u8> {
    [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A packet of a TCP connection over IPv4, at this millisecond. Checksums are zeros: nobody looks at them.
fn packet(at_ms: u32, from_client: bool, flags: u8, [seq, ack]: [u32; 2], payload: &[u8]) -> Vec<u8> {
    let (from, to) = if from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    let mut frame = vec![2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 0, 0x45, 0];
    frame.extend((40 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend([from.0, to.0].concat());
    frame.extend([from.1.to_be_bytes(), to.1.to_be_bytes()].concat());
    frame.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
    frame.extend([5 << 4, flags, 250, 0, 0, 0, 0, 0]);
    frame.extend(payload);
    let length = frame.len() as u32;
    let words = [at_ms / 1000, at_ms % 1000 * 1000, length, length];
    words.iter().flat_map(|word| word.to_le_bytes()).chain(frame).collect()
}

fn exchange() -> Vec<u8> {
    let (get, ok) =
        (&b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"[..], &b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..]);
    let asked = 11 + get.len() as u32;
    [
        packet(1, true, 2, [10, 0], b""),
        packet(2, false, 18, [20, 11], b""),
        packet(3, true, 16, [11, 21], get),
        packet(4, false, 16, [21, asked], ok),
    ]
    .concat()
}

fn replay() -> Child {
    Command::new(env!("CARGO_BIN_EXE_pilotfish"))
        .args(["replay", "-", "-o", "json", "--records"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("pilotfish")
}

fn said(child: &mut Child) -> String {
    let mut text = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
    text
}

/// Until it has read all that there was and waits for more, or for a signal: in `poll` (7), of aarch64 in `ppoll` (73).
fn wait_for_input(child: &Child) {
    let calls = format!("/proc/{}/task", child.id());
    let waits = |call: &str| call.starts_with("7 ") || call.starts_with("73 ");
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let threads = std::fs::read_dir(&calls).expect("it runs").flatten();
        if threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("syscall")).ok()).any(|it| waits(&it))
        {
            return;
        }
        assert!(Instant::now() < end, "it does not come to the end of its input");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_capture_is_read_from_standard_input_to_its_end_or_to_an_interrupt() {
    for interrupted in [false, true] {
        let mut child = replay();
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(&[header(), exchange()].concat()).expect("written");
        pipe.flush().expect("written");
        // Whoever writes goes on writing; who reads has had what there was.
        let held = interrupted.then_some(pipe);
        if interrupted {
            wait_for_input(&child);
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).expect("sent");
        }
        let text = said(&mut child);
        let status = child.wait().expect("ended");
        drop(held);
        assert_eq!(text.matches("\"http.response.status_code\":200").count(), 1, "{status}: {text}");
    }
}
