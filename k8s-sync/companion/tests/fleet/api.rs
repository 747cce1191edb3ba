//! What the aggregated API answers, without a server.

use crate::bed::{Agent, at, fleet};
use companion::Fleet;
use companion::apis::{Answer, Asked, Failure, Form, FrontProxy, Reads, Watch, answer, common_name};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::Value;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const BASE: &str = "/apis/traffic.pilotfish.io/v1alpha1";

/// web asks api, fifty times a second for a minute.
fn busy() -> (Fleet, Agent) {
    let (mut fleet, mut agent) = (fleet(), Agent::new("n1", 11));
    for second in 0..60 {
        agent.answers(50, 200, 4);
        agent.run(at(second), &mut fleet);
    }
    (fleet, agent)
}

fn read(method: &str, path: &str, accept: &str) -> Result<Asked, Failure> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    Asked::read(method, path, query, accept)
}

fn get(fleet: &mut Fleet, path: &str, accept: &str) -> (u16, Value) {
    let answer: Answer = match read("GET", path, accept) {
        Ok(asked) => answer(&asked, &fleet.shown(at(60)), 7),
        Err(failure) => failure.into(),
    };
    (answer.status, answer.body)
}

/// The first cells of a table's rows.
fn names(table: &Value) -> Vec<&str> {
    table["rows"].as_array().into_iter().flatten().filter_map(|row| row["cells"][0].as_str()).collect()
}

#[test]
fn a_list_is_rows_for_a_person_and_objects_for_a_program() {
    let (mut fleet, _agent) = busy();
    let (status, table) = get(&mut fleet, &format!("{BASE}/namespaces/shop/workloadtraffic?limit=500"), TABLE);
    assert_eq!((status, &table["kind"], &table["metadata"]["resourceVersion"]), (200, &"Table".into(), &"7".into()));
    let columns: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(columns, ["Name", "Success", "RPS", "P50", "P95", "P99", "Nodes", "TCP-Conn", "Kind"]);
    let cells = &table["rows"][0]["cells"];
    assert_eq!((&cells[0], &cells[1], &cells[6]), (&"api".into(), &"100.00%".into(), &"1/1".into()));
    assert!(cells[3].as_str().is_some_and(|p50| p50.ends_with("ms")), "{cells}");
    assert_eq!(table["rows"][0]["object"]["metadata"]["namespace"], "shop");

    let (_, sorts) = get(&mut fleet, &format!("{BASE}/workloadtraffic?limit=500&includeObject=Object"), TABLE);
    let object = &sorts["rows"][0]["object"];
    assert_eq!((&object["kind"], &object["golden"]["failures"]), (&"WorkloadTraffic".into(), &0.into()), "{object}");

    let (_, list) = get(&mut fleet, &format!("{BASE}/edges"), "application/json");
    let edge = &list["items"][0];
    assert_eq!((&list["kind"], &edge["kind"]), (&"EdgeList".into(), &"Edge".into()));
    assert_eq!(
        (&edge["client"]["name"], &edge["server"]["name"], &edge["protocol"]),
        (&"web".into(), &"api".into(), &"http".into())
    );
    assert!(edge["golden"]["requestsPerSecond"].as_f64().is_some_and(|rps| (40.0..60.0).contains(&rps)), "{edge}");
    let (_, list) = get(&mut fleet, &format!("{BASE}/edges?fieldSelector=metadata.namespace=shop"), "application/json");
    assert_eq!(list["kind"], "EdgeList");
    // One by its name.
    let name = edge["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web.api.http-"), "{name}");
    let (status, one) = get(&mut fleet, &format!("{BASE}/namespaces/shop/edges/{name}"), "application/json");
    assert_eq!((status, &one["metadata"]["name"]), (200, &name.into()));
}

