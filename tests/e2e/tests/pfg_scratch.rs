#![forbid(unsafe_code)]
use e2e::*;
use std::time::Duration;
use testbed::*;
#[test]
fn starved() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let options = AgentOptions { ring_bytes: Some(64 << 10), debug: true, ..AgentOptions::default() };
    let agent = Agent::start(&bed, &options)?;
    let server = api(&mut bed, "shop")?;
    let args = ["--connections", "16", "--rate", "2000", "--count", "20000", "--profile", "mixed"];
    let client = generator(&mut bed, "customer", &server, &args)?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    until("traffic is counted", PATIENCE, || agent.counted_and_lost("client").is_ok_and(|(counted, _)| counted > 2000))?;
    agent.pause_reader(Duration::from_millis(500))?;
    let line = scene::last_line(&client, Duration::from_secs(60))?;
    std::thread::sleep(Duration::from_secs(8));
    println!("{line}\nclient {:?} server {:?}\n{}", agent.counted_and_lost("client")?, agent.counted_and_lost("server")?, losses(&agent));
    println!("{}", agent.get("/metrics")?.body().lines().filter(|l| l.starts_with("pilotfish_")).collect::<Vec<_>>().join("\n"));
    Ok(())
}
