//! The service map as a browser asks for it: over a socket, and where Chromium is there in Chromium.
#![forbid(unsafe_code)]

#[cfg(feature = "browser")]
mod browser;
mod people;
mod world;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use flow_model::WorkloadKind;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use testbed::until_some;
use world::{Agent, People, World, shop};

struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> &str {
        self.head.get(9..12).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let of = |line: &'_ str| line.split_once(": ").map(|(name, _)| name.to_ascii_lowercase());
        let line = self.head.lines().find(|line| of(line).as_deref() == Some(name))?;
        line.split_once(": ").map(|(_, value)| value)
    }
}

/// With these header lines besides `Connection`.
fn ask(address: SocketAddr, line: &str, headers: &str) -> Result<Answer> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
    tcp.write_all(format!("{line} HTTP/1.1\r\n{headers}connection: close\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    tcp.read_to_end(&mut bytes)?;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("no head")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    Ok(Answer { head, body: bytes[end + 4..].to_vec() })
}

fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    ask(address, &format!("GET {path}"), "host: localhost:8080\r\n")
}

fn json(address: SocketAddr, path: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&get(address, path)?.body)?)
}

fn wait<T>(what: &str, mut get: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_some(what, Duration::from_secs(60), || get().transpose())?
}

fn named<'a>(map: &'a Value, name: &str) -> Option<(usize, &'a Value)> {
    map["workloads"].as_array()?.iter().enumerate().find(|(_, workload)| workload["name"] == name)
}

fn edge<'a>(map: &'a Value, client: &str, server: &str) -> Option<&'a Value> {
    let (c, s) = (named(map, client)?.0, named(map, server)?.0);
    map["edges"].as_array()?.iter().find(|edge| edge["c"] == c && edge["s"] == s)
}

/// A metric by its name and its label's value.
fn metric(world: &World, name: &str, label: &str) -> f64 {
    let is_it = |metric: &golden_metrics::SelfMetric| {
        metric.name == name && (label.is_empty() || metric.labels.iter().any(|(_, value)| value == label))
    };
    world.map.metrics().iter().find(|metric| is_it(metric)).map_or(-1.0, |metric| metric.value)
}

#[test]
fn the_page_is_served_to_this_machine_alone() -> Result<()> {
    let world = World::new(&[]);
    for (path, kind) in
        [("/", "text/html"), ("/map.js", "text/javascript"), ("/map.css", "text/css"), ("/map.svg", "image/svg")]
    {
        let answer = get(world.address, path)?;
        ensure!(
            answer.status() == "200" && answer.header("content-type").is_some_and(|of| of.starts_with(kind)),
            "{path}"
        );
        let policy = answer.header("content-security-policy").unwrap_or_default();
        for part in ["default-src 'none'", "script-src 'self'", "require-trusted-types-for 'script'"] {
            ensure!(policy.contains(part) && !policy.contains("unsafe"), "{policy}");
        }
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cross-origin-resource-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            ensure!(answer.header(name) == Some(value), "{path}: {name}: {:?}", answer.header(name));
        }
        ensure!(answer.header("access-control-allow-origin").is_none());
    }
    // A name that leads to this machine for a moment (DNS rebinding), two of them, none.
    for headers in [
        "host: evil.example\r\n",
        "host: 10.0.0.9:8080\r\n",
        "host: localhost:8080\r\nhost: evil.example\r\n",
        "",
        "host: localhost\r\nsec-fetch-site: cross-site\r\n",
    ] {
        let answer = ask(world.address, "GET /api/map", headers)?;
        ensure!(matches!(answer.status(), "403" | "400"), "{headers}: {}", answer.head);
        ensure!(!String::from_utf8_lossy(&answer.body).contains("workloads"), "{headers}");
    }
    ensure!(metric(&world, "pilotfish_companion_map_refused_total", "host") >= 3.0);
    ensure!(metric(&world, "pilotfish_companion_map_refused_total", "site") == 1.0);
    let absolute = ask(world.address, "GET http://evil.example/api/map", "host: localhost:8080\r\n")?;
    ensure!(absolute.status() == "403", "{}", absolute.head);
    for (line, status) in [
        ("POST /api/map", "405"),
        ("OPTIONS /api/map", "405"),
        ("GET /metrics", "404"),
        ("GET /api/edge/0000000000000000", "404"),
        ("GET /api/edge/..%2f..", "404"),
        ("GET /../Cargo.toml", "404"),
        ("HEAD /", "200"),
    ] {
        let answer = ask(world.address, line, "host: [::1]:1\r\n")?;
        ensure!(answer.status() == status, "{line}: {}", answer.head);
    }
    // Nothing was asked of agents for it.
    let open = json(world.address, "/api/map")?;
    ensure!(open["workloads"].as_array().is_some_and(Vec::is_empty) && open["agents"]["live"] == 0, "{open}");
    Ok(())
}