#[test]
fn what_is_asked_for_is_selected() {
    let (mut fleet, _agent) = busy();
    // A list of one stays a list.
    let (_, list) =
        get(&mut fleet, &format!("{BASE}/workloadtraffic?fieldSelector=metadata.name=api"), "application/json");
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&"WorkloadTrafficList".into(), &"api".into()));
    let mut rows =
        |query: &str| get(&mut fleet, &format!("{BASE}/{query}"), TABLE).1["rows"].as_array().map_or(0, Vec::len);
    for query in [
        "workloadtraffic",
        "namespaces/shop/workloadtraffic",
        "workloadtraffic?fieldSelector=metadata.name%3Dapi",
        "workloadtraffic?labelSelector=pilotfish.io%2Fworkload%3Dapi",
        "workloadtraffic?labelSelector=pilotfish.io/kind,pilotfish.io/workload!=web",
        "edges?labelSelector=pilotfish.io/client==web,!pilotfish.io/kind",
    ] {
        assert_eq!(rows(query), 1, "{query}");
    }
    for query in [
        "namespaces/pay/workloadtraffic",
        // Who may read pay gets nothing of shop by a selector.
        "namespaces/pay/workloadtraffic?fieldSelector=metadata.namespace=shop",
        "workloadtraffic?fieldSelector=metadata.name=web",
        "workloadtraffic?labelSelector=pilotfish.io/workload=web",
        "workloadtraffic?labelSelector=app",
    ] {
        assert_eq!(rows(query), 0, "{query}");
    }
}

