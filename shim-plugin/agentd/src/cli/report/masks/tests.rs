use super::*;
use crate::cli::report::part::{Form, Part};
use agent_api::{Cgroup, CutRow, Namespace, Status, Timeline, TimelineEvent, Version};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What the text becomes, with the letters of each mask told as the place of its first use.
fn masked(masks: &mut Masks, text: &str) -> String {
    let mut out = masks.text(text);
    let mut letters: Vec<(usize, String)> =
        masks.all().filter_map(|mask| Some((out.find(mask)?, mask.to_owned()))).collect();
    letters.sort();
    for (n, (_, mask)) in letters.into_iter().enumerate() {
        let (kind, _) = mask.split_once('-').expect("kind-letters");
        out = out.replace(&mask, &format!("<{kind} {n}>"));
    }
    out
}

fn check(text: &str, expected: &str) {
    let mut masks = Masks::default();
    for (kind, name) in [
        (Kind::Namespace, "shop"),
        (Kind::Workload, "api"),
        (Kind::Pod, "api-7c9f"),
        (Kind::Workload, "nginx.service"),
        (Kind::Workload, "(sd-pam)"),
        (Kind::Namespace, "default"),
    ] {
        masks.name(kind, name);
    }
    assert_eq!(masked(&mut masks, text), expected, "{text}");
}

#[test]
fn a_name_is_replaced_where_it_stands_as_a_word_and_the_longest_first() {
    check("pod shop/api-7c9f of api", "pod <namespace 0>/<pod 1> of <workload 2>");
    check("api, api; apis capi api_x", "<workload 0>, <workload 0>; apis capi <workload 0>_x");
    check("nginx.service nginx.services (sd-pam)", "<workload 0> <host 1> (<workload 2>)");
    check("default/api by pilotfish", "default/<workload 0> by pilotfish");
}

#[test]
fn addresses_hosts_and_ids_are_known_by_their_shape() {
    check("10.1.2.3:80, fd00::1. [fd00::2]:80", "<address 0>:80, <address 1>. [<address 2>]:80");
    check("127.0.0.1:9464 and [::1]:80 and 0.0.0.0", "127.0.0.1:9464 and [::1]:80 and 0.0.0.0");
    check("::ffff:10.1.2.3 at 0a:1b:2c:3d:4e:5f", "<address 0> at <address 1>");
    check("https://api.shop.svc:6443/x master:6443", "https://<host 0>:6443/x <host 1>:6443");
    check("10.1.2.3.nip.io", "<host 0>");
    check("c0ffee00c0ffee00 and 1795242600123 and cafebabecafe", "<id 0> and 1795242600123 and cafebabecafe");
    check(
        "/kubepods-pod0a1b2c3d_1111_2222_3333_0a1b2c3d4e5f.slice/cri-containerd-c0ffee00c0ffee.scope",
        "/kubepods-pod<id 0>.slice/cri-containerd-<id 1>.scope",
    );
}

#[test]
fn what_only_looks_like_a_name_stays() {
    for text in [
        "2026-11-21T06:30:00.123Z 12:34:56 agentd::run",
        "/run/containerd/containerd.sock agent.toml:12 memory.stat net.core.somaxconn",
        "containerd 1.6.20, Linux 6.1.0-28-cloud-amd64, v1.33.0-k3s1",
        "attach.mode = \"auto\"; metrics.max_series",
        "pilotfish.service, containerd.service",
    ] {
        assert_eq!(Masks::default().text(text), text);
    }
}

#[test]
fn one_report_has_one_mask_for_a_name_and_two_reports_have_two() {
    let mask = || {
        let mut masks = Masks::default();
        masks.name(Kind::Pod, "api");
        (masks.text("api"), masks.text("the api."))
    };
    let ((first, again), (other, _)) = (mask(), mask());
    assert_eq!(again, format!("the {first}."));
    assert_ne!(first, other, "two of 16 million");
}

