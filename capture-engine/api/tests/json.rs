//! The answers as scripts read them: byte for byte, with every field.

use agent_api::{
    Cgroup, Companion, Containerd, ContainerdLink, EdgeRow, Exchanges, Fact, Forwarded, Golden, Identity, Kubernetes,
    LossRow, Namespace, Node, Party, Process, Program, Readiness, Reason, Scan, Status, Version, Watch, WorkloadRow,
};
use expect_test::{Expect, expect};
use serde::{Deserialize, Serialize};

fn check<T>(value: &T, expected: Expect)
where
    T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug,
{
    let text = serde_json::to_string_pretty(value).expect("JSON");
    expected.assert_eq(&text);
    assert_eq!(serde_json::from_str::<T>(&text).expect("what is written can be read"), *value);
}

fn version() -> Version {
    Version { version: "0.1.0".into(), commit: "abc".into(), kernel_object: "00ff".into() }
}

#[test]
fn version_as_json() {
    check(
        &version(),
        expect![[r#"
        {
          "version": "0.1.0",
          "commit": "abc",
          "kernel_object": "00ff"
        }"#]],
    );
}

#[test]
fn status_as_json() {
    let status = Status {
        version: version(),
        pid: 42,
        uptime_s: 7,
        readiness: Readiness {
            ready: true,
            reasons: vec![Reason { part: "netns".into(), degraded_only: true, detail: "1 failed".into() }],
        },
        containerd: Containerd {
            connected: true,
            socket: "/c.sock".into(),
            version: "2.0".into(),
            reconnects: 1,
            detail: "d".into(),
            links: vec![ContainerdLink {
                socket: "/c.sock".into(),
                state: "live".into(),
                version: "2.0".into(),
                containers: 3,
                reconnects: 1,
                events: 4,
                reconciles: 5,
                failures: 6,
                list_age_s: Some(0.5),
                detail: "d".into(),
            }],
        },
        kubernetes: Kubernetes {
            link: "connected".into(),
            detail: "d".into(),
            server: "https://k/".into(),
            source: "$KUBECONFIG".into(),
            scope: "cluster".into(),
            scope_reason: "r".into(),
            stale: "s".into(),
            watches: vec![Watch {
                resource: "pods".into(),
                state: "watching".into(),
                objects: 1,
                age_s: 0.5,
                complete: true,
                restarts: 2,
                lists: 3,
                relists: 4,
                failures: 5,
                skipped: 6,
                last_error: "e".into(),
            }],
            requests: 7,
            throttled: 8,
            snapshot_error: "e".into(),
        },
        companion: Companion {
            state: "waiting".into(),
            detail: "d".into(),
            join: "/j.toml".into(),
            address: "10.0.0.1:10251".into(),
            version: "0.2.0".into(),
            series: 1,
            pushes: 2,
            cut: 3,
            replicas: 4,
            credential: true,
        },
        states: [("attached".to_owned(), 1)].into(),
        namespaces: vec![Namespace {
            slot: 1,
            netns: "4:1".into(),
            state: "attached".into(),
            mode: "tcx".into(),
            reason: "r".into(),
            namespace: "shop".into(),
            workload: "api".into(),
            addresses: vec!["10.0.0.1".into()],
            interfaces: vec!["eth0".into()],
            attach_ms: Some(1.5),
            forwarded: 12,
        }],
        node: Node {
            observed: true,
            detail: "d".into(),
            cgroups: vec![Cgroup {
                slot: 3,
                path: "/p".into(),
                state: "attached".into(),
                reason: "r".into(),
                namespace: "kube-system".into(),
                workload: "etcd".into(),
                attach_ms: None,
            }],
        },
        scan: Scan {
            done: 1,
            total: 2,
            failed: 3,
            seeds: 4,
            guessed: 5,
            ended: 6,
            source: "procfs".into(),
            iterator_refused: true,
            stale: vec!["/proc/1/comm".into()],
            late_reads: [("owner".to_owned(), 1)].into(),
        },
        exchanges: vec![Exchanges { reporter: "client".into(), counted: 20, lost: 3 }],
        losses: vec![LossRow { stage: "ring".into(), reason: "full".into(), unit: "heads".into(), total: 3 }],
        programs: vec![Program { name: "pilotfish_in".into(), attached: 1, runs: 100, run_time_ns: 25_000 }],
        ring_bytes: 8,
        packets: 9,
        events: 10,
        flows: 11,
        forwarded: Forwarded { flows: 12, packets: 13, bytes: 14 },
        process: Process { rss_bytes: 1, cpu_seconds: 2.5, threads: 3, descriptors: 4, cpu_quota: None },
    };
    check(
        &status,
        expect![[r#"
        {
          "version": {
            "version": "0.1.0",
            "commit": "abc",
            "kernel_object": "00ff"
          },
          "pid": 42,
          "uptime_s": 7,
          "readiness": {
            "ready": true,
            "reasons": [
              {
                "part": "netns",
                "degraded_only": true,
                "detail": "1 failed"
              }
            ]
          },
          "containerd": {
            "connected": true,
            "socket": "/c.sock",
            "version": "2.0",
            "reconnects": 1,
            "detail": "d",
            "links": [
              {
                "socket": "/c.sock",
                "state": "live",
                "version": "2.0",
                "containers": 3,
                "reconnects": 1,
                "events": 4,
                "reconciles": 5,
                "failures": 6,
                "list_age_s": 0.5,
                "detail": "d"
              }
            ]
          },
          "kubernetes": {
            "link": "connected",
            "detail": "d",
            "server": "https://k/",
            "source": "$KUBECONFIG",
            "scope": "cluster",
            "scope_reason": "r",
            "stale": "s",
            "watches": [
              {
                "resource": "pods",
                "state": "watching",
                "objects": 1,
                "age_s": 0.5,
                "complete": true,
                "restarts": 2,
                "lists": 3,
                "relists": 4,
                "failures": 5,
                "skipped": 6,
                "last_error": "e"
              }
            ],
            "requests": 7,
            "throttled": 8,
            "snapshot_error": "e"
          },
          "companion": {
            "state": "waiting",
            "detail": "d",
            "join": "/j.toml",
            "address": "10.0.0.1:10251",
            "version": "0.2.0",
            "series": 1,
            "pushes": 2,
            "cut": 3,
            "replicas": 4,
            "credential": true
          },
          "states": {
            "attached": 1
          },
          "namespaces": [
            {
              "slot": 1,
              "netns": "4:1",
              "state": "attached",
              "mode": "tcx",
              "reason": "r",
              "namespace": "shop",
              "workload": "api",
              "addresses": [
                "10.0.0.1"
              ],
              "interfaces": [
                "eth0"
              ],
              "attach_ms": 1.5,
              "forwarded": 12
            }
          ],
          "host": {
            "observed": true,
            "detail": "d",
            "cgroups": [
              {
                "slot": 3,
                "path": "/p",
                "state": "attached",
                "reason": "r",
                "namespace": "kube-system",
                "workload": "etcd",
                "attach_ms": null
              }
            ]
          },
          "scan": {
            "done": 1,
            "total": 2,
            "failed": 3,
            "seeds": 4,
            "guessed": 5,
            "ended": 6,
            "source": "procfs",
            "iterator_refused": true,
            "stale": [
              "/proc/1/comm"
            ],
            "late_reads": {
              "owner": 1
            }
          },
          "exchanges": [
            {
              "reporter": "client",
              "counted": 20,
              "lost": 3
            }
          ],
          "losses": [
            {
              "stage": "ring",
              "reason": "full",
              "unit": "heads",
              "count": 3
            }
          ],
          "programs": [
            {
              "name": "pilotfish_in",
              "attached": 1,
              "runs": 100,
              "run_time_ns": 25000
            }
          ],
          "ring_bytes": 8,
          "packets": 9,
          "events": 10,
          "flows": 11,
          "forwarded": {
            "flows": 12,
            "packets": 13,
            "bytes": 14
          },
          "process": {
            "rss_bytes": 1,
            "cpu_seconds": 2.5,
            "threads": 3,
            "descriptors": 4
          }
        }"#]],
    );
}

#[test]
fn identity_as_json() {
    let identity = Identity {
        ip: "10.0.0.1".into(),
        port: Some(80),
        known: true,
        shown: Party { name: "api".into(), namespace: "shop".into(), kind: "Deployment".into() },
        service: "api".into(),
        facts: vec![Fact {
            source: "kubernetes".into(),
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "api".into(),
            pod: "api-1".into(),
            node: "n1".into(),
            service: "api".into(),
            port: None,
            since_s: Some(192),
            ended_s: None,
            stale: true,
            by: "b".into(),
        }],
        missing: vec!["m".into()],
    };
    check(
        &identity,
        expect![[r#"
        {
          "ip": "10.0.0.1",
          "port": 80,
          "known": true,
          "shown": {
            "name": "api",
            "namespace": "shop",
            "kind": "Deployment"
          },
          "service": "api",
          "facts": [
            {
              "source": "kubernetes",
              "kind": "Deployment",
              "namespace": "shop",
              "name": "api",
              "pod": "api-1",
              "node": "n1",
              "service": "api",
              "port": null,
              "since_s": 192,
              "ended_s": null,
              "stale": true,
              "by": "b"
            }
          ],
          "missing": [
            "m"
          ]
        }"#]],
    );
}

#[test]
fn rows_have_latencies_in_nanoseconds_and_none_where_nothing_was_answered() {
    let golden = Golden {
        requests: 3,
        failures: 1,
        rps: 0.5,
        success: Some(2.0 / 3.0),
        p50: Some(0.000_252_203),
        p95: None,
        p99: Some(1.5),
        tcp_connections: 2,
        bytes: 0,
    };
    let party = |name: &str| Party { name: name.into(), namespace: "shop".into(), kind: "Deployment".into() };
    let edge = EdgeRow {
        src: party("web"),
        dst: party("api"),
        service: "front".into(),
        protocol: "http".into(),
        reporter: "client".into(),
        golden,
    };
    check(
        &edge,
        expect![[r#"
        {
          "src": {
            "name": "web",
            "namespace": "shop",
            "kind": "Deployment"
          },
          "dst": {
            "name": "api",
            "namespace": "shop",
            "kind": "Deployment"
          },
          "service": "front",
          "protocol": "http",
          "reporter": "client",
          "requests": 3,
          "failures": 1,
          "rps": 0.5,
          "success": 0.6666666666666666,
          "p50_ns": 252203,
          "p95_ns": null,
          "p99_ns": 1500000000,
          "tcp_connections": 2
        }"#]],
    );
    let row = WorkloadRow { workload: party("api"), golden: Golden { p50: Some(f64::NAN), ..golden } };
    let text = serde_json::to_string(&row).expect("JSON");
    assert!(text.contains(r#""p50_ns":null"#), "what is no time is told as none: {text}");
    // A row without latencies, as a script may have cut it.
    let cut = r#"{"workload":{"name":"a","namespace":"b","kind":"c"},"requests":1,"failures":0,"rps":0.0,"success":null,"tcp_connections":0}"#;
    assert_eq!(serde_json::from_str::<WorkloadRow>(cut).expect("can be read").golden.p50, None);
}
