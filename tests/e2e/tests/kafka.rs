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
    let kafka = std::env::var_os("E2E_KAFKA").map(PathBuf::from).context("run `cargo xtask l7-test kafka`")?;
    let count = std::env::var("E2E_KAFKA_COUNT").unwrap_or_else(|_| "10000".into());
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
    let mut waiting = Vec::new();
    for (name, args) in clients {
        let mut command = vec!["/kafka/client", "-broker", &address, "-gate", "/conf/gate"];
        command.extend(args);
        waiting.push(bed.run(ContainerSpec::new(name, &command).mount(&kafka, "/kafka"))?);
    }
    agent.wait_attached(1 + waiting.len() as u64, PATIENCE)?;
    let told: Vec<Value> = waiting.iter().map(|client| run_to_end(&bed, client)).collect::<anyhow::Result<_>>()?;
    let sum = |what: &str| -> u64 { told.iter().filter_map(|told| told[what].as_u64()).sum() };
    assert_eq!(sum("failed"), 0, "{told:?}");
    let lost = wait_equation(&agent, sum("sent")).with_context(|| format!("{told:?}\n{}", counted(&agent)))?;
    let metrics = agent.metrics()?;
    for (reporter, lost) in ["client", "server"].into_iter().zip(lost) {
        let of = |family, operation| {
            let labels = [("messaging_operation_name", operation), ("error_type", ""), ("reporter", reporter)];
            metrics.count(family, &labels)
        };
        let produced = of("messaging_client_operation_duration_seconds_count", "Produce");
        let one_way = of("pilotfish_messaging_one_way_total", "Produce");
        let context = format!("{reporter}: {lost} lost, {one_way} one way, {told:?}: {}", losses(&agent));
        // Who does not wait goes on before the connection has shown what it speaks: that is lost, and no more.
        assert_eq!(produced + one_way + lost, sum("produce"), "{context}");
        assert!(lost <= sum("sent") / 100, "{context}");
        eprintln!("{context}");
    }
    Ok(())
}

/// What was counted by operation and destination, for the message of a test that fails.
fn counted(agent: &Agent) -> String {
    let families = ["messaging_client_operation_duration_seconds_count", "pilotfish_messaging_one_way_total"];
    let Ok(metrics) = agent.metrics() else { return String::new() };
    let lines = metrics.samples.iter().filter(|sample| families.contains(&sample.name.as_str()) && sample.value > 0.0);
    lines.map(|sample| format!("{} {:?} {}\n", sample.name, sample.labels, sample.value)).collect()
}
