//! What the table of names needs of the API's objects, and nothing else of them: a pod as the API
//! sends it has 5 to 20 KiB.

use crate::cluster::seconds;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::IpAddr;
use std::time::SystemTime;

/// `metadata.uid`: a UUID (RFC 9562), or what the kubelet takes for one: a static pod's containers
/// carry the hash of its manifest, 32 digits without dashes, which the API's mirror pod has as its
/// annotation `kubernetes.io/config.hash`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(u128);

/// As 32 digits.
impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Uid {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Uid, D::Error> {
        let text = String::deserialize(from)?;
        Uid::parse(&text).ok_or_else(|| serde::de::Error::custom("no uid"))
    }
}

impl Uid {
    /// None for anything but 32 hexadecimal digits, dashes aside.
    #[must_use]
    pub fn parse(text: &str) -> Option<Uid> {
        let mut digits = 0;
        let mut value: u128 = 0;
        for byte in text.bytes().filter(|byte| *byte != b'-') {
            digits += 1;
            value = (value << 4) | u128::from(char::from(byte).to_digit(16)?);
            if digits > 32 {
                return None;
            }
        }
        (digits == 32).then_some(Uid(value))
    }

    pub(crate) fn from_bits(bits: u128) -> Uid {
        Uid(bits)
    }

    pub(crate) fn bits(self) -> u128 {
        self.0
    }

    /// Enough to tell the pods of a cluster apart: 61 random bits of a random UUID.
    pub(crate) fn fold(self) -> u64 {
        (self.0 >> 64) as u64 ^ self.0 as u64
    }
}

// serde asks for a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

/// `metadata.ownerReferences` with `controller: true`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Controller {
    /// `ReplicaSet`, `DaemonSet`, ...; any kind of a custom resource, too.
    #[serde(rename = "k")]
    pub kind: String,
    /// In the namespace of what it controls.
    #[serde(rename = "n")]
    pub name: String,
}

/// `v1` Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// `metadata.uid`; of a static pod that of its mirror pod.
    #[serde(skip)]
    pub uid: Uid,
    /// `kubernetes.io/config.hash` of a mirror pod: what its containers call their pod.
    #[serde(rename = "su", skip_serializing_if = "Option::is_none")]
    pub static_uid: Option<Uid>,
    /// `metadata.namespace`
    #[serde(rename = "ns")]
    pub namespace: String,
    /// `metadata.name`
    #[serde(rename = "n")]
    pub name: String,
    /// `spec.nodeName`
    #[serde(rename = "no", skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// `status.podIPs`; the node's own where `host_network`.
    #[serde(rename = "ip", skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpAddr>,
    /// `spec.hostNetwork`
    #[serde(rename = "h", skip_serializing_if = "is_false")]
    pub host_network: bool,
    /// `status.phase` is Succeeded or Failed: the addresses are no longer its own.
    #[serde(rename = "e", skip_serializing_if = "is_false")]
    pub ended: bool,
    /// `metadata.deletionTimestamp`: it is to be gone by then, its grace period included.
    #[serde(rename = "d", with = "seconds", skip_serializing_if = "Option::is_none")]
    pub deleted_by: Option<SystemTime>,
    /// `status.startTime`: its addresses were given to it after that.
    #[serde(rename = "s", with = "seconds", skip_serializing_if = "Option::is_none")]
    pub started: Option<SystemTime>,
    /// None: the pod stands for itself.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    pub controller: Option<Controller>,
    /// Label `pod-template-hash`: with it the name of a Deployment follows from that of its ReplicaSet.
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    pub template_hash: Option<String>,
    /// Label `rollouts-pod-template-hash`: the same of an Argo Rollout, which stands in for a Deployment.
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    pub rollout_hash: Option<String>,
    /// `spec.containers[].ports[].containerPort`: which ports of the node a pod on the host's network listens on.
    #[serde(rename = "p", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// What the kubelet asks its containers for; None where who told of the pod leaves that out.
    #[serde(rename = "pb", skip_serializing_if = "Option::is_none")]
    pub probes: Option<Vec<Probe>>,
}

/// Which of a container's probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProbeKind {
    /// `readinessProbe`
    #[default]
    #[serde(rename = "r")]
    Readiness,
    /// `livenessProbe`
    #[serde(rename = "l")]
    Liveness,
    /// `startupProbe`
    #[serde(rename = "s")]
    Startup,
}

/// A probe that asks by plain HTTP at the pod's own address (`httpGet`); of others nothing can be told
/// apart on the wire. What is left out of a spec has its default of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// Name of the container.
    #[serde(rename = "c")]
    pub container: String,
    /// Which of its probes.
    #[serde(rename = "k")]
    pub kind: ProbeKind,
    /// `httpGet.path` as it is asked for: it begins with a slash.
    #[serde(rename = "u")]
    pub path: String,
    /// `httpGet.port`, as a number.
    #[serde(rename = "o")]
    pub port: u16,
    /// `timeoutSeconds`
    #[serde(rename = "t")]
    pub timeout_s: u32,
    /// `failureThreshold`
    #[serde(rename = "f")]
    pub failures: u32,
    /// `terminationGracePeriodSeconds` of the probe, else of the pod.
    #[serde(rename = "g")]
    pub grace_s: u32,
}

