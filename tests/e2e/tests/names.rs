//! DNS lookups over UDP and TCP, answered and not.
#![forbid(unsafe_code)]

use e2e::{PATIENCE, alone, wait_edge};
use testbed::scene::dnsmasq;
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, installed, until};

#[test]
fn lookups_are_counted_by_type_code_and_whether_they_were_answered() -> anyhow::Result<()> {
    let _alone = alone();
    installed("dig")?;
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    let server = dnsmasq(&mut bed, testbed::address_of(99))?;
    // Nobody listens there: no answer ever comes.
    let silent = bed.run(ContainerSpec::new("silent", &["/bin/sleep", "10000"]))?;
    let client = bed.run(ContainerSpec::new("asking", &["/bin/sleep", "10000"]))?;
    agent.wait_attached(3, PATIENCE)?;

    let ask = |patience: &str, words: &[&str]| {
        let mut command = vec!["/bin/dig", "+tries=1", patience, "+noedns"];
        command.extend_from_slice(words);
        bed.exec(&client, &command)
    };
    let at = format!("@{}", server.address);
    assert!(ask("+time=20", &[&at, "api.demo.test", "A"])?.contains("100.71.0.99"));
    ask("+time=20", &[&at, "+tcp", "api.demo.test", "AAAA"])?;
    ask("+time=20", &[&at, "missing.demo.test", "A"])?;
    // dig ends with 9 when nobody answers.
    ask("+time=1", &[&format!("@{}", silent.address), "lost.demo.test", "A"]).ok();

    wait_edge(&agent, "asking", "dns", "dns", 3)?;
    let count = |labels: &[(&str, &str)]| -> u64 {
        let mut all = vec![("client_workload", "asking"), ("reporter", "client")];
        all.extend_from_slice(labels);
        agent.metrics().map_or(0, |metrics| metrics.count("dns_lookup_duration_seconds_count", &all))
    };
    assert_eq!(count(&[("dns_question_type", "A"), ("dns_response_code", "NOERROR")]), 1);
    assert_eq!(count(&[("dns_question_type", "AAAA"), ("dns_response_code", "NOERROR")]), 1);
    assert_eq!(count(&[("dns_question_type", "A"), ("dns_response_code", "NXDOMAIN")]), 1);
    until("the lookup without an answer is given up", PATIENCE, || {
        count(&[("server_workload", "silent"), ("error_type", "unanswered")]) == 1
    })
}