#[test]
fn the_map_tells_what_was_counted_and_what_is_missing() -> Result<()> {
    let world = shop();
    let map = wait("a map with rates", || {
        let map = json(world.address, "/api/map")?;
        let is_there = edge(&map, "web", "reviews").is_some_and(|edge| edge["r"].as_f64() > Some(1.0));
        Ok((is_there && !map["losses"].as_array().is_none_or(Vec::is_empty)).then_some(map))
    })?;
    ensure!(map["agents"]["live"] == 2 && map["agents"]["absent"] == 1, "{}", map["agents"]);
    ensure!(map["agents"]["trouble"][0]["node"] == "node-3", "{}", map["agents"]);
    let lost = |stage: &str| map["losses"].as_array().and_then(|all| all.iter().find(|loss| loss["stage"] == stage));
    ensure!(lost("kernel").is_some_and(|loss| loss["reason"] == "ring_full" && loss["lately"].as_u64() > Some(0)));
    ensure!(lost("exchanges").is_some_and(|loss| loss["reason"] == "gap"), "{}", map["losses"]);
    let failing = edge(&map, "web", "reviews").context("an edge")?;
    let success = failing["ok"].as_f64().context("success")?;
    ensure!((success - 9.0 / 11.0).abs() < 1e-9, "{failing}");
    ensure!(failing["live"] == 2 && failing["all"] == 2 && failing["by"][0]["p"] == "http", "{failing}");
    let p95 = failing["p95"].as_f64().context("p95")?;
    ensure!((p95 / 0.9 - 1.0).abs() < 0.02, "{p95}");
    let ledger = edge(&map, "cart", "ledger").context("an edge")?;
    ensure!(ledger["lost"].as_u64() > Some(0) && ledger["open"].as_u64() > Some(0), "{ledger}");
    // Names are as containers say, to the letter.
    let (_, hostile) = named(&map, "<img src=x onerror=globalThis.pwned=1>").context("a hostile name")?;
    ensure!(hostile["ns"] == "\"><script>globalThis.pwned=1</script>", "{hostile}");

    let id = failing["id"].as_str().context("an id")?;
    let detail = json(world.address, &format!("/api/edge/{id}"))?;
    let http = &detail["protocols"][0];
    ensure!(http["protocol"] == "http" && http["reporter"] == "client", "{detail}");
    let codes = http["codes"].as_array().context("codes")?;
    let of = |status: &str| codes.iter().find(|code| code["status"] == status);
    let (good, bad) = (of("200").context("200")?, of("503").context("503")?);
    ensure!(good["failed"] == false && bad["failed"] == true, "{codes:?}");
    let counts = [good, bad].map(|code| code["count"].as_u64().unwrap_or_default());
    ensure!(counts[0] * 2 == counts[1] * 9 && http["requests"] == counts[0] + counts[1], "{http}");
    ensure!(http["failures"] == counts[1], "{http}");
    let buckets = http["buckets"].as_array().context("buckets")?;
    let in_buckets: u64 = buckets.iter().filter_map(|bucket| bucket[1].as_u64()).sum();
    ensure!(in_buckets == counts[0] + counts[1], "{buckets:?}");
    let tcp = &detail["transports"][0];
    ensure!(tcp["transport"] == "tcp" && tcp["open"].as_u64() > Some(0), "{detail}");
    let [opened, resets] = [&tcp["opened"], &tcp["closed"][1]].map(|count| count.as_u64().unwrap_or_default());
    ensure!(opened > 0 && opened == 2 * resets, "{tcp}");
    ensure!(
        tcp["retransmits"] == serde_json::json!([3 * resets, resets]) && tcp["zero_windows"][1] == 2 * resets,
        "{tcp}"
    );
    ensure!(tcp["handshake_p95"].as_f64().is_some_and(|p95| (p95 / 0.0004 - 1.0).abs() < 0.02), "{tcp}");
    Ok(())
}

#[test]
fn pages_share_one_rendering_a_second_and_agents_are_asked_to_push_faster_for_them() -> Result<()> {
    let world = shop();
    let before = metric(&world, "pilotfish_companion_map_renderings_total", "");
    let began = std::time::Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let pages: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..25).try_for_each(|_| json(world.address, "/api/map").map(drop))))
            .collect();
        pages.into_iter().try_for_each(|page| page.join().expect("a page"))
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let made = metric(&world, "pilotfish_companion_map_renderings_total", "") - before;
    ensure!(made <= seconds + 2.0, "{made} in {seconds} s");
    ensure!(metric(&world, "pilotfish_companion_map_requests_total", "") >= 200.0);
    ensure!(metric(&world, "pilotfish_companion_map_open", "") == 1.0);
    let headers = "host: 127.0.0.1\r\naccept-encoding: br, gzip\r\n";
    let packed = ask(world.address, "GET /api/map", headers)?;
    ensure!(packed.header("content-encoding") == Some("gzip"), "{}", packed.head);
    let mut text = String::new();
    GzDecoder::new(&*packed.body).read_to_string(&mut text)?;
    ensure!(serde_json::from_str::<Value>(&text)?["workloads"].is_array());
    Ok(())
}

#[test]
fn what_a_page_cannot_show_is_left_out_and_told() -> Result<()> {
    let count = companion::map::WORKLOADS + 60;
    let name = |n: usize| (format!("ns-{}", n / 50), format!("w-{n}"), WorkloadKind::Deployment);
    let people = People::new((0..count).map(name));
    let world = World::new(&["n1"]);
    world.goes_on(vec![Agent::new("n1", 11, &people)], move |_, agents| {
        for n in 1..count {
            // The busiest are the last.
            agents[0].asks((0, n), if n > count - 10 { 3 } else { 1 }, 200, 1_000);
        }
    });
    let map = wait("more than fits", || {
        let map = json(world.address, "/api/map")?;
        Ok((map["left_out"]["workloads"].as_u64() > Some(0)).then_some(map))
    })?;
    let shown = |what: &str| map[what].as_array().map_or(0, Vec::len);
    ensure!(shown("workloads") == companion::map::WORKLOADS, "{}", shown("workloads"));
    ensure!(map["left_out"]["workloads"] == 60 && map["left_out"]["edges"] == 60, "{}", map["left_out"]);
    ensure!(metric(&world, "pilotfish_companion_map_left_out", "") == 120.0);
    Ok(())
}
