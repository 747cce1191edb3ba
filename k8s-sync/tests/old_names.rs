//! Names that an older agent has kept are there at once after an upgrade.

use flow_model::{Endpoint, Identity, Ts, Workload};
use k8s_sync::access::Sources;
use k8s_sync::cluster::object::{Resource, Uid};
use k8s_sync::cluster::{ClusterNames, Limits, Moment};
use k8s_sync::watch::{Config, start};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

const NOW: Ts = Ts(3_600_000_000_000);

/// A day after the file was written, on a machine that was started an hour ago.
fn clock() -> Moment {
    Moment { mono: NOW, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_939_200) }
}

fn shown(who: &Workload) -> String {
    let Workload { namespace, name, kind, pod } = who;
    format!("{} {namespace}/{name} {pod}", kind.as_str()).trim_end().to_owned()
}

fn who(names: &ClusterNames, address: &str) -> String {
    let address: std::net::SocketAddr = address.parse().expect("an address");
    match names.holder(Endpoint { ip: address.ip(), port: address.port() }, NOW) {
        Identity::Known(who) => shown(&who),
        Identity::Unknown(reason) => format!("{reason:?}"),
    }
}

/// The file was written by the program of 0.1.0, which had watched an API server: eight pods, three Services, two
/// nodes, two EndpointSlices and a Job.
#[test]
fn names_that_0_1_0_has_kept_are_all_restored() {
    let directory = tempfile::tempdir().expect("a directory");
    let kept = directory.path().join("cluster-names");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cluster-names-0.1.0");
    std::fs::copy(&fixture, &kept).expect("copy the fixture");
    // No API server can be asked.
    let sources = Sources { kubeconfig: Some(directory.path().join("none")), ..Sources::default() };
    let config = Config { sources, snapshot: Some(kept.clone()), ..Config::default() };
    let stop = CancellationToken::new();
    let mut watches = start(config, Limits::default(), clock, stop.clone()).expect("the thread starts");
    let names = watches.names();

    for (address, expected) in [
        ("10.0.0.1:8080", "Deployment shop/api api-5d4f-x1"),
        ("[fd00::1]:8080", "Deployment shop/api api-5d4f-x1"),
        ("10.0.0.2:8080", "Deployment shop/api api-5d4f-x2"),
        ("10.0.0.3:5432", "StatefulSet shop/db db-0"),
        ("10.0.0.4:80", "DaemonSet shop/log log-7kq2p"),
        ("10.0.0.5:80", "CronJob shop/backup backup-1-q"),
        ("10.0.0.6:80", "Pod shop/bare bare"),
        ("192.168.0.1:9100", "DaemonSet shop/exporter exporter-8"),
        ("192.168.0.1:6443", "Pod kube-system/kube-apiserver-node-1 kube-apiserver-node-1"),
        ("192.168.0.1:22", "Node /node-1"),
        ("192.168.0.2:22", "Node /node-2"),
        ("192.168.0.2:30080", "Deployment shop/api"),
        ("172.16.0.7:80", "Deployment shop/api"),
        ("172.16.0.8:5432", "StatefulSet shop/db"),
        ("198.51.100.1:80", "Deployment shop/api"),
    ] {
        assert_eq!(who(&names, address), expected, "{address}");
    }
    assert_eq!(names.named_service("bank.example.com").map(|who| shown(&who)).as_deref(), Some("Service shop/bank"));
    let mirror = Uid::parse("00000077-8d2b-4a76-9c63-0d1f2a3b4c5d").expect("a uid");
    let of_file = "Pod kube-system/kube-apiserver-node-1 kube-apiserver-node-1";
    assert_eq!(names.pod(mirror).map(|who| shown(&who)).as_deref(), Some(of_file));
    for resource in Resource::ALL {
        assert_eq!(names.refused(resource), 0, "{resource:?}");
    }

    stop.cancel();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(watches.ended()).expect("the thread ends by itself");
    let after = std::fs::read(&kept).expect("the file is still there");
    assert_eq!(after, std::fs::read(&fixture).expect("the fixture"), "nothing was told, so nothing is written");
}
