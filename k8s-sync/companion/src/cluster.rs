//! What the companion reads of its cluster: its nodes, the replicas of its own Service, which nodes
//! have joined, and who the API server's front proxy is. Follows each, and writes nothing.

use crate::apis::FrontProxy;
use crate::book::{Pages, Which};
use crate::serve::{Api, Http, Push};
use k8s_sync::watch::{ApiServer, Follow, FollowReport, Followed};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Kubernetes supports 5,000 nodes.
const NODES: usize = 20_000;
/// EndpointSlices of one Service; each has 100 endpoints.
const SLICES: usize = 100;
/// A replica that cannot find out who else there is shows the nodes after this.
const ALONE: Duration = Duration::from_secs(30);

/// Which replica this is.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Of the companion's Service.
    pub namespace: String,
    /// The Service.
    pub service: String,
    /// The name of this pod.
    pub pod: String,
}

/// How what is followed stands, by its resource.
pub type Reports = Vec<(&'static str, Arc<Mutex<FollowReport>>)>;

/// Follows until `stop` is cancelled, in tasks among `parts`. `api`: where the aggregated API is
/// served.
#[must_use]
pub fn follow(
    server: &Arc<ApiServer>,
    replica: &Replica,
    push: &Arc<Push>,
    http: &Arc<Http>,
    api: Option<&Arc<Api>>,
    (parts, stop): (&mut JoinSet<()>, &CancellationToken),
) -> Reports {
    let mut reports: Reports = Vec::new();
    let nodes = Followed {
        resource: "nodes",
        path: "/api/v1/nodes".to_owned(),
        selector: None,
        only_metadata: true,
        most: NODES,
    };
    let nodes = Follow::new(server.clone(), nodes, |node| Some(Which::of_uid(node["metadata"]["uid"].as_str()?)));
    reports.push(("nodes", nodes.report()));
    let told = push.clone();
    parts.spawn(nodes.run(stop.clone(), move |nodes| {
        told.fleet().lock().set_nodes(nodes.keys().cloned().collect());
        if let Some(desk) = told.desk() {
            desk.set_nodes(nodes.clone());
        }
    }));
    if let Some(desk) = push.desk().cloned() {
        let secret = Followed {
            resource: "secrets",
            path: format!("/api/v1/namespaces/{}/secrets", desk.secret().namespace),
            selector: Some(("fieldSelector", format!("metadata.name={}", desk.secret().name))),
            only_metadata: false,
            most: 1,
        };
        let secret = Follow::new(server.clone(), secret, |secret| Some(Pages::read(secret)));
        reports.push(("secrets", secret.report()));
        desk.set_report(secret.report());
        parts.spawn(desk.clone().run(stop.clone()));
        parts.spawn(secret.run(stop.clone(), move |found| desk.set_pages(found.values().next().cloned())));
    }

    let Replica { namespace, service, pod } = replica.clone();
    let slices = Followed {
        resource: "endpointslices",
        path: format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"),
        selector: Some(("labelSelector", format!("kubernetes.io/service-name={service}"))),
        only_metadata: false,
        most: SLICES,
    };
    let slices = Follow::new(server.clone(), slices, |slice| Some(ready(slice)));
    let known = slices.report();
    reports.push(("endpointslices", known.clone()));
    http.set_shows_nodes(false);
    let (shows, alone) = (http.clone(), http.clone());
    let told = push.clone();
    parts.spawn(slices.run(stop.clone(), move |slices| {
        shows.set_shows_nodes(is_first(&pod, slices));
        told.fleet().lock().set_replicas(others(&pod, slices));
    }));
    let stopped = stop.clone();
    parts.spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => return,
            () = tokio::time::sleep(ALONE) => {}
        }
        if known.lock().known.is_none() {
            alone.set_shows_nodes(true);
        }
        stopped.cancelled().await;
    });

    if let Some(api) = api {
        let config_map = Followed {
            resource: "configmaps",
            path: "/api/v1/namespaces/kube-system/configmaps".to_owned(),
            selector: Some(("fieldSelector", "metadata.name=extension-apiserver-authentication".to_owned())),
            only_metadata: false,
            most: 1,
        };
        let proxy = Follow::new(server.clone(), config_map, |map| Some(front_proxy(map)));
        reports.push(("configmaps", proxy.report()));
        let api = api.clone();
        parts.spawn(proxy.run(stop.clone(), move |found| trust(&api, found)));
    }
    reports
}

fn trust(api: &Api, found: &BTreeMap<String, Option<FrontProxy>>) {
    let Some(proxy) = found.values().next().cloned().flatten() else {
        return tracing::warn!("the API server names no front proxy: it has no aggregation layer");
    };
    if let Err(error) = api.set_front_proxy(proxy) {
        tracing::warn!(%error, "the front proxy's CA cannot be used");
    }
}

/// A pod of the Service that is ready.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ready {
    pod: String,
    /// Where agents push.
    push: Option<SocketAddr>,
}

