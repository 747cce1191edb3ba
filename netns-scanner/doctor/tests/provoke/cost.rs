//! What a look costs on a full node.

use crate::room::Room;
use doctor::node::{NodeFile, NodeReading, NodeText, NodeWatch};
use doctor::{Asked, Thresholds, examine};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

const NAMESPACES: usize = 200;
/// Both ends of each are there: 20,000 sockets in all.
const CONNECTIONS: &str = "50";

/// `cargo test -p doctor --test provoke -- --ignored --nocapture cost`
#[test]
#[ignore = "a measurement"]
fn a_look_at_200_namespaces_and_20_000_sockets() {
    let rooms: Vec<Room> = (0..NAMESPACES).map(|_| Room::new("connects", "true", CONNECTIONS)).collect();
    let only: BTreeSet<u64> = rooms.iter().map(|room| room.ino).collect();
    let (began, used) = (Instant::now(), cpu());
    let api_server = Ok(crate::api::knows_api_server());
    let thresholds = Thresholds { clock_error: Duration::MAX, ..Thresholds::default() };
    let report = examine(&Asked {
        only: Some(only),
        api_server,
        thresholds,
        drops: Some(crate::drops::begin),
        ..Asked::default()
    });
    let (took, used) = (began.elapsed(), cpu() - used);
    eprintln!("{used:.2} s of processor time in {:.1} s: {:?}", took.as_secs_f64(), report.looked);
    assert_eq!((report.findings, report.not_made), (vec![], vec![]));
    assert!(report.looked.sockets >= NAMESPACES * 100 && report.looked.left_out.is_empty(), "{:?}", report.looked);
    assert!(used <= 2.0 && took.as_secs_f64() <= 10.0, "{used} s, {took:?}");
}

/// `cargo test -p doctor --test provoke -- --ignored --nocapture cheap`
#[test]
#[ignore = "a measurement"]
fn a_cheap_look_at_the_files_of_the_node() {
    const LOOKS: u32 = 1000;
    /// Of a core: 0.02 % of the 30 s between two looks.
    const BOUND: f64 = 0.000_2 * 30.0;
    let (proc, cgroups) = (Path::new("/proc"), Path::new("/sys/fs/cgroup"));
    let read = |file: NodeFile| {
        let text = match std::fs::read_to_string(file.path(proc, cgroups)) {
            Ok(text) => NodeText::There(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => NodeText::Absent,
            Err(_) => NodeText::Unread,
        };
        (file, text)
    };
    let (mut watch, thresholds, used) = (NodeWatch::default(), Thresholds::default(), cpu());
    for second in 0..u64::from(LOOKS) {
        let reading = NodeReading::of(NodeFile::ALL.into_iter().map(read).collect());
        let look = watch.look(&reading, flow_model::Ts(second * 1_000_000_000), &thresholds);
        assert_eq!(look.not_made, [], "all of them can be read");
    }
    let each = (cpu() - used) / f64::from(LOOKS);
    eprintln!("{:.0} us of processor time: {:.5} % of a core every 30 s", each * 1e6, each / 30.0 * 100.0);
    assert!(each <= BOUND, "{each} s");
}

/// Seconds of processor time of this process.
fn cpu() -> f64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock");
    Duration::from(time).as_secs_f64()
}
