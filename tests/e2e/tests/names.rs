//! DNS lookups over UDP and TCP, answered and not.
#![forbid(unsafe_code)]

use e2e::{PATIENCE, alone, wait_edge};
use std::process::Command;
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

/// As Docker has its resolver in the network of each container: port 53 of 127.0.0.11 is translated
/// to another one there. `nat` runs in the container's namespace.
const RESOLVER: &str = "nat() { nsenter --net=$0 iptables -w -t nat \"$@\"; }
nat -A OUTPUT -d 127.0.0.11 -p udp --dport 53 -j DNAT --to-destination 127.0.0.11:45300
nat -A POSTROUTING -s 127.0.0.11 -p udp --sport 45300 -j SNAT --to-source :53";

#[test]
fn an_answered_lookup_at_dockers_resolver_is_never_an_unanswered_one() -> anyhow::Result<()> {
    let _alone = alone();
    installed("dig")?;
    let mut bed = Testbed::start()?;
    let client = bed.run(ContainerSpec::new("asking", &["/bin/sleep", "10000"]))?;
    let conf = "no-daemon\nno-resolv\nno-hosts\nuser=root\nport=45300\nlisten-address=127.0.0.11\nbind-interfaces\n\
                host-record=api.demo.test,100.71.0.99\n";
    let resolver = ContainerSpec::new("resolver", &["/bin/dnsmasq", "--conf-file=/conf/dnsmasq.conf"]);
    bed.run(resolver.file("dnsmasq.conf", conf).sharing(&client))?;
    let netns = client.netns.path();
    let made = Command::new("sh").args(["-euc", RESOLVER]).arg(&netns).output()?;
    anyhow::ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for loopback in [false, true] {
        let more = format!("\n[attach]\nloopback = {loopback}\n");
        let agent = Agent::start(&bed, &AgentOptions { more, ..AgentOptions::default() })?;
        agent.wait_attached(1, PATIENCE)?;
        for _ in 0..3 {
            let dig = ["/bin/dig", "+tries=3", "+time=5", "+noedns", "@127.0.0.11", "api.demo.test", "A"];
            assert!(bed.exec(&client, &dig)?.contains("100.71.0.99"));
        }
        // Longer than a lookup is waited for.
        std::thread::sleep(std::time::Duration::from_secs(12));
        let metrics = agent.metrics()?;
        let of = |labels: &[(&str, &str)]| metrics.count("dns_lookup_duration_seconds_count", labels);
        eprintln!("loopback {loopback}: {} lookups\n{}", of(&[]), agent.cli(&["edges", "-o", "wide"])?);
        assert_eq!(of(&[("error_type", "unanswered")]), 0, "{}", agent.cli(&["edges", "-o", "wide"])?);
    }
    Ok(())
}