fn ready(slice: &Value) -> Vec<Ready> {
    let ports = slice["ports"].as_array().into_iter().flatten();
    let port = ports.filter(|port| port["name"] == "push").find_map(|port| u16::try_from(port["port"].as_u64()?).ok());
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    // Absent means ready, as the API says.
    let endpoints = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
    endpoints
        .filter_map(|endpoint| {
            let address = endpoint["addresses"][0].as_str().and_then(|address| address.parse::<IpAddr>().ok());
            let push = address.zip(port).map(SocketAddr::from);
            Some(Ready { pod: endpoint["targetRef"]["name"].as_str()?.to_owned(), push })
        })
        .collect()
}

/// Where agents find the replicas besides this one. A pod with addresses of both families is told once.
fn others(pod: &str, slices: &BTreeMap<String, Vec<Ready>>) -> Vec<String> {
    let mut others = BTreeMap::new();
    for Ready { pod, push } in slices.values().flatten().filter(|ready| ready.pod != pod) {
        if let Some(push) = push {
            let known = others.entry(pod).or_insert(*push);
            *known = (*known).min(*push);
        }
    }
    others.into_values().map(|push| push.to_string()).collect()
}

/// Whether this pod is the first of those that are ready, or nobody is.
fn is_first(pod: &str, slices: &BTreeMap<String, Vec<Ready>>) -> bool {
    slices.values().flatten().map(|ready| &*ready.pod).min().is_none_or(|first| first == pod)
}

/// `None` where there is none in it.
fn front_proxy(map: &Value) -> Option<FrontProxy> {
    let text = |name: &str| map["data"][name].as_str();
    let list = |name: &str| -> Option<Vec<String>> { serde_json::from_str(text(name)?).ok() };
    let ca = text("requestheader-client-ca-file").filter(|ca| !ca.is_empty())?.to_owned();
    let user_headers = list("requestheader-username-headers")?;
    // What cannot be read is no empty list, which would let in whomever the CA has signed.
    let allowed_names = match text("requestheader-allowed-names") {
        None => Vec::new(),
        Some(_) => list("requestheader-allowed-names")?,
    };
    Some(FrontProxy { ca, allowed_names, user_headers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_the_replicas_that_are_ready_the_first_by_name_shows_the_nodes() {
        let endpoint =
            |pod: &str, ready: Value| json!({ "targetRef": { "name": pod }, "conditions": { "ready": ready } });
        let slice = |endpoints: Vec<Value>| ready(&json!({ "endpoints": endpoints }));
        let one = slice(vec![endpoint("c-2", true.into()), endpoint("c-1", false.into())]);
        assert_eq!(one, [Ready { pod: "c-2".to_owned(), push: None }]);
        let two = slice(vec![endpoint("c-3", Value::Null)]);
        let slices = BTreeMap::from([("b".to_owned(), one), ("a".to_owned(), two)]);
        assert_eq!(["c-1", "c-2", "c-3"].map(|pod| is_first(pod, &slices)), [false, true, false]);
        assert!(is_first("c-1", &BTreeMap::new()));
        assert!(ready(&json!({ "endpoints": null })).is_empty());
    }

    #[test]
    fn agents_are_told_of_each_other_replica_once_and_only_of_its_port_for_pushes() {
        let slice = |ports: Value, endpoints: &[(&str, &str)]| {
            let endpoints =
                endpoints.iter().map(|(pod, address)| json!({ "targetRef": { "name": pod }, "addresses": [address] }));
            ready(&json!({ "ports": ports, "endpoints": endpoints.collect::<Value>() }))
        };
        let ports = json!([{ "name": "api", "port": 10_250 }, { "name": "push", "port": 10_251 }]);
        let v6 = slice(ports.clone(), &[("c-1", "fd00::1"), ("c-2", "fd00::2")]);
        let v4 = slice(ports, &[("c-1", "10.0.0.1"), ("c-2", "10.0.0.2"), ("c-3", "no address")]);
        let others = |slices: &[&Vec<Ready>]| {
            let slices = slices.iter().enumerate().map(|(i, slice)| (i.to_string(), (*slice).clone()));
            others("c-1", &slices.collect())
        };
        assert_eq!(others(&[&v6, &v4]), ["10.0.0.2:10251"]);
        assert_eq!(others(&[&v6]), ["[fd00::2]:10251"]);
        assert!(others(&[&slice(json!([{ "name": "api", "port": 10_250 }]), &[("c-2", "10.0.0.2")])]).is_empty());
    }

    #[test]
    fn a_config_map_says_who_the_front_proxy_is_and_half_of_one_does_not() {
        let whole = json!({ "data": {
            "requestheader-client-ca-file": "PEM",
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
        } });
        let proxy = front_proxy(&whole).expect("a front proxy");
        assert_eq!((&*proxy.ca, proxy.allowed_names), ("PEM", vec!["front-proxy-client".to_owned()]));
        for name in ["requestheader-client-ca-file", "requestheader-username-headers"] {
            let mut half = whole.clone();
            half["data"][name] = Value::Null;
            assert_eq!(front_proxy(&half), None, "{name}");
        }
        let mut any = whole.clone();
        any["data"]["requestheader-allowed-names"] = "not a list".into();
        assert_eq!(front_proxy(&any), None);
        any["data"].as_object_mut().expect("data").remove("requestheader-allowed-names");
        assert!(front_proxy(&any).is_some_and(|proxy| proxy.allowed_names.is_empty()));
    }
}
