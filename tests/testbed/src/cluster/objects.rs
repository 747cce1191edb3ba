//! Objects as tests want them, and pods that "run" without a kubelet: created with a node's name,
//! then given the status that a kubelet would report.

use super::client::Client;
use super::kinds;
use anyhow::Result;
use serde_json::{Value, json};
use std::net::IpAddr;

/// The controller of an object (its `ownerReferences` entry).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

impl Owner {
    /// The owner that a stored object would be.
    #[must_use]
    pub fn of(object: &Value) -> Owner {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Owner {
            api_version: text(&object["apiVersion"]),
            kind: text(&object["kind"]),
            name: text(&object["metadata"]["name"]),
            uid: text(&object["metadata"]["uid"]),
        }
    }

    fn reference(&self) -> Value {
        let Owner { api_version, kind, name, uid } = self;
        json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true}])
    }
}

/// A pod. [`PodSpec::create_running`] makes it one that has an address and a started container.
#[derive(Clone, Debug)]
pub struct PodSpec {
    pub namespace: String,
    pub name: String,
    pub node: String,
    /// `podIPs`, the first one is `podIP`.
    pub addresses: Vec<IpAddr>,
    pub labels: Vec<(String, String)>,
    pub owner: Option<Owner>,
    pub host_network: bool,
    pub containers: Vec<String>,
    /// TCP, named `p<number>`.
    pub ports: Vec<u16>,
}

impl PodSpec {
    #[must_use]
    pub fn new(name: &str, node: &str, addresses: &[IpAddr]) -> PodSpec {
        PodSpec {
            namespace: "default".into(),
            name: name.into(),
            node: node.into(),
            addresses: addresses.into(),
            labels: vec![("app".into(), name.into())],
            owner: None,
            host_network: false,
            containers: vec!["main".into()],
            ports: Vec::new(),
        }
    }

    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> PodSpec {
        self.namespace = namespace.into();
        self
    }

    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> PodSpec {
        self.labels.retain(|(known, _)| known != name);
        self.labels.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn owned_by(mut self, owner: &Owner) -> PodSpec {
        self.owner = Some(owner.clone());
        self
    }

    #[must_use]
    pub fn on_host_network(mut self) -> PodSpec {
        self.host_network = true;
        self
    }

    #[must_use]
    pub fn port(mut self, port: u16) -> PodSpec {
        self.ports.push(port);
        self
    }

    #[must_use]
    pub fn object(&self) -> Value {
        let containers = self.containers.iter().map(|name| {
            let ports = self.ports.iter().map(|port| json!({"name": format!("p{port}"), "containerPort": port}));
            json!({"name": name, "image": "testbed/none:1", "ports": ports.collect::<Value>()})
        });
        let labels = self.labels.iter().map(|(name, value)| (name.clone(), Value::from(value.clone())));
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": labels.collect::<Value>()},
            "spec": {"nodeName": self.node, "hostNetwork": self.host_network, "containers": containers.collect::<Value>()},
        });
        if let Some(owner) = &self.owner {
            object["metadata"]["ownerReferences"] = owner.reference();
        }
        object
    }

    /// What a kubelet reports of a pod that runs.
    #[must_use]
    pub fn running_status(&self) -> Value {
        let started = "2026-01-01T00:00:00Z";
        let containers = self.containers.iter().map(|name| {
            json!({
                "name": name, "image": "testbed/none:1", "imageID": "testbed/none:1", "ready": true, "started": true, "restartCount": 0,
                "containerID": container_id(&self.namespace, &self.name, name), "state": {"running": {"startedAt": started}},
            })
        });
        let addresses = self.addresses.iter().map(|address| json!({"ip": address}));
        json!({"status": {
            "phase": "Running",
            "podIP": self.addresses.first(),
            "podIPs": addresses.collect::<Value>(),
            "startTime": started,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": started}],
            "containerStatuses": containers.collect::<Value>(),
        }})
    }

    /// Creates it and reports it running: two requests. Returns it as stored.
    pub fn create_running(&self, client: &Client) -> Result<Value> {
        client.create(&kinds::POD, &self.object())?;
        client.patch_status(&kinds::POD, Some(&self.namespace), &self.name, &self.running_status())
    }
}

/// 64 hexadecimal digits that are the same for the same container (FNV-1a, four times over with another start).
fn container_id(namespace: &str, pod: &str, container: &str) -> String {
    let text = format!("{namespace}/{pod}/{container}");
    let hash =
        |start: u64| text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let digits: String =
        (1..=4_u64).map(|n| format!("{:016x}", hash(0xcbf2_9ce4_8422_2325_u64.wrapping_mul(n)))).collect();
    format!("containerd://{digits}")
}

#[must_use]
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// A node with an internal address. Its addresses are status: see [`create_node`].
pub fn create_node(client: &Client, name: &str, address: IpAddr) -> Result<Value> {
    client.create(&kinds::NODE, &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}))?;
    let addresses = json!([{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]);
    client.patch_status(&kinds::NODE, None, name, &json!({"status": {"addresses": addresses}}))
}

/// A Service that selects pods by label. The address is given by the server; `headless` has none.
#[must_use]
pub fn service(namespace: &str, name: &str, selector: &[(&str, &str)], port: u16, headless: bool) -> Value {
    let selector = selector.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": selector.collect::<Value>(), "ports": [{"name": "main", "port": port}]},
    });
    if headless {
        object["spec"]["clusterIP"] = "None".into();
    }
    object
}

/// What the EndpointSlice controller would write for a Service: one slice, all endpoints ready.
/// Endpoints are (address, pod).
#[must_use]
pub fn endpoint_slice(namespace: &str, service: &str, port: u16, endpoints: &[(IpAddr, &str)]) -> Value {
    let family = if endpoints.iter().any(|(address, _)| address.is_ipv6()) { "IPv6" } else { "IPv4" };
    let all = endpoints.iter().map(|(address, pod)| {
        json!({
            "addresses": [address], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace},
        })
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{}", family.to_lowercase()), "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "ports": [{"name": "main", "port": port, "protocol": "TCP"}],
        "endpoints": all.collect::<Value>(),
    })
}

fn template(app: &str) -> Value {
    let pod = json!({"containers": [{"name": "main", "image": "testbed/none:1"}]});
    json!({"metadata": {"labels": {"app": app}}, "spec": pod})
}

/// A Deployment that nobody acts on: without a controller manager it is a name, which is what its pods' owner needs.
#[must_use]
pub fn deployment(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template(name)},
    })
}

/// A ReplicaSet of a Deployment, named `<deployment>-<hash>` as the controller does.
#[must_use]
pub fn replica_set(namespace: &str, deployment: &Owner, hash: &str) -> Value {
    let app = &deployment.name;
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{app}-{hash}"), "namespace": namespace, "labels": {"app": app},
            "ownerReferences": deployment.reference(),
        },
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": app}}, "template": template(app)},
    })
}

fn job_spec(name: &str) -> Value {
    let mut template = template(name);
    template["spec"]["restartPolicy"] = "Never".into();
    json!({"template": template})
}

#[must_use]
pub fn cron_job(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name, "namespace": namespace},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job_spec(name)}},
    })
}

/// A Job; of a CronJob where `owner` says so.
#[must_use]
pub fn job(namespace: &str, name: &str, owner: Option<&Owner>) -> Value {
    let mut object = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace},
        "spec": job_spec(name),
    });
    if let Some(owner) = owner {
        object["metadata"]["ownerReferences"] = owner.reference();
    }
    object
}
