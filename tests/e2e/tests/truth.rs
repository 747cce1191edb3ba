//! sent == counted + lost, exactly, for each reporter.
#![forbid(unsafe_code)]

use e2e::{PATIENCE, alone, api, generator, losses, run_to_end, wait_equation};
use std::time::Duration;
use testbed::{Agent, AgentOptions, Testbed, scene, until};

#[test]
fn every_request_is_counted_and_none_is_lost() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    let args = ["--connections", "16", "--rate", "4000", "--count", "50000", "--profile", "mixed"];
    let client = generator(&mut bed, "customer", &server, &args)?;
    agent.wait_attached(2, PATIENCE)?;
    let sent = run_to_end(&bed, &client)?;
    assert_eq!((&sent["sent"], &sent["answered"]), (&50_000.into(), &50_000.into()));
    let lost = wait_equation(&agent, 50_000)?;
    assert_eq!(lost, [0, 0], "{}", losses(&agent));
    Ok(())
}

#[test]
fn a_starved_ring_says_what_it_lost_and_is_whole_again_after() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let options = AgentOptions { ring_bytes: Some(64 << 10), debug: true, ..AgentOptions::default() };
    let agent = Agent::start(&bed, &options)?;
    let server = api(&mut bed, "shop")?;
    let args = ["--connections", "16", "--rate", "2000", "--count", "20000", "--profile", "mixed"];
    let client = generator(&mut bed, "customer", &server, &args)?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    until("traffic is counted", PATIENCE, || {
        agent.counted_and_lost("client").is_ok_and(|(counted, _)| counted > 2000)
    })?;
    agent.pause_reader(Duration::from_millis(500))?;
    let done = scene::last_line(&client, Duration::from_secs(60))?;
    assert_eq!((&done["sent"], &done["answered"]), (&20_000.into(), &20_000.into()), "{done}");
    let lost = wait_equation(&agent, 20_000)?;
    assert!(lost.iter().all(|lost| *lost > 0), "the ring was too large to overflow: {lost:?}");

    // Whole again: of the same agent, with the same small ring, another generator loses nothing at
    // a gentle rate: one at which the ring holds half a second, because a busy machine may not run
    // its reader for a tenth of one.
    let args = ["--connections", "4", "--rate", "50", "--count", "300", "--client", "2"];
    let again = generator(&mut bed, "again", &server, &args)?;
    agent.wait_attached_to("again", PATIENCE)?;
    run_to_end(&bed, &again)?;
    assert_eq!(wait_equation(&agent, 20_300)?, lost, "{}", losses(&agent));
    Ok(())
}
