//! `pilotfish timeline`: when containers of this node began and ended, and what each end cut.

use super::output::{for_people, json, print, write};
use crate::cli::args::{Output, TimelineArgs};
use crate::cli::moment::{clock_time, rfc3339_millis};
use crate::exit::Failure;
use agent_api::{Client, CutRow, ProbeRow, Timeline, TimelineEvent};
use flow_model::rfc3339;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Between two questions of `-f`.
const AGAIN: Duration = Duration::from_secs(1);
/// Clients of one exit that a line names.
const CLIENTS: usize = 4;
/// Times of one client that a line tells.
const TIMES: usize = 3;

/// The document of `-o json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    at: String,
    /// Everything since then is known.
    from: String,
    /// When no agent looked.
    blind: Vec<[String; 2]>,
    events: Vec<Told<'a>>,
}

#[derive(Serialize)]
struct Told<'a> {
    at: String,
    #[serde(flatten)]
    event: &'a TimelineEvent,
}

pub fn run(socket: &Path, args: &TimelineArgs) -> Result<(), Failure> {
    let client = Client::new(socket);
    let mut found = client.timeline(Some(args.since))?;
    found.events.retain(|event| wanted(args, event));
    if !args.follow {
        return match args.output {
            Output::Json => print(&document(&found)?),
            Output::Table => print(&page(&for_people(&found)?, args.since)),
        };
    }
    // Only what nothing is added to any more is told, so that no line has to be taken back.
    let mut told = 0;
    loop {
        let mut lines = String::new();
        found.events.sort_by_key(|event| event.seq);
        let new = found.events.iter().filter(|event| event.seq > told).take_while(|event| event.settled);
        for event in new.collect::<Vec<_>>() {
            told = event.seq;
            if wanted(args, event) {
                lines.push_str(&match args.output {
                    Output::Json => line(event)?,
                    Output::Table => event_lines(&for_people(event)?),
                });
            }
        }
        if !write(&lines)? {
            return Ok(());
        }
        std::thread::sleep(AGAIN);
        found = client.timeline(Some(args.since))?;
    }
}

fn wanted(args: &TimelineArgs, event: &TimelineEvent) -> bool {
    let TimelineEvent { namespace, workload, pod, container_id, .. } = event;
    let in_namespace = args.namespace.as_ref().is_none_or(|wanted| wanted == namespace);
    let is_it = |wanted: &String| {
        let name = match wanted.split_once('/') {
            Some((of, name)) if of == namespace => name,
            Some(_) => return false,
            None => wanted,
        };
        [workload, pod, container_id].into_iter().any(|known| known == name)
    };
    in_namespace && args.workload.as_ref().is_none_or(is_it)
}

