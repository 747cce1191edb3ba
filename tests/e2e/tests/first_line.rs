//! The thin thread: a container starts, its traffic is counted under its own name, a person sees it.
#![forbid(unsafe_code)]

use e2e::{PATIENCE, alone, api, check_attached_once, edges, generator, run_to_end, wait_edge};
use testbed::{Agent, AgentOptions, ContainerSpec, PodLabels, Testbed, filters_in};

#[test]
fn one_request_is_one_line_with_the_right_names() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let mut agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = api(&mut bed, "shop")?;
    let client = generator(&mut bed, "customer", &server, &["--count", "1"])?;
    agent.wait_attached(2, PATIENCE)?;
    run_to_end(&bed, &client)?;
    wait_edge(&agent, "customer", "shop", "http", 1)?;
    assert_eq!(edges(&agent, "customer", "shop", "http")?.len(), 2, "as each end saw it");
    let table = agent.cli(&["edges"])?;
    assert!(table.lines().any(|line| line.contains("customer") && line.contains("shop")), "{table}");

    let metrics = agent.metrics()?;
    let labels = [
        ("client_workload", "customer"),
        ("server_workload", "shop"),
        ("client_namespace", "testbed"),
        ("http_request_method", "GET"),
        ("http_response_status_code", "200"),
    ];
    assert_eq!(metrics.count("http_client_request_duration_seconds_count", &labels), 1);
    assert_eq!(metrics.count("http_server_request_duration_seconds_count", &labels), 1);

    assert_eq!(agent.stop(), Some(0), "{}", agent.log_text());
    assert_eq!(filters_in(&server.netns.path())?, Vec::<String>::new(), "a graceful stop leaves no filter");
    Ok(())
}

#[test]
fn what_ran_before_the_agent_is_picked_up_with_the_name_of_its_pod() -> anyhow::Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let pod = PodLabels { namespace: "prod".into(), name: "web-0".into(), uid: "6d1f-web-0".into() };
    let sandbox = bed.run(ContainerSpec::new("a1b2c3", &["/bin/sleep", "10000"]).sandbox_of(&pod))?;
    let server = bed.run(ContainerSpec::new("d4e5f6", &["/bin/api"]).part_of(&pod, "web").sharing(&sandbox))?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    agent.wait_attached(1, PATIENCE)?;
    check_attached_once(&sandbox, &["eth0"])?;

    let client = generator(&mut bed, "customer", &server, &["--count", "7"])?;
    agent.wait_attached(2, PATIENCE)?;
    run_to_end(&bed, &client)?;
    wait_edge(&agent, "customer", "web-0", "http", 7)
}

#[test]
fn both_ways_of_attaching_count_the_same() -> anyhow::Result<()> {
    let _alone = alone();
    for mode in ["tcx", "clsact"] {
        let mut bed = Testbed::start()?;
        let mut agent = Agent::start(&bed, &AgentOptions { attach_mode: Some(mode), ..AgentOptions::default() })?;
        let server = api(&mut bed, "shop")?;
        let client = generator(&mut bed, "customer", &server, &["--count", "100", "--profile", "mixed"])?;
        agent.wait_attached(2, PATIENCE)?;
        check_attached_once(&server, &["eth0"])?;
        run_to_end(&bed, &client)?;
        wait_edge(&agent, "customer", "shop", "http", 100)?;
        agent.stop();
        assert_eq!(filters_in(&server.netns.path())?, Vec::<String>::new(), "{mode}");
    }
    Ok(())
}
