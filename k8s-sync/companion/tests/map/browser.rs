//! The page in a Chromium without a screen: `cargo xtask map-test`.

use crate::world::{Agent, People, World, shop};
use anyhow::{Result, ensure};
use flow_model::WorkloadKind;
use std::path::Path;
use std::process::Command;

/// Runs a story of web/browser/drive.mjs.
fn drive(world: &World, story: &str) -> Result<()> {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let mut node = Command::new("node");
    node.arg(web.join("browser/drive.mjs")).args(["--url", &format!("http://{}/", world.address), story]);
    if let Some(shots) = std::env::var_os("PILOTFISH_MAP_SHOTS") {
        node.arg("--shots").arg(shots);
    }
    if let Some(chromium) = std::env::var_os("CHROMIUM") {
        node.arg("--chromium").arg(chromium);
    }
    ensure!(node.status()?.success(), "{story}: see above");
    Ok(())
}

#[test]
fn a_person_finds_their_way_with_a_mouse_and_with_keys() -> Result<()> {
    drive(&shop(), "story")
}

#[test]
fn a_thousand_workloads_and_five_thousand_edges_stay_fluid() -> Result<()> {
    let name = |n: usize| (format!("team-{:02}", n / 25), format!("service-{}", n % 25), WorkloadKind::Deployment);
    let people = People::new((0..1_000).map(name));
    let world = World::new(&["n1"]);
    world.goes_on(vec![Agent::new("n1", 11, &people)], |round, agents| {
        for n in 0..1_000 {
            // Three neighbours, and two anywhere.
            let near = |step: usize| n / 25 * 25 + (n + step) % 25;
            let far = |step: usize| (n * 37 + step * 211 + 13) % 1_000;
            for server in [near(1), near(5), near(11), far(1), far(2)] {
                let status = if (n + server) % 23 == 0 && round % 2 == 0 { 503 } else { 200 };
                agents[0].asks((n, server), 1 + (n % 7) as u64, status, 500 + (n as u64 % 90) * 300);
            }
        }
    });
    drive(&world, "large")
}
