//! A real program in Go, whose listeners are MPTCP's unless it says otherwise (main modules of go
//! 1.24 and later). By command, since it needs Go:
//! `cargo test -p netns-scanner --features go --test scan`.

use crate::listeners::{both_ends_of, each_source, roles};
use crate::room::{Line, Room};
use netns_scanner::SocketState;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAM: &str = include_str!("go/main.go");
/// IPPROTO_MPTCP.
const MPTCP: &str = "262";

fn build(directory: &Path) -> PathBuf {
    std::fs::write(directory.join("main.go"), PROGRAM).expect("write");
    std::fs::write(directory.join("go.mod"), "module listens\n\ngo 1.24\n").expect("write");
    let path = format!("{}:/usr/local/go/bin", std::env::var("PATH").unwrap_or_default());
    let mut go = Command::new("sh");
    // The machine's settings may say another default.
    go.args(["-c", "exec go build -o listens ."]).current_dir(directory).env("PATH", path);
    let built = go.env("GODEBUG", "").env("GOFLAGS", "").env("GOWORK", "off").env("CGO_ENABLED", "0").status();
    assert!(built.expect("sh").success(), "Go 1.24 or later is needed (scripts/setup.sh --k8s)");
    directory.join("listens")
}

#[test]
fn each_source_finds_what_a_program_in_go_listens_on_and_tells_server_from_client() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = build(directory.path());
    let room = Room::new();
    let net = format!("--net=/proc/{}/ns/net", room.holder.id());
    let mut running = Command::new("nsenter");
    running.arg(net).arg(program).env("GODEBUG", "").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = running.spawn().expect("nsenter (util-linux) starts");
    let told = BufReader::new(running.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let (mut listening, mut expected) = (0, BTreeSet::<Line>::new());
    for line in told.take_while(|line| line != "over") {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["listens", protocol] => {
                assert_eq!(protocol, MPTCP, "the premise");
                listening += 1;
            }
            ["connected", near, far] => {
                let end = |text: &str| text.parse().expect("an address");
                expected.extend(both_ends_of(end(near), end(far)));
            }
            _ => panic!("{line}"),
        }
    }
    let found = each_source(&room);
    // It is over when its input is.
    drop(running.stdin.take());
    assert!(running.wait().expect("it ends").success());
    assert_eq!((listening, expected.len()), (3, 8));
    for (source, found) in &found {
        assert_eq!(roles(found), expected, "{source}");
        let listeners = found.iter().filter(|socket| socket.state == SocketState::Listening).count();
        assert_eq!(listeners, 3, "{source}");
    }
    assert!(found[0].1.iter().all(|socket| socket.pid == running.id()), "the iterator names its process");
}
