//! PostgreSQL, live: sent == counted + lost, one thing at a time and in pipelines.
#![forbid(unsafe_code)]

use e2e::{PATIENCE, alone, losses, run_to_end, wait_equation};
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, scene};

/// Simple queries of each client, and as many Executes, sixteen of them under way together.
const COUNT: u64 = 500;
const CONNECTIONS: u64 = 2;

/// Bytes of each SELECT and COPY; `PILOTFISH_BULK=100000000` for a long run.
const BULK: u64 = 4_000_000;
/// Of what is long: a machine that is busy with something else may be late to follow a connection's frames,
/// and what passes until then is lost, and counted (docs/limits.md).
const LOST: u64 = 2;

/// Connections that are over after a login and four queries.
const SHORT: u64 = 100;

#[test]
fn a_result_of_any_length_and_a_copy_are_an_exchange_each() -> anyhow::Result<()> {
    let _alone = alone();
    let bulk = std::env::var("PILOTFISH_BULK").ok().and_then(|bulk| bulk.parse().ok()).unwrap_or(BULK);
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = scene::postgres(&mut bed)?;
    let target = format!("{}:5432", server.address);
    let (mut sent, mut lost) = (0, [0, 0]);
    for (name, size) in [("tiny", 30), ("long", 8192)] {
        let (bulk, size) = (bulk.to_string(), size.to_string());
        let asks = ["/bin/sql", &target, "--gate", "/conf/gate", "--count", "10", "--size", &size, "--bulk", &bulk];
        let client = bed.run(ContainerSpec::new(name, &asks))?;
        agent.wait_attached(2, PATIENCE)?;
        let told = run_to_end(&bed, &client)?;
        // A login, ten queries, ten Executes, and what is long: two queries, a COPY, two Executes, and a short query.
        assert_eq!((&told["sent"], &told["answered"]), (&27.into(), &27.into()), "{told}");
        sent += 27;
        lost = wait_equation(&agent, sent)?;
        assert!(lost.iter().all(|lost| *lost <= LOST), "rows of {size}: {}", losses(&agent));
    }
    if lost != [0, 0] {
        return Ok(());
    }
    // All bytes of rows are counted, though hardly any is copied: two COPY with what they answer, and three SELECT.
    let metrics = agent.metrics()?;
    for reporter in ["client", "server"] {
        let labels = [("db_system_name", "postgresql"), ("reporter", reporter)];
        let bytes =
            ["request", "response"].map(|part| metrics.count(&format!("pilotfish_db_{part}_bytes_total"), &labels));
        assert!(bytes[0] > 19 * bulk / 10 && bytes[1] > 78 * bulk / 10, "{reporter}: {bytes:?} of {bulk}");
    }
    Ok(())
}

#[test]
fn each_query_and_each_execute_is_counted_and_none_is_lost() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = scene::postgres(&mut bed)?;
    let target = format!("{}:5432", server.address);
    let (count, connections) = (COUNT.to_string(), CONNECTIONS.to_string());
    let client = ContainerSpec::new(
        "shop",
        &[
            "/bin/sql",
            &target,
            "--gate",
            "/conf/gate",
            "--connections",
            &connections,
            "--count",
            &count,
            "--at-once",
            "16",
        ],
    );
    let client = bed.run(client)?;
    agent.wait_attached(2, PATIENCE)?;
    let told = run_to_end(&bed, &client)?;
    let sent = CONNECTIONS * (1 + 2 * COUNT);
    assert_eq!((&told["sent"], &told["answered"]), (&sent.into(), &sent.into()), "{told}");
    let lost = wait_equation(&agent, sent)?;
    assert_eq!(lost, [0, 0], "{sent} sent: {}", losses(&agent));
    let metrics = agent.metrics()?;
    for reporter in ["client", "server"] {
        let of = |operation, error| {
            let labels = [
                ("db_system_name", "postgresql"),
                ("db_operation_name", operation),
                ("db_namespace", "postgres"),
                ("error_type", error),
                ("reporter", reporter),
            ];
            metrics.count("db_client_operation_duration_seconds_count", &labels)
        };
        let failed = CONNECTIONS * 2 * COUNT / 10;
        assert_eq!(of("startup", ""), CONNECTIONS, "{reporter}");
        assert_eq!((of("SELECT", "22012"), of("SELECT", "")), (failed, 9 * failed), "{reporter}");
    }
    Ok(())
}

/// As of a program that connects for each request: all of each connection passes in its first milliseconds.
#[test]
fn of_short_connections_to_a_server_that_is_known_nothing_is_lost() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = scene::postgres(&mut bed)?;
    let target = format!("{}:5432", server.address);
    let (mut sent, mut before) = (0, 0);
    for (name, connections) in [("first", 1), ("shop", SHORT)] {
        let count = connections.to_string();
        let asks =
            ["/bin/sql", &target, "--gate", "/conf/gate", "--connections", &count, "--count", "2", "--size", "8192"];
        let client = bed.run(ContainerSpec::new(name, &asks))?;
        agent.wait_attached(2, PATIENCE)?;
        let told = run_to_end(&bed, &client)?;
        assert_eq!(
            (&told["sent"], &told["answered"]),
            (&(5 * connections).into(), &(5 * connections).into()),
            "{told}"
        );
        sent += 5 * connections;
        let lost = wait_equation(&agent, sent)?;
        if name == "first" {
            before = lost[0].max(lost[1]);
        }
        assert!(lost.iter().all(|lost| *lost <= before), "{name}: {lost:?} of {sent}: {}", losses(&agent));
    }
    Ok(())
}
