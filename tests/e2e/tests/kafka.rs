//! Kafka, live, of a real broker and franz-go: sent == counted + lost at both ends, with five requests under
//! way, without confirmations, and with batches of 10 MB. `cargo xtask l7-test kafka` fetches both.
#![forbid(unsafe_code)]

use anyhow::Context;
use e2e::{PATIENCE, alone, losses, run_to_end, wait_equation};
use serde_json::Value;
use std::path::PathBuf;
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, scene};

#[test]
fn each_request_is_counted_and_none_is_lost() -> anyhow::Result<()> {
    let kafka = std::env::var_os("PILOTFISH_KAFKA").map(PathBuf::from).context("run `cargo xtask l7-test kafka`")?;
    let count = std::env::var("PILOTFISH_KAFKA_COUNT").unwrap_or_else(|_| "10000".into());
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let broker = scene::kafka(&mut bed, &kafka)?;
    let address = format!("{}:9092", broker.address);
    let clients: [(&str, &[&str]); 3] = [
        ("shop", &["-count", &count]),
        ("logs", &["-count", "1000", "-confirm=false", "-topic", "logs"]),
        ("films", &["-count", "10", "-size", "10000000", "-topic", "films"]),
    ];
    let mut told: Vec<Value> = Vec::new();
    for (attached, (name, args)) in (2..).zip(clients) {
        let mut command = vec!["/kafka/client", "-broker", &address, "-gate", "/conf/gate"];
        command.extend(args);
        let client = bed.run(ContainerSpec::new(name, &command).mount(&kafka, "/kafka"))?;
        agent.wait_attached(attached, PATIENCE)?;
        told.push(run_to_end(&bed, &client)?);
    }
    let sum = |what: &str| -> u64 { told.iter().filter_map(|told| told[what].as_u64()).sum() };
    assert_eq!(sum("failed"), 0, "{told:?}");
    let lost = wait_equation(&agent, sum("sent")).with_context(|| format!("{told:?}"))?;
    assert_eq!(lost, [0, 0], "{told:?}: {}", losses(&agent));
    let metrics = agent.metrics()?;
    for reporter in ["client", "server"] {
        let of = |family, operation| {
            let labels = [("messaging_operation_name", operation), ("error_type", ""), ("reporter", reporter)];
            metrics.count(family, &labels)
        };
        let produced = of("messaging_client_operation_duration_seconds_count", "Produce");
        let one_way = of("pilotfish_messaging_one_way_total", "Produce");
        assert_eq!((produced + one_way, one_way), (sum("produce"), 1000), "{reporter}: {told:?}");
    }
    eprintln!("{told:?}: none lost");
    Ok(())
}
