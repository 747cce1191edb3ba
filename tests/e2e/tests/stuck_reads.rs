//! Files that hang in the kernel, where no signal is heard: the agent ends in spite of them, killed or
//! asked to, and the next one counts on the same port beside what is still stuck.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::readers::{OPENS, readers_of, stuck, tasks};
use e2e::{PATIENCE, alone, api, generator, run_to_end, wait_edge};
use std::fs;
use std::path::Path;
use std::time::Instant;
use testbed::{Agent, AgentOptions, SilentFiles, Testbed, until};

/// The process that reads for it, once a file hangs. Until it is killed its thread sleeps as any other
/// does; then it shows that it hears nothing.
fn stuck_reader(agent: &Agent) -> Result<u32> {
    let mut found = None;
    let opens = |pid: &u32| tasks(*pid, "syscall").is_ok_and(|calls| calls.iter().any(|call| call.starts_with(OPENS)));
    until("a read hangs in the kernel", PATIENCE, || {
        found = readers_of(agent.pid()).ok().and_then(|all| all.into_iter().find(opens));
        found.is_some()
            && agent
                .metrics()
                .is_ok_and(|metrics| metrics.count("pilotfish_late_reads_total", &[("file", "process")]) > 0)
    })
    .with_context(|| agent.log_text())?;
    let reader = found.context("a reader")?;
    let open = fs::read_dir(format!("/proc/{reader}/fd"))?.count();
    ensure!(open <= 3, "it has {open} files open");
    let status = fs::read_to_string(format!("/proc/{reader}/status"))?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("its capabilities")?;
    ensure!(u64::from_str_radix(effective.trim(), 16)? & !(1 << 19) == 0, "{effective}");
    Ok(reader)
}

#[test]
fn an_agent_ends_beside_what_is_stuck_and_the_next_one_counts() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let proc = bed.dir().join("silent-proc");
    fs::create_dir_all(proc.join("self"))?;
    let silent = SilentFiles::mount(&proc.join("self"))?;
    let more = format!("\n[debug]\nproc = {proc:?}\n");
    let mut agent = Agent::start(&bed, &AgentOptions { more, ..AgentOptions::default() })?;
    let server = api(&mut bed, "shop")?;
    let mut all = vec![stuck_reader(&agent)?];

    for (round, name) in ["killed", "stopped"].into_iter().enumerate() {
        let began = Instant::now();
        if name == "killed" {
            agent.kill();
        } else {
            let code = agent.stop();
            ensure!(code == Some(0), "{code:?}: {}", agent.log_text());
        }
        agent.start_again(&bed)?;
        agent.wait_attached_to("shop", PATIENCE)?;
        // Whether this is quick is up to the machine; that it waited for nothing is not.
        eprintln!("{name}: attached again after {:?}", began.elapsed());
        let still = all.iter().filter(|reader| stuck(**reader).is_ok_and(|threads| threads > 0)).count();
        ensure!(still == round + 1, "{still} of {} are stuck", all.len());
        let client = generator(&mut bed, name, &server, &["--count", "200"])?;
        run_to_end(&bed, &client)?;
        wait_edge(&agent, name, "shop", "http", 200)?;
        all.push(stuck_reader(&agent)?);
    }
    ensure!(!agent.log_text().contains("in use"), "a port was kept: {}", agent.log_text());
    ensure!(agent.stop() == Some(0), "{}", agent.log_text());
    drop(silent);
    until("nothing is left of those that were stuck", PATIENCE, || {
        all.iter().all(|reader| !Path::new(&format!("/proc/{reader}/task")).exists() || is_zombie(*reader))
    })
}

/// Ended, and not yet collected by whoever collects orphans here.
fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('Z'))
}
