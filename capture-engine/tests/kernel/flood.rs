//! More SYNs in one namespace than the flow table has room for: the others lose nothing by it.

use crate::frames::{Bench, Seen, Tcp};
use capture_engine::event::Sample;
use capture_engine::kernel::KernelConfig;
use flow_model::Direction::{Egress, Ingress};
use flow_model::Slot;

const FLOWS: u32 = 2048;
const SHARE: u64 = 32;

fn bench() -> Bench {
    Bench::new(&KernelConfig { ring_bytes: 1 << 20, flows: FLOWS, head_bytes: 16, ..Default::default() })
}

fn flows(bench: &Bench) -> Vec<Sample> {
    let mut sampler = bench.kernel.sampler();
    let mut flows = Vec::new();
    loop {
        let page = sampler.turn(256).expect("a turn");
        flows.extend(page.samples());
        if page.last {
            return flows;
        }
    }
}

/// Whole connections; returns how many of their requests and responses were told.
fn talk(bench: &mut Bench, ports: std::ops::Range<u16>) -> (usize, usize) {
    for peer_port in ports {
        let flow = Tcp { bench, peer_port };
        flow.handshake();
        flow.request(1000, b"ask");
        flow.response(1000, b"answer");
    }
    let seen = bench.drain();
    let of = |dir| seen.iter().filter_map(Seen::segment).filter(|segment| segment.dir == dir).count();
    (of(Ingress), of(Egress))
}

#[test]
fn a_flood_of_syns_in_one_namespace_costs_the_others_nothing() {
    let mut bench = bench();
    for peer_port in 1..=3 * FLOWS as u16 {
        let flow = Tcp { bench: &mut bench, peer_port };
        flow.send(Ingress, 999, "S", b"");
        flow.send(Egress, 999, "SA", b"");
    }
    let stats = bench.kernel.stats().expect("stats");
    assert_eq!((stats.flows_full, stats.opening_full), (0, u64::from(3 * FLOWS) - SHARE));
    for slot in [8, 9, 1 << 31] {
        bench.go_to(Slot(slot));
        assert_eq!(talk(&mut bench, 20_000..20_300), (300, 300), "in {slot}");
    }
    assert!(flows(&bench).iter().filter(|flow| flow.key.slot != Slot(7)).all(|flow| !flow.joined_midway));
    // Nor are exchanges lost where the flood is: a connection is followed from its first payload on.
    bench.go_to(Slot(7));
    assert_eq!(talk(&mut bench, 20_000..20_300), (300, 300));
    assert_eq!(flows(&bench).iter().filter(|flow| flow.joined_midway).count(), 300);
}

#[test]
fn a_scan_that_is_refused_costs_the_others_nothing() {
    let mut bench = bench();
    for peer_port in 1..=3 * FLOWS as u16 {
        let flow = Tcp { bench: &mut bench, peer_port };
        flow.send(Ingress, 999, "S", b"");
        flow.send(Egress, 0, "RA", b"");
        flow.bench.drain();
    }
    assert_eq!(bench.kernel.stats().expect("stats").flows_full, 0);
    bench.go_to(Slot(8));
    assert_eq!(talk(&mut bench, 20_000..20_300), (300, 300));
}

#[test]
fn what_was_answered_or_removed_takes_no_share() {
    let mut bench = bench();
    // Many connections, of which few are half open at any time.
    assert_eq!(talk(&mut bench, 1..1000), (999, 999));
    assert_eq!(bench.kernel.stats().expect("stats").opening_full, 0);
    for round in 0..3 {
        for peer_port in 30_000..30_000 + SHARE as u16 + 5 {
            Tcp { bench: &mut bench, peer_port }.send(Ingress, 999, "S", b"");
        }
        assert_eq!(bench.kernel.stats().expect("stats").opening_full, 5 * (round + 1), "round {round}");
        let half_open: Vec<_> = flows(&bench).iter().filter(|flow| !flow.established).map(|flow| flow.key).collect();
        assert_eq!(half_open.len() as u64, SHARE);
        bench.kernel.sampler().remove(&half_open).expect("removed");
        assert_eq!(flows(&bench).len(), 999, "a round finds that they are gone");
    }
}