#[test]
fn the_class_of_an_address_and_words_for_no_name_are_no_names() {
    let text = "a{client_workload=\"private\",client_kind=\"Address\",server_workload=\"_unknown\",server_kind=\"Pending\",le=\"0.5\"} 1\n";
    let mut part = Part::whole("metrics.txt", Form::Metrics, text.to_owned());
    let mut masks = Masks::default();
    learn(&mut masks, &part);
    apply(&mut masks, &mut part);
    assert_eq!((part.content.as_deref(), masks.count()), (Some(text), 0));
}

#[test]
fn what_is_not_what_it_should_be_is_left_out() {
    let mut masks = Masks::default();
    let mut part = Part::whole("status.json", Form::Json, "{\"pod\": \"api\"".into());
    apply(&mut masks, &mut part);
    assert_eq!((part.content.as_deref(), part.detail.starts_with("left out")), (None, true));
    let mut lines = Part::whole("log.jsonl", Form::JsonLines, "{\"a\":\"b\"}\nno JSON\n".into());
    apply(&mut masks, &mut lines);
    assert_eq!(lines.content.as_deref(), Some("{\"a\":\"b\"}\n"));
}

/// Names of a made cluster. Each carries a mark that no word of ours has.
#[derive(Clone, Debug)]
struct Names {
    namespaces: Vec<String>,
    workloads: Vec<String>,
    pods: Vec<String>,
    ids: Vec<String>,
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
    host: String,
}

const MARK: &str = "zqx";

impl Names {
    fn marked(&self) -> Vec<String> {
        let Names { namespaces, workloads, pods, ids, v4, v6, host } = self;
        let texts = [namespaces, workloads, pods, ids].into_iter().flatten().chain([host]).cloned();
        texts.chain(v4.iter().map(Ipv4Addr::to_string)).chain(v6.iter().map(Ipv6Addr::to_string)).collect()
    }
}

fn names() -> impl Strategy<Value = Names> {
    let name = || "zqx[a-z0-9]{1,6}([-_.][a-z0-9]{1,4}){0,2}";
    let some = |of: &'static str| proptest::collection::vec(of, 1..4);
    // None that says nothing: the loopback, or no address at all.
    let v4 = proptest::collection::vec((11_u32 << 24..100 << 24).prop_map(Ipv4Addr::from), 1..4);
    let v6 = proptest::collection::vec(any::<u128>().prop_map(|ip| Ipv6Addr::from(ip >> 3 | 1 << 125)), 1..4);
    (some(name()), some(name()), some("[0-9a-f]{64}"), v4, v6, name()).prop_map(
        |(namespaces, workloads, ids, v4, v6, host)| {
            let pods = workloads.iter().enumerate().map(|(n, name)| format!("{name}-{n}f{n}")).collect();
            Names { namespaces, workloads, pods, ids, v4, v6, host }
        },
    )
}

/// Places in a sentence where a name may stand.
const AROUND: [(&str, &str); 10] = [
    ("", ""),
    ("pod ", " is gone"),
    ("\"", "\""),
    ("/var/", "/x"),
    ("(", ")"),
    ("it is ", "."),
    ("a=", ", b"),
    ("https://", ":6443/"),
    ("name_", "_x"),
    ("", ".slice"),
];

