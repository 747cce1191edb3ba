//! The fields of the API's objects that the table of names needs, and the way from them to an
//! `Object`. What else an object holds is skipped by the parser without being kept. Go's encoder
//! writes `null` for empty lists, so every list may be absent.

use super::container::{ContainerJson, Text, port};
use super::probes::probes;
use super::time;
use crate::cluster::object::{Controller, EndpointSlice, Job, Node, Object, Pod, Service, ServiceEndpoint, Uid};
use serde::Deserialize;
use std::borrow::Cow;
use std::net::IpAddr;

/// Why an object is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bad {
    /// Not JSON, or a field of another type.
    Malformed,
    /// No uid or no name.
    Nameless,
    /// A line, a name or a list over its bound.
    TooLarge,
}

/// Names are DNS labels or subdomains: at most 253 bytes (RFC 1123).
const LONGEST_NAME: usize = 253;
/// An EndpointSlice has at most 1,000 endpoints and 20,000 ports (validation of
/// discovery.k8s.io/v1); nothing else that is read here has more.
const LONGEST_LIST: usize = 1_000;
const MOST_PORTS: usize = 20_000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata<'a> {
    #[serde(borrow, default)]
    pub name: Text<'a>,
    #[serde(borrow, default)]
    pub namespace: Text<'a>,
    #[serde(borrow, default)]
    pub uid: Text<'a>,
    #[serde(borrow, default)]
    pub resource_version: Text<'a>,
    #[serde(borrow, default)]
    pub owner_references: Option<Vec<Owner<'a>>>,
    #[serde(borrow, default)]
    pub labels: Option<Labels<'a>>,
    #[serde(borrow, default)]
    pub annotations: Option<Annotations<'a>>,
    #[serde(borrow, default)]
    pub creation_timestamp: Text<'a>,
    #[serde(borrow, default)]
    pub deletion_timestamp: Text<'a>,
}

#[derive(Debug, Deserialize)]
pub struct Owner<'a> {
    #[serde(borrow, default)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(default)]
    controller: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
pub struct Labels<'a> {
    #[serde(borrow, default, rename = "pod-template-hash")]
    template_hash: Text<'a>,
    #[serde(borrow, default, rename = "rollouts-pod-template-hash")]
    rollout_hash: Text<'a>,
    #[serde(borrow, default, rename = "kubernetes.io/service-name")]
    service: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
pub struct Annotations<'a> {
    #[serde(borrow, default, rename = "kubernetes.io/config.hash")]
    config_hash: Text<'a>,
    #[serde(borrow, default, rename = "k8s.io/initial-events-end")]
    pub initial_events_end: Text<'a>,
}

impl Metadata<'_> {
    fn uid(&self) -> Result<Uid, Bad> {
        self.uid.as_deref().and_then(Uid::parse).ok_or(Bad::Nameless)
    }

    fn name(&self) -> Result<String, Bad> {
        name(self.name.as_deref())?.filter(|name| !name.is_empty()).ok_or(Bad::Nameless)
    }

    fn namespace(&self) -> Result<String, Bad> {
        Ok(name(self.namespace.as_deref())?.unwrap_or_default())
    }

    fn controller(&self) -> Result<Option<Controller>, Bad> {
        let owners = self.owner_references.as_deref().unwrap_or_default();
        let Some(owner) = owners.iter().find(|owner| owner.controller == Some(true)) else { return Ok(None) };
        let (kind, name) = (name(owner.kind.as_deref())?, name(owner.name.as_deref())?);
        Ok(kind.zip(name).map(|(kind, name)| Controller { kind, name }))
    }
}

fn name(text: Option<&str>) -> Result<Option<String>, Bad> {
    match text {
        Some(text) if text.len() > LONGEST_NAME => Err(Bad::TooLarge),
        text => Ok(text.map(str::to_owned)),
    }
}

/// A list within its bound; those entries that `read` makes something of.
fn list<T, U>(list: Option<Vec<T>>, bound: usize, read: impl FnMut(T) -> Option<U>) -> Result<Vec<U>, Bad> {
    match list {
        None => Ok(Vec::new()),
        Some(list) if list.len() > bound => Err(Bad::TooLarge),
        Some(list) => Ok(list.into_iter().filter_map(read).collect()),
    }
}

/// "None" and other words that are no address are left out.
fn addresses(texts: Option<Vec<Cow<'_, str>>>) -> Result<Vec<IpAddr>, Bad> {
    list(texts, LONGEST_LIST, |text| text.parse().ok())
}

