//! What is read of objects as the API sends them, and of bytes that nobody should send.

use super::*;
use crate::cluster::object::{Controller, EndpointSlice, Job, Node, Pod, Probe, Service, ServiceEndpoint};
use proptest::prelude::*;
use std::time::{Duration, SystemTime};

const UID: &str = "0f3ac1ee-8d2b-4a76-9c63-0d1f2a3b4c5d";

fn uid() -> Uid {
    Uid::parse(UID).expect("a uid")
}

fn line(kind: &str, object: &str) -> Vec<u8> {
    format!(r#"{{"type":"{kind}","object":{object}}}"#).into_bytes()
}

fn pod(spec: &str, status: &str) -> String {
    format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"web-1","namespace":"shop","uid":"{UID}","resourceVersion":"77",
        "labels":{{"app":"web","pod-template-hash":"5d4","rollouts-pod-template-hash":"9ab"}},"annotations":{{"kubernetes.io/config.hash":"{UID}"}},
        "ownerReferences":[{{"kind":"Node","name":"n"}},{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-5d4","uid":"x","controller":true}}],
        "managedFields":[{{"manager":"kubelet","fieldsV1":{{"f:status":{{}}}}}}]}},"spec":{spec},"status":{status}}}"#
    )
}

fn good_pod() -> String {
    pod(
        r#"{"nodeName":"node-1","containers":[{"name":"a","env":[{"name":"SECRET","value":"s"}],"ports":[{"containerPort":8080},{"containerPort":0}]},{"name":"b"}]}"#,
        r#"{"phase":"Running","podIP":"10.0.0.7","podIPs":[{"ip":"10.0.0.7"},{"ip":"fd00::7"},{"ip":"nonsense"}],"startTime":"2026-11-21T06:30:00Z"}"#,
    )
}

#[test]
fn a_pod_is_read_and_nothing_else_of_it_kept() {
    let Event::Applied { object: Object::Pod(pod), version, is_new } =
        event(Resource::Pods, &line("ADDED", &good_pod()))
    else {
        panic!("a pod");
    };
    assert_eq!((version.as_deref(), is_new), (Some("77"), true));
    assert_eq!(
        pod,
        Pod {
            uid: uid(),
            static_uid: Some(uid()),
            namespace: "shop".into(),
            name: "web-1".into(),
            node: Some("node-1".into()),
            ips: vec!["10.0.0.7".parse().expect("ip"), "fd00::7".parse().expect("ip")],
            host_network: false,
            ended: false,
            deleted_by: None,
            started: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_242_600)),
            controller: Some(Controller { kind: "ReplicaSet".into(), name: "web-5d4".into() }),
            template_hash: Some("5d4".into()),
            rollout_hash: Some("9ab".into()),
            ports: vec![8080],
            probes: Some(Vec::new()),
        }
    );
}

#[test]
fn probes_by_plain_http_are_read_with_their_defaults_and_no_others() {
    let spec = r#"{"terminationGracePeriodSeconds":7,"containers":[
        {"name":"web","ports":[{"name":"http","containerPort":8080},{"containerPort":9}],
         "readinessProbe":{"httpGet":{"path":"/ready?full=1","port":"http","scheme":"HTTP"},"timeoutSeconds":2,"periodSeconds":5,"successThreshold":1,"failureThreshold":5},
         "livenessProbe":{"httpGet":{"path":"live","port":8081},"terminationGracePeriodSeconds":0},
         "startupProbe":{"httpGet":{"path":"/up","port":"absent"}}},
        {"name":"tls","livenessProbe":{"httpGet":{"path":"/","port":443,"scheme":"HTTPS"}},"readinessProbe":{"tcpSocket":{"port":9}}},
        {"name":"out","livenessProbe":{"httpGet":{"port":80,"host":"example.com"}},"readinessProbe":{"exec":{"command":["true"]}},"startupProbe":{"grpc":{"port":5}}}],
      "initContainers":[{"name":"mesh","restartPolicy":"Always","startupProbe":{"httpGet":{"port":15021}}}]}"#;
    let Event::Applied { object: Object::Pod(read), .. } =
        event(Resource::Pods, &line("ADDED", &pod(spec, "null").replace('\n', "")))
    else {
        panic!("a pod");
    };
    let shown = |probe: &Probe| {
        let Probe { container, kind, path, port, timeout_s, failures, grace_s } = probe;
        format!("{container} {kind:?} {path} :{port} {timeout_s} s, {failures} times, {grace_s} s")
    };
    let shown: Vec<String> = read.probes.iter().flatten().map(shown).collect();
    assert_eq!(
        shown,
        [
            "web Liveness /live :8081 1 s, 3 times, 0 s",
            "web Readiness /ready?full=1 :8080 2 s, 5 times, 7 s",
            "mesh Startup / :15021 1 s, 3 times, 7 s",
        ]
    );
}