/// Every kind of part, with each name in places for names and, `around` it, in texts.
fn parts(names: &Names, around: (&str, &str)) -> Vec<Part> {
    let Names { namespaces, workloads, pods, ids, v4, v6, .. } = names;
    // As a URL has it.
    let bare = |name: String| if name.contains(':') && around.1.starts_with(':') { format!("[{name}]") } else { name };
    let all: Vec<String> =
        names.marked().into_iter().map(|name| format!("{}{}{}", around.0, bare(name), around.1)).collect();
    let at = |list: &Vec<String>, n: usize| list[n % list.len()].clone();
    let addresses: Vec<String> = v4.iter().map(ToString::to_string).chain(v6.iter().map(ToString::to_string)).collect();
    let most = namespaces.len().max(workloads.len()).max(ids.len());
    let mut status = Status {
        version: Version { kernel_object: "0123456789abcdef".into(), ..Version::default() },
        ..Status::default()
    };
    let (mut events, mut metrics) = (Vec::new(), String::from("# HELP a b\n"));
    for n in 0..most {
        let (namespace, workload, pod) = (at(namespaces, n), at(workloads, n), at(pods, n));
        status.namespaces.push(Namespace {
            namespace: namespace.clone(),
            workload: workload.clone(),
            addresses: addresses.clone(),
            reason: all.join(" "),
            ..Namespace::default()
        });
        let path = format!("/kubepods/{}", at(ids, n));
        status.node.cgroups.push(Cgroup { path, reason: all.join(", "), ..Cgroup::default() });
        let cut = vec![CutRow { client_namespace: namespace.clone(), client: workload.clone(), ..CutRow::default() }];
        metrics.push_str(&format!(
            "a{{client_namespace=\"{namespace}\",client_workload=\"{workload}\",server_service=\"{}\",x=\"{}\"}} {n}\n",
            all[n % all.len()].replace('"', "\\\""),
            addresses[n % addresses.len()],
        ));
        events.push(TimelineEvent {
            namespace,
            workload,
            pod,
            container_id: at(ids, n),
            cut,
            ..TimelineEvent::default()
        });
    }
    let json = |value: Result<String, serde_json::Error>| value.expect("JSON");
    let log = |text: &String| json(serde_json::to_string(&serde_json::json!({"message": text, "error": text}))) + "\n";
    let timeline = Timeline { events, ..Timeline::default() };
    let detail = all.join("; ");
    vec![
        Part { detail, ..Part::whole("status.json", Form::Json, json(serde_json::to_string(&status))) },
        Part::whole("timeline.json", Form::Json, json(serde_json::to_string(&timeline))),
        Part::whole("metrics.txt", Form::Metrics, metrics),
        Part::whole("log.jsonl", Form::JsonLines, all.iter().map(log).collect()),
        Part::whole("config.txt", Form::Text, all.join("\n")),
    ]
}

proptest! {
    #[test]
    fn no_marked_name_survives_anywhere(names in names(), around in 0..AROUND.len()) {
        let mut parts = parts(&names, AROUND[around]);
        let mut masks = Masks::default();
        masks.name(Kind::Node, &names.host);
        parts.iter().for_each(|part| learn(&mut masks, part));
        let before: Vec<usize> = parts.iter().map(|part| part.content.as_ref().map_or(0, |text| text.lines().count())).collect();
        parts.iter_mut().for_each(|part| apply(&mut masks, part));
        for part in &parts {
            let content = part.content.as_deref().expect("nothing is left out");
            for name in names.marked().iter().map(String::as_str).chain([MARK]) {
                prop_assert!(!content.contains(name), "{name} in {}: {content}", part.file);
                prop_assert!(!part.detail.contains(name), "{name} in {}", part.detail);
            }
        }
        // What is no name is as it was.
        let status: Status = serde_json::from_str(parts[0].content.as_deref().expect("status")).expect("a status");
        prop_assert_eq!(status.version.kernel_object.as_str(), "0123456789abcdef");
        prop_assert_eq!(parts[2].content.as_ref().map_or(0, |text| text.lines().count()), before[2]);
        prop_assert_eq!(parts[3].content.as_ref().map_or(0, |text| text.lines().count()), before[3]);
    }

    #[test]
    fn any_text_is_masked_without_a_fault(text in "\\PC{0,80}", name in "\\PC{0,8}") {
        let mut masks = Masks::default();
        masks.name(Kind::Pod, &name);
        let once = masks.text(&text);
        prop_assert_eq!(masks.text(&text), once);
    }
}
