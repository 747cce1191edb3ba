//! What a look costs on a full node.

use crate::room::Room;
use doctor::{Asked, examine};
use std::collections::BTreeSet;
use std::time::Instant;

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
    let report = examine(&Asked { only: Some(only), api_server, ..Asked::default() });
    let (took, used) = (began.elapsed(), cpu() - used);
    eprintln!("{used:.2} s of processor time in {:.1} s: {:?}", took.as_secs_f64(), report.looked);
    assert_eq!((report.findings, report.not_made), (vec![], vec![]));
    assert!(report.looked.sockets >= NAMESPACES * 100 && report.looked.left_out.is_empty(), "{:?}", report.looked);
    assert!(used <= 2.0 && took.as_secs_f64() <= 10.0, "{used} s, {took:?}");
}

/// Seconds of processor time of this process.
fn cpu() -> f64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock");
    std::time::Duration::from(time).as_secs_f64()
}