/// An object of the API, reduced.
pub trait Trimmed<'de>: Deserialize<'de> {
    fn metadata(&self) -> &Metadata<'de>;
    fn into_object(self) -> Result<Object, Bad>;

    fn uid(&self) -> Result<Uid, Bad> {
        self.metadata().uid()
    }
}

#[derive(Debug, Deserialize)]
pub struct PodJson<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    spec: Option<PodSpec<'a>>,
    #[serde(borrow, default)]
    status: Option<PodStatus<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec<'a> {
    #[serde(borrow, default)]
    node_name: Text<'a>,
    #[serde(default)]
    host_network: Option<bool>,
    #[serde(borrow, default)]
    containers: Option<Vec<ContainerJson<'a>>>,
    /// Those that go on beside the others may have probes, too.
    #[serde(borrow, default)]
    init_containers: Option<Vec<ContainerJson<'a>>>,
    #[serde(default)]
    termination_grace_period_seconds: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatus<'a> {
    #[serde(borrow, default)]
    phase: Text<'a>,
    #[serde(borrow, default, rename = "podIP")]
    pod_ip: Text<'a>,
    #[serde(borrow, default, rename = "podIPs")]
    pod_ips: Option<Vec<PodIp<'a>>>,
    #[serde(borrow, default)]
    start_time: Text<'a>,
}

#[derive(Debug, Deserialize)]
struct PodIp<'a> {
    #[serde(borrow, default)]
    ip: Text<'a>,
}

impl<'de> Trimmed<'de> for PodJson<'de> {
    fn metadata(&self) -> &Metadata<'de> {
        &self.metadata
    }

    fn into_object(self) -> Result<Object, Bad> {
        let PodJson { metadata, spec, status } = self;
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        let mut ips = list(status.pod_ips, LONGEST_LIST, |entry| entry.ip?.parse().ok())?;
        if ips.is_empty() {
            ips.extend(status.pod_ip.and_then(|ip| ip.parse::<IpAddr>().ok()));
        }
        let containers = list(spec.containers, LONGEST_LIST, Some)?;
        let init = list(spec.init_containers, LONGEST_LIST, Some)?;
        let ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
        let ports: Vec<u16> = ports.filter_map(|entry| port(entry.container_port?)).take(MOST_PORTS).collect();
        let labels = metadata.labels.as_ref();
        let config_hash = metadata.annotations.as_ref().and_then(|notes| notes.config_hash.as_deref());
        Ok(Object::Pod(Pod {
            uid: metadata.uid()?,
            static_uid: config_hash.and_then(Uid::parse),
            namespace: metadata.namespace()?,
            name: metadata.name()?,
            node: name(spec.node_name.as_deref())?.filter(|node| !node.is_empty()),
            ips,
            host_network: spec.host_network.unwrap_or(false),
            ended: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            deleted_by: metadata.deletion_timestamp.as_deref().and_then(time::parse),
            started: status.start_time.as_deref().and_then(time::parse),
            controller: metadata.controller()?,
            template_hash: name(labels.and_then(|labels| labels.template_hash.as_deref()))?,
            rollout_hash: name(labels.and_then(|labels| labels.rollout_hash.as_deref()))?,
            ports,
            probes: Some(probes(containers.iter().chain(&init), spec.termination_grace_period_seconds)),
        }))
    }
}

#[derive(Debug, Deserialize)]
pub struct ServiceJson<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    spec: Option<ServiceSpec<'a>>,
    #[serde(borrow, default)]
    status: Option<ServiceStatus<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec<'a> {
    #[serde(borrow, default, rename = "clusterIP")]
    cluster_ip: Text<'a>,
    #[serde(borrow, default, rename = "clusterIPs")]
    cluster_ips: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default, rename = "externalIPs")]
    external_ips: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default)]
    external_name: Text<'a>,
    #[serde(default)]
    ports: Option<Vec<ServicePort>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServicePort {
    #[serde(default)]
    port: Option<i64>,
    #[serde(default)]
    node_port: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceStatus<'a> {
    #[serde(borrow, default)]
    load_balancer: Option<LoadBalancer<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct LoadBalancer<'a> {
    #[serde(borrow, default)]
    ingress: Option<Vec<PodIp<'a>>>,
}