#[test]
fn a_pod_that_is_only_scheduled_has_no_address_yet() {
    let Event::Applied { object: Object::Pod(read), is_new, .. } =
        event(Resource::Pods, &line("MODIFIED", &pod(r#"{"hostNetwork":true,"nodeName":""}"#, "null")))
    else {
        panic!("a pod");
    };
    assert_eq!((read.ips.len(), read.host_network, read.node, is_new), (0, true, None, false));
    let Event::Applied { object: Object::Pod(read), .. } =
        event(Resource::Pods, &line("MODIFIED", &pod("{}", r#"{"phase":"Failed","podIP":"10.0.0.9"}"#)))
    else {
        panic!("a pod");
    };
    assert_eq!((read.ips, read.ended), (vec!["10.0.0.9".parse().expect("ip")], true));
}

fn meta(more: &str) -> String {
    format!(r#""metadata":{{"name":"x","namespace":"shop","uid":"{UID}","resourceVersion":"5"{more}}}"#)
}

fn read(resource: Resource, json: &str) -> Object {
    item(resource, json).expect("an object")
}

#[test]
fn services_of_all_kinds() {
    let service = |json: &str| match read(Resource::Services, &format!("{{{},{json}}}", meta(""))) {
        Object::Service(service) => service,
        other => panic!("{other:?}"),
    };
    let full = service(
        r#""spec":{"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9","fd01::9"],"externalIPs":["192.0.2.1"],"ports":[{"port":80,"nodePort":30080},{"port":81}]},
        "status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.2"},{"hostname":"lb"}]}}"#,
    );
    let ip = |text: &str| text.parse().expect("ip");
    assert_eq!(
        full,
        Service {
            uid: uid(),
            namespace: "shop".into(),
            name: "x".into(),
            cluster_ips: vec![ip("10.96.0.9"), ip("fd01::9")],
            external_ips: vec![ip("192.0.2.1"), ip("192.0.2.2")],
            node_ports: vec![30080],
            ports: vec![80, 81],
            created: None,
            external_name: None,
        }
    );
    assert_eq!(
        service(r#""spec":{"clusterIP":"None","clusterIPs":["None"]}"#).cluster_ips,
        Vec::<std::net::IpAddr>::new()
    );
    assert_eq!(service(r#""spec":{"externalName":"db.example"}"#).external_name.as_deref(), Some("db.example"));
    assert_eq!(service(r#""spec":{"clusterIP":"10.96.0.9"}"#).cluster_ips, [ip("10.96.0.9")]);
}

#[test]
fn slices_with_null_where_go_has_an_empty_list() {
    let labels = r#","labels":{"kubernetes.io/service-name":"api"}"#;
    let json = format!(
        r#"{{{},"addressType":"IPv4","endpoints":[{{"addresses":["10.0.0.1"],"targetRef":{{"kind":"Pod","uid":"{UID}"}}}},{{"addresses":null}}],"ports":[{{"name":"","port":8080}},{{"port":null}}]}}"#,
        meta(labels)
    );
    let expected = EndpointSlice {
        uid: uid(),
        namespace: "shop".into(),
        service: Some("api".into()),
        endpoints: vec![
            ServiceEndpoint { addresses: vec!["10.0.0.1".parse().expect("ip")], pod: Some(uid()) },
            ServiceEndpoint { addresses: Vec::new(), pod: None },
        ],
        ports: vec![8080],
    };
    assert_eq!(read(Resource::EndpointSlices, &json), Object::EndpointSlice(expected));
    let empty = read(Resource::EndpointSlices, &format!(r#"{{{},"endpoints":null,"ports":null}}"#, meta("")));
    assert!(matches!(empty, Object::EndpointSlice(slice) if slice.endpoints.is_empty() && slice.service.is_none()));
}

#[test]
fn nodes_and_jobs() {
    let json = format!(
        r#"{{{},"status":{{"addresses":[{{"type":"InternalIP","address":"10.1.0.1"}},{{"type":"Hostname","address":"x"}},{{"type":"ExternalIP","address":"192.0.2.9"}}],"images":[{{"names":["a"]}}]}}}}"#,
        meta("")
    );
    let addresses = vec!["10.1.0.1".parse().expect("ip"), "192.0.2.9".parse().expect("ip")];
    assert_eq!(read(Resource::Nodes, &json), Object::Node(Node { uid: uid(), name: "x".into(), addresses }));
    let owner = r#","ownerReferences":[{"kind":"CronJob","name":"nightly","controller":true}]"#;
    let job = Job { uid: uid(), namespace: "shop".into(), name: "x".into(), cron_job: Some("nightly".into()) };
    assert_eq!(read(Resource::Jobs, &format!("{{{}}}", meta(owner))), Object::Job(job));
}

#[test]
fn bookmarks_errors_and_deletions() {
    let bookmark = |notes: &str| {
        event(
            Resource::Pods,
            &line(
                "BOOKMARK",
                &format!(
                    r#"{{"kind":"Pod","metadata":{{"resourceVersion":"12","creationTimestamp":null{notes}}},"spec":{{"containers":null}},"status":{{}}}}"#
                ),
            ),
        )
    };
    let end = r#","annotations":{"k8s.io/initial-events-end":"true"}"#;
    assert_eq!(bookmark(""), Event::Bookmark { version: "12".into(), ends_initial_events: false });
    assert_eq!(bookmark(end), Event::Bookmark { version: "12".into(), ends_initial_events: true });
    let gone = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 3 (9)","reason":"Expired","code":410}"#;
    let status = Status { code: 410, reason: "Expired".into(), message: "too old resource version: 3 (9)".into() };
    assert_eq!(event(Resource::Pods, &line("ERROR", gone)), Event::Error(status.clone()));
    assert_eq!(event(Resource::Jobs, gone.as_bytes()), Event::Error(status), "a bare status, as a gateway writes it");
    assert_eq!(event(Resource::Pods, &line("DELETED", &good_pod())), Event::Deleted(uid(), Some("77".into())));
}

#[test]
fn a_bad_object_is_skipped_and_its_version_counts() {
    for (object, bad) in [
        (r#"{"metadata":{"name":"x","resourceVersion":"9"}}"#.to_owned(), Bad::Nameless),
        (format!(r#"{{"metadata":{{"uid":"{UID}","resourceVersion":"9"}}}}"#), Bad::Nameless),
        (format!(r#"{{"metadata":{{"name":"x","uid":"{UID}","resourceVersion":"9"}},"spec":7}}"#), Bad::Malformed),
        (
            format!(r#"{{"metadata":{{"name":"{}","uid":"{UID}","resourceVersion":"9"}}}}"#, "n".repeat(254)),
            Bad::TooLarge,
        ),
        (
            format!(
                r#"{{"metadata":{{"name":"x","uid":"{UID}","resourceVersion":"9"}},"status":{{"podIPs":[{}]}}}}"#,
                vec![r#"{"ip":"10.0.0.1"}"#; 1_001].join(",")
            ),
            Bad::TooLarge,
        ),
    ] {
        assert_eq!(
            event(Resource::Pods, &line("ADDED", &object)),
            Event::Skipped(bad, Some("9".into())),
            "{object:.200}"
        );
    }
    let odd = format!(r#"{{"metadata":{{"uid":"{UID}","resourceVersion":"9"}},"spec":7}}"#);
    assert_eq!(
        event(Resource::Pods, &line("DELETED", &odd)),
        Event::Deleted(uid(), Some("9".into())),
        "a uid is enough to be gone"
    );
}

#[test]
fn lines_that_make_no_sense_are_skipped() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in [
        "",
        "x",
        "{}",
        "null",
        "[]",
        r#"{"type":"ADDED"}"#,
        r#"{"type":"WONDER","object":{}}"#,
        r#"{"object":{},"type":3}"#,
        r#"{"type":"BOOKMARK","object":{}}"#,
        &format!(r#"{{"type":"ADDED","object":{deep}}}"#),
        "{\"type\":\"ADDED\",\"object\":{\"a\":\"\u{0}\"}}",
    ] {
        for resource in Resource::ALL {
            assert!(matches!(event(resource, text.as_bytes()), Event::Skipped(..)), "{text:.60}");
        }
    }
    assert!(matches!(event(Resource::Pods, b"\xff\xfe"), Event::Skipped(Bad::Malformed, None)));
}

#[test]
fn a_pod_that_was_deleted_is_to_be_gone_by_then() {
    let deleted = good_pod().replacen(
        r#""resourceVersion":"77","#,
        r#""resourceVersion":"78","deletionTimestamp":"2026-11-21T06:30:00Z","deletionGracePeriodSeconds":30,"#,
        1,
    );
    let Event::Applied { object: Object::Pod(read), .. } = event(Resource::Pods, &line("MODIFIED", &deleted)) else {
        panic!("a pod");
    };
    assert_eq!(read.deleted_by, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_242_600)));
}

#[test]
fn a_page_keeps_its_good_objects() {
    let body = format!(
        r#"{{"kind":"PodList","metadata":{{"resourceVersion":"500","continue":"next","remainingItemCount":7}},"items":[{},{{"metadata":3}},{{}}]}}"#,
        good_pod()
    );
    let page = page(Resource::Pods, body.as_bytes()).expect("a page");
    assert_eq!((page.objects.len(), page.skipped), (1, vec![Bad::Malformed, Bad::Nameless]));
    assert_eq!((page.version.as_str(), page.next.as_deref(), page.remaining), ("500", Some("next"), Some(7)));
}

#[test]
fn the_last_page_has_no_next() {
    let page_of = |body: &str| page(Resource::Pods, body.as_bytes());
    let last = page_of(r#"{"metadata":{"resourceVersion":"500","continue":""},"items":null}"#).expect("a page");
    assert_eq!((last.objects.len(), last.next, last.remaining), (0, None, None));
    for body in ["", "[]", r#"{"items":3}"#, r#"{"metadata":{"resourceVersion":"5"#] {
        assert!(page_of(body).is_err(), "{body}");
    }
}

#[test]
fn what_a_status_says_is_bounded() {
    let long = format!(r#"{{"code":403,"message":"{}"}}"#, "ä".repeat(5_000));
    for status in [Status::of_body(403, long.as_bytes()), Status::of_body(502, "ö".repeat(5_000).as_bytes())] {
        assert!(status.message.len() <= 1_000, "{}", status.message.len());
    }
    assert_eq!(Status::of_body(503, b" busy \n").message, "busy");
}

proptest! {
    #[test]
    fn no_bytes_are_fatal(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for resource in Resource::ALL {
            let _ = event(resource, &bytes);
            let _ = page(resource, &bytes);
        }
        let _ = Status::of_body(500, &bytes);
    }

    /// Good events with a few bytes changed reach deeper than random ones.
    #[test]
    fn no_damage_is_fatal(places in proptest::collection::vec((0usize..900, any::<u8>()), 1..4), end in 0usize..1_200) {
        let mut bytes = line("ADDED", &good_pod());
        for (at, value) in places {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(end.max(1));
        let _ = event(Resource::Pods, &bytes);
        let _ = page(Resource::Pods, &bytes);
    }
}
