//! MySQL's protocol, live, of a MariaDB: sent == counted + lost, queries and prepared statements.
#![forbid(unsafe_code)]

use e2e::{PATIENCE, alone, losses, run_to_end, wait_equation};
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, scene};

/// Queries of each client, and as many executions.
const COUNT: u64 = 500;
const CONNECTIONS: u64 = 2;

#[test]
fn each_command_is_counted_and_none_is_lost() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = scene::mariadb(&mut bed)?;
    let target = format!("{}:3306", server.address);
    let (count, connections) = (COUNT.to_string(), CONNECTIONS.to_string());
    let client = ContainerSpec::new(
        "shop",
        &["/bin/maria", &target, "--gate", "/conf/gate", "--connections", &connections, "--count", &count],
    );
    let client = bed.run(client)?;
    agent.wait_attached(2, PATIENCE)?;
    let told = run_to_end(&bed, &client)?;
    // A login, a statement prepared, and one closed and the end of the connection, which have no answer.
    let sent = CONNECTIONS * (4 + 2 * COUNT);
    let failed = CONNECTIONS * COUNT / 10;
    assert_eq!((&told["sent"], &told["failed"]), (&sent.into(), &failed.into()), "{told}");
    let lost = wait_equation(&agent, sent)?;
    assert_eq!(lost, [0, 0], "{sent} sent: {}", losses(&agent));
    let metrics = agent.metrics()?;
    for reporter in ["client", "server"] {
        let of = |family, operation, error| {
            let labels = [
                ("db_system_name", "mysql"),
                ("db_operation_name", operation),
                ("error_type", error),
                ("reporter", reporter),
            ];
            metrics.count(family, &labels)
        };
        let answered = |operation, error| of("db_client_operation_duration_seconds_count", operation, error);
        assert_eq!((answered("login", ""), answered("stmt_prepare", "")), (CONNECTIONS, CONNECTIONS), "{reporter}");
        assert_eq!((answered("SELECT", "1146"), answered("SELECT", "")), (failed, 19 * failed), "{reporter}");
        let one_way = |operation| of("pilotfish_db_one_way_total", operation, "");
        assert_eq!((one_way("stmt_close"), one_way("quit")), (CONNECTIONS, CONNECTIONS), "{reporter}");
    }
    Ok(())
}