/// `v1` Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// `metadata.uid`
    #[serde(skip)]
    pub uid: Uid,
    /// `metadata.namespace`
    #[serde(rename = "ns")]
    pub namespace: String,
    /// `metadata.name`
    #[serde(rename = "n")]
    pub name: String,
    /// `spec.clusterIPs` without "None": a headless Service has none.
    #[serde(rename = "ip", skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs` and `status.loadBalancer.ingress[].ip`
    #[serde(rename = "x", skip_serializing_if = "Vec::is_empty")]
    pub external_ips: Vec<IpAddr>,
    /// `spec.ports[].port`: several Services may share an external address, and a node's own address may be one.
    #[serde(rename = "p", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// `spec.ports[].nodePort`
    #[serde(rename = "np", skip_serializing_if = "Vec::is_empty")]
    pub node_ports: Vec<u16>,
    /// `spec.externalName`
    #[serde(rename = "en", skip_serializing_if = "Option::is_none")]
    pub external_name: Option<String>,
    /// `metadata.creationTimestamp`: its addresses were given to it then.
    #[serde(rename = "c", with = "seconds", skip_serializing_if = "Option::is_none")]
    pub created: Option<SystemTime>,
}

/// `discovery.k8s.io/v1` EndpointSlice: some of a Service's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSlice {
    /// `metadata.uid`
    #[serde(skip)]
    pub uid: Uid,
    /// `metadata.namespace`, that of the Service as well.
    #[serde(rename = "ns")]
    pub namespace: String,
    /// Label `kubernetes.io/service-name`; slices of nobody's are of no use.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `endpoints[]`, those that are not ready among them: connections to them may be open.
    #[serde(rename = "e", skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<ServiceEndpoint>,
    /// `ports[].port`: where the endpoints listen.
    #[serde(rename = "p", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
}

/// One of `endpoints[]` of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceEndpoint {
    /// `addresses[]` that are IPs; a slice of type FQDN has none.
    #[serde(rename = "a", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// `targetRef.uid` where its kind is Pod.
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    pub pod: Option<Uid>,
}

/// `v1` Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// `metadata.uid`
    #[serde(skip)]
    pub uid: Uid,
    /// `metadata.name`, which `spec.nodeName` of pods refers to.
    #[serde(rename = "n")]
    pub name: String,
    /// `status.addresses` of types InternalIP and ExternalIP.
    #[serde(rename = "a", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

/// Only those with a controller matter: the CronJob that made it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    /// `metadata.uid`
    #[serde(skip)]
    pub uid: Uid,
    /// `metadata.namespace`
    #[serde(rename = "ns")]
    pub namespace: String,
    /// `metadata.name`, by which its pods name their controller.
    #[serde(rename = "n")]
    pub name: String,
    /// Name of its controller where that is a CronJob; None: the Job stands for itself.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    pub cron_job: Option<String>,
}

/// What is watched. The label value of `resource` is the API's plural name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Of all nodes, or of one with `watch::Scope::Node`.
    Pods,
    /// For addresses of Services and their names.
    Services,
    /// For which pods are behind a Service.
    EndpointSlices,
    /// For addresses of nodes, and for how many agents there may be.
    Nodes,
    /// For which CronJob a Job's pods belong to.
    Jobs,
}

impl Resource {
    /// In the order of their numbers, which index arrays by resource.
    pub const ALL: [Resource; 5] =
        [Resource::Pods, Resource::Services, Resource::EndpointSlices, Resource::Nodes, Resource::Jobs];

    /// As in the API's paths: plural, lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Resource::Pods => "pods",
            Resource::Services => "services",
            Resource::EndpointSlices => "endpointslices",
            Resource::Nodes => "nodes",
            Resource::Jobs => "jobs",
        }
    }
}

/// An object of one of the kinds in `Resource`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// From `Resource::Pods`.
    Pod(Pod),
    /// From `Resource::Services`.
    Service(Service),
    /// From `Resource::EndpointSlices`.
    EndpointSlice(EndpointSlice),
    /// From `Resource::Nodes`.
    Node(Node),
    /// From `Resource::Jobs`.
    Job(Job),
}

impl Object {
    /// Which watch tells of it.
    #[must_use]
    pub fn resource(&self) -> Resource {
        match self {
            Object::Pod(_) => Resource::Pods,
            Object::Service(_) => Resource::Services,
            Object::EndpointSlice(_) => Resource::EndpointSlices,
            Object::Node(_) => Resource::Nodes,
            Object::Job(_) => Resource::Jobs,
        }
    }

    /// `metadata.uid`, which no other object of the cluster ever has.
    #[must_use]
    pub fn uid(&self) -> Uid {
        match self {
            Object::Pod(Pod { uid, .. })
            | Object::Service(Service { uid, .. })
            | Object::EndpointSlice(EndpointSlice { uid, .. })
            | Object::Node(Node { uid, .. })
            | Object::Job(Job { uid, .. }) => *uid,
        }
    }
}

/// What a watch tells, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A list begins. What was known stays until the list has ended.
    ListBegun(Resource),
    /// An item of the list that has begun.
    Listed(Object),
    /// What was known and was not listed since `ListBegun` exists no more.
    ListEnded(Resource),
    /// ADDED or MODIFIED: it replaces what was known under its uid.
    Applied(Object),
    /// DELETED: its name is kept for observations of the time before.
    Deleted(Resource, Uid),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_32_digits_with_or_without_dashes() {
        let uid = Uid::parse("0f3ac1ee-8d2b-4a76-9c63-0d1f2a3b4c5d");
        assert!(uid.is_some());
        assert_eq!(uid, Uid::parse("0F3AC1EE8D2B4A769C630D1F2A3B4C5D"));
        for text in ["", "0f3a", "0f3ac1ee-8d2b-4a76-9c63-0d1f2a3b4c5d0", "zf3ac1ee-8d2b-4a76-9c63-0d1f2a3b4c5d"] {
            assert_eq!(Uid::parse(text), None, "{text}");
        }
    }
}