#[test]
fn what_cannot_be_answered_is_a_status() {
    let mut fleet = fleet();
    let mut status = |path: &str| {
        let (code, body) = get(&mut fleet, path, "application/json");
        assert_eq!(
            (&body["kind"], &body["status"], &body["code"]),
            (&"Status".into(), &"Failure".into(), &code.into())
        );
        (
            code,
            body["reason"].as_str().unwrap_or_default().to_owned(),
            body["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let missing = status(&format!("{BASE}/namespaces/shop/workloadtraffic/none"));
    assert_eq!((missing.0, &*missing.2), (404, "workloadtraffic.traffic.pilotfish.io \"none\" not found"));
    assert_eq!(status(&format!("{BASE}/edges?fieldSelector=spec.x=1")).0, 400);
    // The client falls back to a list and a watch.
    assert_eq!(status(&format!("{BASE}/edges?watch=true&sendInitialEvents=true")).0, 422);
    for path in
        ["/", "/apis/other", &format!("{BASE}/pods"), &format!("{BASE}/namespaces/a/b/c/d"), &format!("{BASE}/%zz")]
    {
        assert_eq!(status(path).0, 404, "{path}");
    }
    assert!(read("DELETE", &format!("{BASE}/edges"), "").is_err_and(|failure| failure.code == 405));
}

#[test]
fn agents_are_rows_of_the_cluster_and_nodes_without_one_too() {
    let (mut fleet, _agent) = busy();
    fleet.set_nodes(["n1", "n2"].map(str::to_owned).into());
    let (status, table) = get(&mut fleet, &format!("{BASE}/nodeagents"), TABLE);
    assert_eq!((status, names(&table)), (200, vec!["n1", "n2"]));
    let row = |at: usize| table["rows"][at]["cells"].clone();
    assert_eq!((&row(0)[1], &row(0)[4]), (&"Live".into(), &"".into()));
    assert_eq!((&row(1)[1], &row(1)[4]), (&"Absent".into(), &"no agent has joined from this node".into()));
    let (_, one) = get(&mut fleet, &format!("{BASE}/nodeagents/n1"), "application/json");
    assert_eq!(
        (&one["kind"], &one["state"], &one["metadata"]["name"]),
        (&"NodeAgent".into(), &"Live".into(), &"n1".into())
    );
    assert!(one["metadata"].get("namespace").is_none() && one["series"].as_u64() > Some(0), "{one}");
    // Who may read a namespace reads no agents by it.
    for path in ["namespaces/shop/nodeagents", "namespaces/shop/nodeagents/n1", "workloadtraffic/api", "nodeagents/n3"]
    {
        assert_eq!(get(&mut fleet, &format!("{BASE}/{path}"), TABLE).0, 404, "{path}");
    }
    let silent = answer(&read("GET", &format!("{BASE}/nodeagents/n1"), "").unwrap(), &fleet.shown(at(200)), 8);
    assert_eq!((&silent.body["state"], &silent.body["reason"]), (&"Silent".into(), &"no push for 140 s".into()));
}

#[test]
fn discovery_depends_on_no_data() {
    let mut fleet = fleet();
    let mut json = |path: &str| get(&mut fleet, path, "*/*");
    let (status, resources) = json(BASE);
    assert_eq!((status, &resources["resources"][0]["shortNames"][0]), (200, &"wt".into()));
    assert_eq!(json("/apis").1["groups"][0]["name"], "traffic.pilotfish.io");
    assert_eq!(json("/openapi/v2").0, 200);
    let path = json("/openapi/v3").1["paths"]["apis/traffic.pilotfish.io/v1alpha1"]["serverRelativeURL"].clone();
    let (status, schemas) = json(path.as_str().unwrap());
    let schema = &schemas["components"]["schemas"]["io.pilotfish.traffic.v1alpha1.Edge"];
    assert_eq!((status, schema["x-kubernetes-group-version-kind"][0]["kind"].as_str()), (200, Some("Edge")));
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    assert_eq!(get(&mut fleet, "/apis", v2).1["kind"], "APIGroupDiscoveryList");
}

#[test]
fn a_watch_tells_of_what_comes_changes_and_goes() {
    let (mut fleet, mut agent) = busy();
    let path = format!("{BASE}/namespaces/shop/workloadtraffic?watch=true&resourceVersion=0&timeoutSeconds=60");
    let Ok(Asked::Objects { selected, form: Form::Table, reads: Reads::Watch { from_nothing: true, seconds: 60 } }) =
        read("GET", &path, TABLE)
    else {
        panic!("a watch")
    };
    let mut watch = Watch::new(selected.clone(), Form::Table, true, &fleet.shown(at(60)));
    let kinds = |events: &[Value]| {
        events.iter().filter_map(|event| event["type"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let first = watch.events(&fleet.shown(at(60)), 8);
    assert_eq!((kinds(&first), names(&first[0]["object"])), (vec!["ADDED".to_owned()], vec!["api"]));
    assert!(watch.events(&fleet.shown(at(60)), 9).is_empty());
    for second in 60..75 {
        agent.answers(7, 500, 4);
        agent.run(at(second), &mut fleet);
    }
    let changed = watch.events(&fleet.shown(at(75)), 10);
    assert_eq!(
        (kinds(&changed), &changed[0]["object"]["columnDefinitions"]),
        (vec!["MODIFIED".to_owned()], &Value::Array(Vec::new()))
    );
    assert_eq!(kinds(&watch.events(&fleet.shown(at(400)), 11)), ["DELETED"]);
    // Who has a list gets what changes after it.
    let mut later = Watch::new(selected, Form::Json, false, &fleet.shown(at(400)));
    assert!(later.events(&fleet.shown(at(400)), 12).is_empty());
}

fn certificate(common_name: &str) -> Vec<u8> {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[test]
fn headers_count_only_with_the_front_proxys_certificate() {
    let proxy = FrontProxy {
        ca: String::new(),
        allowed_names: vec!["front-proxy-client".to_owned()],
        user_headers: vec!["X-Remote-User".to_owned()],
    };
    let bob = |name: &str| (name == "X-Remote-User").then(|| "bob".to_owned());
    let right = certificate("front-proxy-client");
    assert_eq!(proxy.user(Some(&right), bob), Ok("bob".to_owned()));
    let refused =
        |proxy: &FrontProxy, certificate: Option<&[u8]>| proxy.user(certificate, bob).is_err_and(|f| f.code == 401);
    assert!(refused(&proxy, None) && refused(&proxy, Some(&certificate("admin"))) && refused(&proxy, Some(b"none")));
    assert!(proxy.user(Some(&right), |_| None).is_err());
    // An empty list is any that the CA has signed.
    let any = FrontProxy { allowed_names: Vec::new(), ..proxy };
    assert_eq!(any.user(Some(&certificate("other")), bob), Ok("bob".to_owned()));
    assert_eq!(common_name(&right).as_deref(), Some("front-proxy-client"));
    for length in 0..right.len() {
        let _ = common_name(&right[..length]);
    }
}
