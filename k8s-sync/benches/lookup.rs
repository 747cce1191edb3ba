//! What a name costs to ask for, and an address to bind. `cargo bench -p k8s-sync`
#![allow(clippy::print_stdout)]

use flow_model::{Endpoint, Names, Slot, Ts, Workload, WorkloadKind};
use k8s_sync::{Address, Addresses, IdentityIndex, Limits};
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

const ADDRESSES: u32 = 100_000;

fn ip(i: u32) -> IpAddr {
    (0x0a00_0000 + i % ADDRESSES).to_be_bytes().into()
}

fn each(what: &str, rounds: u32, mut run: impl FnMut(u32)) {
    let start = Instant::now();
    (0..rounds).for_each(&mut run);
    println!("{what}: {:.1} ns", start.elapsed().as_nanos() as f64 / f64::from(rounds));
}

fn main() {
    let mut index = IdentityIndex::new(Limits::default());
    let mut reader = index.reader(Addresses::ByClass);
    let pod = Arc::new(Workload {
        namespace: "shop".into(),
        name: "web".into(),
        kind: WorkloadKind::Deployment,
        pod: "web-1".into(),
    });
    let mut bindings = Vec::new();
    each("bind, table growing to 100,000 addresses", ADDRESSES, |i| {
        bindings.push(index.bind(Address::ip(ip(i)), pod.clone(), Ts(1)))
    });
    let at = |i: u32| Endpoint { ip: ip(i.wrapping_mul(2_654_435_761)), port: 80 };
    each("remote, known", 1_000_000, |i| drop(black_box(reader.remote(Slot(1), at(i), Ts(5)))));
    each("remote, class of address", 1_000_000, |i| drop(black_box(reader.remote(Slot(1), at(i), Ts(0)))));
    each("dns answer, new name", 500, |i| {
        reader.dns_answer(Slot(1), &format!("{i}.example"), &[[8, 8, (i >> 8) as u8, i as u8].into()], 60, Ts(1))
    });
    each("dns answer, known name", 1_000_000, |_| {
        reader.dns_answer(Slot(1), "7.example", &[[8, 8, 0, 7].into()], 60, Ts(1))
    });
    each("version", 1_000_000, |_| {
        black_box(reader.version());
    });
    each("release at 100,000 addresses", 1_000, |_| {
        if let Some(binding) = bindings.pop() {
            index.release(binding, Ts(9));
        }
    });
}