impl<'de> Trimmed<'de> for ServiceJson<'de> {
    fn metadata(&self) -> &Metadata<'de> {
        &self.metadata
    }

    fn into_object(self) -> Result<Object, Bad> {
        let ServiceJson { metadata, spec, status } = self;
        let spec = spec.unwrap_or_default();
        let ports = list(spec.ports, MOST_PORTS, Some)?;
        let mut cluster_ips = addresses(spec.cluster_ips)?;
        if cluster_ips.is_empty() {
            cluster_ips.extend(spec.cluster_ip.and_then(|ip| ip.parse::<IpAddr>().ok()));
        }
        let mut external_ips = addresses(spec.external_ips)?;
        let balancer = status.and_then(|status| status.load_balancer).unwrap_or_default();
        external_ips.extend(list(balancer.ingress, LONGEST_LIST, |entry| entry.ip?.parse::<IpAddr>().ok())?);
        Ok(Object::Service(Service {
            uid: metadata.uid()?,
            namespace: metadata.namespace()?,
            name: metadata.name()?,
            cluster_ips,
            external_ips,
            node_ports: ports.iter().filter_map(|entry| port(entry.node_port?)).collect(),
            ports: ports.iter().filter_map(|entry| port(entry.port?)).collect(),
            external_name: name(spec.external_name.as_deref())?.filter(|name| !name.is_empty()),
            created: metadata.creation_timestamp.as_deref().and_then(time::parse),
        }))
    }
}

#[derive(Debug, Deserialize)]
pub struct EndpointSliceJson<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    endpoints: Option<Vec<EndpointJson<'a>>>,
    #[serde(default)]
    ports: Option<Vec<SlicePort>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointJson<'a> {
    #[serde(borrow, default)]
    addresses: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default)]
    target_ref: Option<TargetRef<'a>>,
}

#[derive(Debug, Deserialize)]
struct TargetRef<'a> {
    #[serde(borrow, default)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    uid: Text<'a>,
}

#[derive(Debug, Deserialize)]
struct SlicePort {
    #[serde(default)]
    port: Option<i64>,
}

impl<'de> Trimmed<'de> for EndpointSliceJson<'de> {
    fn metadata(&self) -> &Metadata<'de> {
        &self.metadata
    }

    fn into_object(self) -> Result<Object, Bad> {
        let EndpointSliceJson { metadata, endpoints, ports } = self;
        let mut read = Vec::new();
        for endpoint in list(endpoints, LONGEST_LIST, Some)? {
            let EndpointJson { addresses: texts, target_ref } = endpoint;
            let pod = target_ref.filter(|target| target.kind.as_deref() == Some("Pod"));
            read.push(ServiceEndpoint {
                addresses: addresses(texts)?,
                pod: pod.and_then(|pod| Uid::parse(pod.uid.as_deref()?)),
            });
        }
        Ok(Object::EndpointSlice(EndpointSlice {
            uid: metadata.uid()?,
            namespace: metadata.namespace()?,
            service: name(metadata.labels.as_ref().and_then(|labels| labels.service.as_deref()))?,
            endpoints: read,
            ports: list(ports, MOST_PORTS, |entry| port(entry.port?))?,
        }))
    }
}

#[derive(Debug, Deserialize)]
pub struct NodeJson<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    status: Option<NodeStatus<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct NodeStatus<'a> {
    #[serde(borrow, default)]
    addresses: Option<Vec<NodeAddress<'a>>>,
}

#[derive(Debug, Deserialize)]
struct NodeAddress<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    address: Text<'a>,
}

impl<'de> Trimmed<'de> for NodeJson<'de> {
    fn metadata(&self) -> &Metadata<'de> {
        &self.metadata
    }

    fn into_object(self) -> Result<Object, Bad> {
        let NodeJson { metadata, status } = self;
        Ok(Object::Node(Node {
            uid: metadata.uid()?,
            name: metadata.name()?,
            addresses: list(status.unwrap_or_default().addresses, LONGEST_LIST, |entry| {
                let is_own = matches!(entry.kind.as_deref(), Some("InternalIP" | "ExternalIP"));
                entry.address.filter(|_| is_own)?.parse().ok()
            })?,
        }))
    }
}

#[derive(Debug, Deserialize)]
pub struct JobJson<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

impl<'de> Trimmed<'de> for JobJson<'de> {
    fn metadata(&self) -> &Metadata<'de> {
        &self.metadata
    }

    fn into_object(self) -> Result<Object, Bad> {
        let JobJson { metadata } = self;
        let controller = metadata.controller()?;
        Ok(Object::Job(Job {
            uid: metadata.uid()?,
            namespace: metadata.namespace()?,
            name: metadata.name()?,
            cron_job: controller.filter(|owner| owner.kind == "CronJob").map(|owner| owner.name),
        }))
    }
}
