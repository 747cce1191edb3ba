//! Files of `/proc` that hang while containers come and are asked: nothing waits for them.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use e2e::readers::{OPENS, readers_of, tasks};
use e2e::{PATIENCE, alone, api, generator, run_to_end, wait_edge};
use nix::sys::stat::Mode;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use testbed::{Agent, AgentOptions, ContainerSpec, Testbed, until};

/// Threads of the process that reads for the agent which wait for a file to open.
fn hanging(agent: &Agent) -> Result<usize> {
    let mut count = 0;
    for reader in readers_of(agent.pid())? {
        count += tasks(reader, "syscall")?.iter().filter(|call| call.starts_with(OPENS)).count();
    }
    Ok(count)
}

#[test]
fn containers_are_attached_and_pages_answered_while_reads_hang() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    // The agent's own figures, and where cgroups are mounted. Opening a FIFO that nobody writes to
    // hangs like a file system that does not answer.
    let proc = bed.dir().join("late-proc");
    fs::create_dir_all(proc.join("self/fd"))?;
    for file in ["status", "mountinfo"] {
        nix::unistd::mkfifo(&proc.join("self").join(file), Mode::S_IRWXU)?;
    }
    let more = format!("\n[debug]\nproc = {proc:?}\n");
    let agent = Agent::start(&bed, &AgentOptions { more, ..AgentOptions::default() })?;
    let server = api(&mut bed, "shop")?;
    let client = generator(&mut bed, "customer", &server, &["--count", "500"])?;
    until("both reads are told as late", PATIENCE, || {
        agent.metrics().is_ok_and(|metrics| {
            ["process", "cgroup"].iter().all(|kind| metrics.count("pilotfish_late_reads_total", &[("file", kind)]) > 0)
        })
    })
    .with_context(|| agent.log_text())?;
    // Reads that end are among them, for a moment.
    let both_hang = || until("one read of each file hangs", PATIENCE, || hanging(&agent).is_ok_and(|reads| reads == 2));
    both_hang()?;

    let stop = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| -> Result<u32> {
        let pages = scope.spawn(|| -> Result<u32> {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                for page in ["/metrics", "/livez"] {
                    let answer = agent.get(page).with_context(|| format!("{page} while reads hang"))?;
                    ensure!(answer.status == 200, "{page}: {}", answer.status);
                }
                asked += 1;
            }
            Ok(asked)
        });
        let mut work = || -> Result<()> {
            for n in 0..5 {
                let name = format!("late{n}");
                bed.run(ContainerSpec::new(&name, &["/bin/sleep", "10000"]))?;
                agent.wait_attached_to(&name, PATIENCE)?;
            }
            run_to_end(&bed, &client)?;
            wait_edge(&agent, "customer", "shop", "http", 500)
        };
        let worked = work();
        stop.store(true, Ordering::Relaxed);
        worked?;
        pages.join().map_err(|_| anyhow::anyhow!("the thread that asks panicked"))?
    })?;
    ensure!(asked > 0, "no page was asked for");
    both_hang().context("they hang to the end, and no other beside them")?;
    let status = agent.cli(&["status"])?;
    ensure!(status.contains("late, shown as they were: "), "{status}");
    Ok(())
}