fn moment(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn document(found: &Timeline) -> Result<String, Failure> {
    let Timeline { now_ms, from_ms, blind_ms, events, .. } = found;
    let at = |ms: u64| rfc3339_millis(moment(ms));
    json(&Document {
        schema: "pilotfish.timeline/1",
        at: at(*now_ms),
        from: at(*from_ms),
        blind: blind_ms.iter().map(|(from, to)| [at(*from), at(*to)]).collect(),
        events: events.iter().map(|event| Told { at: at(event.at_ms), event }).collect(),
    })
}

/// One object a line, for `-f`.
fn line(event: &TimelineEvent) -> Result<String, Failure> {
    let told = json(&Told { at: rfc3339_millis(moment(event.at_ms)), event })?;
    // What is within a string has no line end of its own in JSON.
    Ok(told.lines().map(str::trim_start).collect::<String>() + "\n")
}

fn page(found: &Timeline, since: Duration) -> String {
    let Timeline { now_ms, from_ms, blind_ms, events, .. } = found;
    let mut out: String = events.iter().map(event_lines).collect();
    if events.is_empty() {
        out.push_str("nothing happened\n");
    }
    let first = now_ms.saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    if *from_ms > first {
        out.push_str(&format!("known since {}: nothing is kept of the time before\n", rfc3339(moment(*from_ms))));
    }
    for (from, to) in blind_ms {
        let (from, to) = (rfc3339(moment(*from)), rfc3339(moment(*to)));
        out.push_str(&format!("nobody looked from {from} to {to}\n"));
    }
    out
}

fn event_lines(event: &TimelineEvent) -> String {
    let TimelineEvent { at_ms, event: word, namespace, workload, pod, settled, .. } = event;
    let whose = if namespace.is_empty() { workload.clone() } else { format!("{namespace}/{workload}") };
    let at = clock_time(moment(*at_ms));
    let head = |word: &str| format!("{at}  {word:<5}  {whose}{}{pod}  ", if pod.is_empty() { "" } else { "  " });
    let open = if *settled { "" } else { "; more may follow" };
    match word.as_str() {
        "start" => format!("{}{}\n", head("start"), started(event)),
        "oom" => format!("{}{}\n", head("oom"), killed(event)),
        "exit" => {
            let cut = match cut(event) {
                Some(cut) => format!("{}{cut}\n", head("cut")),
                None => String::new(),
            };
            format!("{cut}{}{}{open}\n", head("exit"), ended(event))
        }
        // Of a later agent.
        other => format!("{}\n", head(other)),
    }
}

fn which(event: &TimelineEvent) -> String {
    match (event.sandbox, event.container.as_str()) {
        (true, _) => "sandbox".to_owned(),
        (false, "") => "container".to_owned(),
        (false, name) => format!("container {name}"),
    }
}

fn started(event: &TimelineEvent) -> String {
    let down = event.down_ms.map(|down| format!("; it was away for {}", waited(down))).unwrap_or_default();
    format!("{}, pid {}{down}", which(event), event.pid)
}

fn killed(event: &TimelineEvent) -> String {
    let times = match event.times {
        0 | 1 => String::new(),
        times => format!(" ({times} times in 10 min)"),
    };
    format!("{}: a process was killed because memory ran out{times}", which(event))
}

fn ended(event: &TimelineEvent) -> String {
    let code = match event.code {
        None => "nobody told how".to_owned(),
        Some(code @ 129..=192) => format!("code {code} ({})", signal(code - 128)),
        Some(code) => format!("code {code}"),
    };
    let oom = event.oom_ms.map(|ms| format!(", {} after memory ran out", waited(ms))).unwrap_or_default();
    let probe = event.probe.as_deref().map(by_probe).unwrap_or_default();
    format!("{}, {code}{oom}{probe}", which(event))
}

fn by_probe(row: &ProbeRow) -> String {
    format!(", by the kubelet: the {} probe {} failed", row.probe, row.path)
}

fn signal(number: u32) -> String {
    let known = i32::try_from(number).ok().and_then(|number| nix::sys::signal::Signal::try_from(number).ok());
    known.map_or_else(|| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

/// What it cut, if anything.
fn cut(event: &TimelineEvent) -> Option<String> {
    let TimelineEvent { cut_requests, cut, streams, likely, .. } = event;
    let mut parts = Vec::new();
    if *cut_requests > 0 {
        let mut rows: Vec<String> = cut.iter().take(CLIENTS).map(row).collect();
        let told: u64 = cut.iter().take(CLIENTS).map(|row| row.requests).sum();
        if *cut_requests > told {
            rows.push(format!("{} more", cut_requests - told));
        }
        let plural = if *cut_requests == 1 { "" } else { "s" };
        parts.push(format!("{cut_requests} request{plural} unanswered: {}", rows.join(", ")));
    }
    if *streams > 0 {
        parts.push(format!("{streams} streams ended"));
    }
    if parts.is_empty() {
        return None;
    }
    let likely = if *likely { " (by this or another container of the pod)" } else { "" };
    Some(format!("{}{likely}", parts.join("; ")))
}

fn row(row: &CutRow) -> String {
    let CutRow { client_namespace, client, what, requests, broken_off, waited_ms, .. } = row;
    let from = if client_namespace.is_empty() { client.clone() } else { format!("{client_namespace}/{client}") };
    let mut notes: Vec<String> = Vec::new();
    let times: Vec<String> = waited_ms.iter().take(TIMES).map(|ms| waited(*ms)).collect();
    if !times.is_empty() {
        let more = if *requests as usize > times.len() { ", .." } else { "" };
        notes.push(format!("waited {}{more}", times.join(", ")));
    }
    if *broken_off > 0 {
        notes.push(format!("{broken_off} answers broke off"));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
    format!("{requests} x {what} from {from}{notes}")
}

fn waited(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{:.1} s", ms as f64 / 1e3),
        10_000..600_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn event(seq: u64, at_ms: u64, event: &str) -> TimelineEvent {
        TimelineEvent {
            seq,
            at_ms: 1_795_242_600_000 + at_ms,
            event: event.into(),
            namespace: "shop".into(),
            workload: "api".into(),
            kind: "Deployment".into(),
            pod: "api-7c9f".into(),
            container: "app".into(),
            container_id: "c0ffee".into(),
            pid: 12_345,
            settled: true,
            ..TimelineEvent::default()
        }
    }

    fn row_of(client: &str, what: &str, waited_ms: &[u64]) -> CutRow {
        CutRow {
            client_namespace: "shop".into(),
            client: client.into(),
            client_kind: "Deployment".into(),
            what: what.into(),
            requests: waited_ms.len() as u64,
            waited_ms: waited_ms.to_vec(),
            ..CutRow::default()
        }
    }

    fn story() -> Timeline {
        let cut = vec![row_of("web", "GET", &[412, 95]), row_of("mobile", "POST", &[1_250])];
        let exit = TimelineEvent {
            code: Some(137),
            oom_ms: Some(8),
            cause: "oom".into(),
            cut_requests: 3,
            cut,
            ..event(3, 338, "exit")
        };
        let again = TimelineEvent { pid: 12_399, down_ms: Some(1_800), ..event(4, 2_138, "start") };
        let events = vec![event(1, 0, "start"), TimelineEvent { times: 3, ..event(2, 330, "oom") }, exit, again];
        let blind_ms = vec![(1_795_242_000_000, 1_795_242_004_000)];
        Timeline { now_ms: 1_795_242_660_000, from_ms: 1_795_242_590_000, blind_ms, events, ..Timeline::default() }
    }

    #[test]
    fn a_page_tells_what_happened_and_what_it_cut() {
        expect![[r#"
            06:30:00.0  start  shop/api  api-7c9f  container app, pid 12345
            06:30:00.3  oom    shop/api  api-7c9f  container app: a process was killed because memory ran out (3 times in 10 min)
            06:30:00.3  cut    shop/api  api-7c9f  3 requests unanswered: 2 x GET from shop/web (waited 412 ms, 95 ms), 1 x POST from shop/mobile (waited 1.2 s)
            06:30:00.3  exit   shop/api  api-7c9f  container app, code 137 (SIGKILL), 8 ms after memory ran out
            06:30:02.1  start  shop/api  api-7c9f  container app, pid 12399; it was away for 1.8 s
            known since 2026-11-21T06:29:50Z: nothing is kept of the time before
            nobody looked from 2026-11-21T06:20:00Z to 2026-11-21T06:20:04Z
        "#]]
        .assert_eq(&page(&story(), Duration::from_secs(600)));
        let nothing = Timeline { now_ms: 5_000, ..Timeline::default() };
        assert_eq!(page(&nothing, Duration::from_secs(5)), "nothing happened\n");
    }

    #[test]
    fn what_is_not_sure_or_not_over_or_too_much_is_said() {
        let mut exit = TimelineEvent { likely: true, settled: false, streams: 2, ..event(3, 0, "exit") };
        exit.cut = (0..6).map(|n| row_of(&format!("c{n}"), "GET", &[1; 5])).collect();
        exit.cut_requests = 35;
        exit.cut[0].broken_off = 1;
        let text = event_lines(&exit);
        let rest = "3 x GET";
        assert!(
            !text.contains(rest)
                && text.contains("5 x GET from shop/c0 (waited 1 ms, 1 ms, 1 ms, ..; 1 answers broke off)"),
            "{text}"
        );
        assert!(
            text.contains("shop/c3") && !text.contains("shop/c4") && text.contains(", 15 more; 2 streams ended"),
            "{text}"
        );
        assert!(text.contains("(by this or another container of the pod)"), "{text}");
        assert!(text.ends_with("nobody told how; more may follow\n"), "{text}");
        let plain =
            TimelineEvent { pod: String::new(), code: Some(0), container: String::new(), ..event(1, 0, "exit") };
        assert_eq!(event_lines(&plain), "06:30:00.0  exit   shop/api  container, code 0\n");
        assert_eq!(event_lines(&event(1, 0, "frozen")), "06:30:00.0  frozen  shop/api  api-7c9f  \n");
    }

    #[test]
    fn a_workload_is_asked_for_by_its_name_its_pods_or_with_its_namespace() {
        let args = |workload: &str, namespace: Option<&str>| TimelineArgs {
            workload: Some(workload.to_owned()),
            namespace: namespace.map(str::to_owned),
            ..TimelineArgs::default()
        };
        let wants = |workload: &str, namespace| wanted(&args(workload, namespace), &event(1, 0, "start"));
        assert!(
            wants("api", None) && wants("shop/api", None) && wants("api-7c9f", None) && wants("c0ffee", Some("shop"))
        );
        assert!(!wants("web", None) && !wants("other/api", None) && !wants("api", Some("other")) && !wants("", None));
    }

    #[test]
    fn json_has_the_names_that_scripts_read() {
        let value: serde_json::Value = serde_json::from_str(&document(&story()).expect("JSON")).expect("JSON");
        assert_eq!(
            (&value["schema"], &value["from"]),
            (&"pilotfish.timeline/1".into(), &"2026-11-21T06:29:50.000Z".into())
        );
        let exit = &value["events"][2];
        assert_eq!(
            (&exit["at"], &exit["event"], &exit["code"]),
            (&"2026-11-21T06:30:00.338Z".into(), &"exit".into(), &137.into())
        );
        assert_eq!((&exit["cut_requests"], &exit["cut"][0]["client"]), (&3.into(), &"web".into()));
        let line = line(&story().events[2]).expect("JSON");
        assert_eq!(line.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["cut"][1]["waited_ms"][0], 1_250);
    }
}
