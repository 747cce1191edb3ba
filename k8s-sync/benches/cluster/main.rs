//! What the table of a large cluster takes, and what a name of it costs. `cargo bench -p k8s-sync --bench cluster`
#![allow(clippy::print_stdout)]

mod cluster;
mod sys;

use cluster::{LARGE, Size, address, moment, service_address};
use flow_model::{Endpoint, Ts};
use k8s_sync::cluster::object::{Change, Object, Pod, Resource};
use k8s_sync::cluster::{Cluster, Limits};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: sys::Counting = sys::Counting::new();

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Time that this thread was on a CPU: others may use the machine, too (proc_pid_schedstat(5), nanoseconds).
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn each(what: &str, rounds: u32, mut run: impl FnMut(u32)) {
    let start = on_cpu();
    (0..rounds).for_each(&mut run);
    println!("{what}: {:.0} ns", (on_cpu() - start).as_nanos() as f64 / f64::from(rounds));
}

fn main() {
    let pods = LARGE.pods;
    println!("{pods} pods, {} services with as many slices, {} nodes, 1,000 Jobs", LARGE.services, LARGE.nodes);
    let before = ALLOCATOR.live();
    let mut cluster = Cluster::new(Limits::default());
    println!("empty table: {:.2} MiB", mib(ALLOCATOR.live() - before));
    ALLOCATOR.forget_peak();
    let start = on_cpu();
    LARGE.list(&mut cluster, 10_000);
    let table = ALLOCATOR.live() - before;
    println!("first lists: {:.2} s", (on_cpu() - start).as_secs_f64());
    println!("table: {:.1} MiB, {} bytes per pod", mib(table), table / pods as usize);
    println!("peak of the first lists: +{:.2} MiB", mib(ALLOCATOR.peak() - before - table));

    ALLOCATOR.forget_peak();
    let version = cluster.names().version();
    let start = on_cpu();
    LARGE.list(&mut cluster, 10_100);
    println!(
        "lists again: {:.2} s, version moved by {}",
        (on_cpu() - start).as_secs_f64(),
        cluster.names().version() - version
    );
    println!("their peak: +{:.2} MiB", mib(ALLOCATOR.peak() - before - table));

    let names = cluster.names();
    let at = Ts(moment(10_200).mono.0);
    let scattered = |i: u32| i.wrapping_mul(2_654_435_761) % pods;
    each("holder, a pod", 2_000_000, |i| {
        drop(black_box(names.holder(Endpoint { ip: address(scattered(i)), port: 8080 }, at)));
    });
    each("holder, one of 2,000 pods", 2_000_000, |i| {
        drop(black_box(names.holder(Endpoint { ip: address(scattered(i) % 2_000), port: 8080 }, at)));
    });
    each("holder, a Service's address", 2_000_000, |i| {
        let ip = service_address(scattered(i) % LARGE.services);
        drop(black_box(names.holder(Endpoint { ip, port: 80 }, at)));
    });
    each("holder, nobody", 2_000_000, |i| {
        drop(black_box(names.holder(Endpoint { ip: (0x0800_0000 + i).to_be_bytes().into(), port: 80 }, at)));
    });
    each("service of a pod's port", 2_000_000, |i| {
        drop(black_box(names.service(Endpoint { ip: address(scattered(i)), port: 8080 }, at)));
    });
    let uids: Vec<_> = (0..pods).map(|n| LARGE.pod(n).uid).collect();
    each("pod by uid", 2_000_000, |i| drop(black_box(names.pod(uids[scattered(i) as usize]))));
    each("version", 2_000_000, |_| {
        black_box(names.version());
    });

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let node = Some(format!("node-{}", n % 7));
                let pod = Pod { node, ..LARGE.pod(n % pods) };
                cluster.apply(Change::Applied(Object::Pod(pod)), moment(10_200));
                n += 1;
            }
            println!("  (pods changed meanwhile: {n})");
        });
        each("holder, a pod, while others change", 2_000_000, |i| {
            drop(black_box(names.holder(Endpoint { ip: address(scattered(i)), port: 8080 }, at)));
        });
        stop.store(true, Ordering::Relaxed);
    });

    let changed = (0..10_000).map(|n| Pod { ended: true, ..LARGE.pod(n) });
    let changed: Vec<_> = changed.map(|pod| Change::Applied(Object::Pod(pod))).collect();
    let start = on_cpu();
    let count = changed.len();
    changed.into_iter().for_each(|change| cluster.apply(change, moment(10_300)));
    println!("a pod's change: {:.1} us", (on_cpu() - start).as_micros() as f64 / count as f64);

    let mut file = Vec::new();
    let start = on_cpu();
    cluster.save(&mut file).unwrap_or_else(|error| println!("save: {error}"));
    println!("snapshot: {:.1} MiB, saved in {:.0} ms", mib(file.len()), (on_cpu() - start).as_secs_f64() * 1e3);
    let start = on_cpu();
    match Cluster::load(Limits::default(), &file[..], moment(10_400)) {
        Ok(loaded) => {
            println!("loaded in {:.2} s: {} pods", (on_cpu() - start).as_secs_f64(), loaded.objects(Resource::Pods))
        }
        Err(error) => println!("load: {error}"),
    }

    let before = ALLOCATOR.live();
    let mut cluster = Cluster::new(Limits::default());
    Size { dual: true, ..LARGE }.list(&mut cluster, 10_000);
    println!("with both families of addresses: {:.1} MiB", mib(ALLOCATOR.live() - before));
}
