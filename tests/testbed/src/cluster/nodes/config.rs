//! Configuration files of a node's programs. What is odd in them is there because several nodes
//! share one machine, or because the machine's root lacks a right that a node's root has.

use super::image::PAUSE;
use super::network::pod_range;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::Path;

/// With CRI. `restrict_oom_score_adj`: without CAP_SYS_RESOURCE, a container's wish for a lower OOM
/// score would end its start.
pub(super) fn containerd(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{dir}/containerd.sock"
[ttrpc]
  address = "{dir}/containerd.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{dir}/cni"
"#
    )
}

/// Each pod has a veth of its own and the node routes: a bridge would hand the answers of a
/// Service's pods straight to a client beside them, past the rewriting of their addresses, unless
/// br_netfilter is there.
pub(super) fn cni(dir: &Path, node: u8, last_pod: u8) -> Value {
    let range = json!({
        "subnet": pod_range(node), "rangeStart": format!("10.77.{node}.2"), "rangeEnd": format!("10.77.{node}.{last_pod}"),
    });
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": dir.join("ipam"),
                    "ranges": [[range]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// No cgroups for pods and no enforcement: the machine's hierarchy is shared by all nodes, and may
/// be version 1. Nothing is evicted or collected for a full disk, which is not the node's.
pub(super) fn kubelet(dir: &Path, name: &str, address: Ipv4Addr, client_authority: &Path) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", dir.join("containerd.sock").display()),
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi"},
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false},
            "x509": {"clientCAFile": client_authority},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "resolvConf": "",
        "clusterDNS": [address],
        "clusterDomain": "cluster.local",
        "podLogsDir": dir.join("pods"),
        "providerID": format!("testbed://{name}"),
        "readOnlyPort": 0,
        "address": "0.0.0.0",
        // Noticed sooner than a production cluster would: tests wait for it.
        "nodeStatusUpdateFrequency": "4s",
        "syncFrequency": "10s",
        "shutdownGracePeriod": "0s",
    })
}
