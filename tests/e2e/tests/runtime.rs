//! Containers that are killed and removed at once. containerd 2.x forgets to tell of the end of some
//! (6 of 100): what they left is let go all the same, long before the list of the next minute.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use e2e::{PATIENCE, alone};
use std::time::Duration;
use testbed::{Agent, AgentOptions, Testbed, until};

const THREADS: usize = 4;
const EACH: usize = 25;
/// Far from the minute after which a list would tell.
const SOON: Duration = Duration::from_secs(15);

/// Each in a network namespace that ends with it.
fn come_and_go(bed: &Testbed, thread: usize) -> Result<()> {
    let (runc, rootfs) = (bed.dir().join("runc").display().to_string(), bed.dir().join("rootfs").display().to_string());
    for round in 0..EACH {
        let name = format!("short-{thread}-{round}");
        let cgroup = format!("/{}/{name}", bed.id());
        let ctr = |args: &[&str]| bed.containerd().ctr("default", args);
        let run = ["run", "--detach", "--null-io", "--rootfs", "--runc-root", &runc, "--cgroup", &cgroup];
        ctr(&[&run[..], &[&rootfs, &name, "/bin/sleep", "10000"]].concat())?;
        ctr(&["task", "rm", "--force", &name])?;
        ctr(&["container", "rm", &name])?;
    }
    Ok(())
}

#[test]
fn a_hundred_containers_that_are_killed_at_once_leave_nothing_attached() -> Result<()> {
    let _alone = alone();
    let mut bed = Testbed::start()?;
    let agent = Agent::start(&bed, &AgentOptions::default())?;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let bed = &bed;
                    move || come_and_go(bed, thread)
                })
            })
            .collect();
        all.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    until("nothing is attached any more", SOON, || agent.attached().is_ok_and(|attached| attached == 0))
        .with_context(|| format!("{}\n{}", agent.cli(&["status"]).unwrap_or_default(), agent.log_text()))?;
    let seen = agent.metrics()?.count("pilotfish_containerd_events_total", &[("topic", "create")]);
    assert_eq!(seen, (THREADS * EACH) as u64);
    // And what comes next is seen as ever.
    let last = bed.run(testbed::ContainerSpec::new("last", &["/bin/sleep", "10000"]))?;
    agent.wait_attached(1, PATIENCE)?;
    bed.stop(last, Duration::from_secs(1))
}
