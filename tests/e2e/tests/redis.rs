//! Redis, live, with its own benchmark as the client and its own count of commands as the truth.
#![forbid(unsafe_code)]

use anyhow::Result;
use e2e::{PATIENCE, alone, losses, wait_equation};
use std::time::Duration;
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, scene};

/// One at a time, sixteen under way, and values of a MiB; then what the server has counted.
const CLIENT: &str = "
until [ -e /conf/gate ]; do sleep 0.2; done
bench() { redis-benchmark -h SERVER -t set,get -q \"$@\" >/dev/null 2>&1; }
bench -c 4 -n 1000
bench -c 4 -n 4000 -P 16
bench -c 2 -n 20 -d 1048576
redis-cli -h SERVER info commandstats
echo '{}'
sleep 1000
";

#[test]
fn every_command_is_counted_as_the_server_counts_it() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = scene::redis(&mut bed)?;
    let script = CLIENT.replace("SERVER", &server.address.to_string());
    let client = bed.run(ContainerSpec::new("bench", &["/bin/sh", "-c", &script]))?;
    agent.wait_attached(2, PATIENCE)?;
    scene::open_gate(&bed, &client)?;
    scene::last_line(&client, Duration::from_secs(60))?;
    // The last one, which asks for the count, is not in it.
    let sent = 1 + scene::redis_commands(&client.output())?;
    assert!(sent > 10_000, "{}", client.output());
    let lost = wait_equation(&agent, sent)?;
    assert_eq!(lost, [0, 0], "{sent} sent: {}", losses(&agent));
    let metrics = agent.metrics()?;
    for reporter in ["client", "server"] {
        let of = |operation| {
            let labels = [("db_system_name", "redis"), ("db_operation_name", operation), ("reporter", reporter)];
            metrics.count("db_client_operation_duration_seconds_count", &labels)
        };
        assert_eq!((of("SET"), of("GET"), of("INFO")), (5020, 5020, 1), "{reporter}");
    }
    Ok(())
}
