//! A namespace of its own in which a process does what a test wants, and a look into it alone.

use doctor::{Asked, CheckId, Finding, Report, Thresholds, examine};
use netns::Netns;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// What a finding may take on a machine that does other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process in a namespace of its own that plays a role of this test program. Gone when dropped.
pub struct Room {
    pub holder: Child,
    said: BufReader<ChildStdout>,
    pub ino: u64,
}

impl Room {
    /// Runs `before` as a shell does, in the new namespace, with loopback up, and then plays the
    /// role up to where it says that it is ready.
    pub fn new(role: &str, before: &str, load: &str) -> Room {
        let mut room = Room::begun(role, before, load);
        room.hears("ready");
        room
    }

    /// The same as far as the role's process is there.
    pub fn begun(role: &str, before: &str, load: &str) -> Room {
        assert!(nix::unistd::Uid::effective().is_root(), "this test makes network namespaces: run it as root");
        let program = std::env::current_exe().expect("this program");
        let script = format!(
            "ip link set lo up && {before} && echo here && exec {} --ignored --exact roles::{role} --nocapture",
            program.display()
        );
        Room::started(Command::new("unshare").args(["--net", "sh", "-c", &script]), load)
    }

    /// One more process in the same namespace, up to where it is ready.
    pub fn another(&self, role: &str, load: &str) -> Room {
        let program = std::env::current_exe().expect("this program");
        let script = format!("echo here && exec {} --ignored --exact roles::{role} --nocapture", program.display());
        let pid = self.holder.id().to_string();
        let mut room = Room::started(Command::new("nsenter").args(["--net", "-t", &pid, "sh", "-c", &script]), load);
        room.hears("ready");
        room
    }

    fn started(command: &mut Command, load: &str) -> Room {
        let mut holder = command
            .env("LOAD", load)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare and ip are installed (scripts/setup.sh --test)");
        let said = BufReader::new(holder.stdout.take().expect("piped"));
        let mut room = Room { holder, said, ino: 0 };
        room.hears("here");
        room.ino = Netns::open_pid(room.holder.id()).expect("open its namespace").id().ino;
        room
    }

    /// Reads on to the line that ends with this word: the harness says things of its own.
    pub fn hears(&mut self, word: &str) {
        let mut line = String::new();
        while !line.trim_end().ends_with(word) {
            line.clear();
            let read = self.said.read_line(&mut line).expect("the role speaks");
            assert!(read > 0, "the role ended before it said {word:?}");
        }
    }

    /// Says a line to the role.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.holder.stdin.as_mut().expect("piped");
        writeln!(stdin, "{line}").expect("the role listens");
    }

    /// Looks into this namespace alone, for one check.
    pub fn look(&self, check: CheckId, thresholds: Thresholds) -> Report {
        let only = Some(BTreeSet::from([self.ino]));
        let api_server = Ok(crate::api::knows_api_server());
        let drops = Some(crate::drops::begin as doctor::drops::BeginsToCount);
        examine(&Asked { checks: vec![check], only, thresholds, api_server, drops, ..Asked::default() })
    }

    /// The only finding, once what is done here was done often enough: beside other work a process may
    /// hardly run within a window.
    pub fn comes_to(
        &self,
        check: CheckId,
        thresholds: impl Fn() -> Thresholds,
        holds: impl Fn(&Finding) -> bool,
    ) -> Finding {
        let until = Instant::now() + PATIENCE;
        loop {
            let report = self.look(check, thresholds());
            assert!(report.findings.len() <= 1 && report.not_made.is_empty(), "{report:?}");
            match report.findings.first() {
                Some(found) if holds(found) => return found.clone(),
                _ => assert!(Instant::now() < until, "never found: {report:?}"),
            }
        }
    }

    /// The only finding.
    pub fn finds(&self, check: CheckId, thresholds: Thresholds) -> Finding {
        let report = self.look(check, thresholds);
        assert_eq!((report.fine.len(), &report.not_made), (0, &vec![]), "{report:?}");
        assert_eq!(report.findings.len(), 1, "{report:?}");
        report.findings.into_iter().next().expect("one")
    }

    /// Nothing, and everything was looked at.
    pub fn finds_nothing(&self, check: CheckId, thresholds: Thresholds) {
        let report = self.look(check, thresholds);
        assert_eq!((&report.findings, &report.not_made), (&vec![], &vec![]), "{report:?}");
        assert_eq!(report.fine, [check]);
        assert_eq!(report.looked.namespaces, 1, "{report:?}");
        assert_eq!(report.looked.left_out, [].into(), "{report:?}");
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A window that is long enough for a load that goes on all the time.
pub fn brief() -> Thresholds {
    // Whether somebody keeps this machine's clock right is no matter of these tests, but for one.
    let clock_error = Duration::MAX;
    Thresholds { window: Duration::from_millis(500), clock_error, ..Thresholds::default() }
}

/// A figure of the evidence as a number.
pub fn number(finding: &Finding, name: &str) -> f64 {
    match finding.evidence.get(name) {
        Some(doctor::Figure::Count(count)) => *count as f64,
        Some(doctor::Figure::Number(number)) => *number,
        other => panic!("{name} is {other:?} in {finding:?}"),
    }
}

/// Runs a command to its end.
pub fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).status().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(done.success(), "{program} {}", args.join(" "));
}
