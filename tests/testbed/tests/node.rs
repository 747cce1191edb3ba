//! The testbed by itself: it counts right, and leaves nothing.

mod common;

use std::time::Duration;
use testbed::scene::{self, Scene};
use testbed::{ContainerSpec, Testbed, sweep, until};

#[test]
fn what_the_generator_sent_is_what_the_api_served() -> anyhow::Result<()> {
    let mut bed = Testbed::start()?;
    let scene = Scene::start(&mut bed, |_| ())?;
    let load = scene.start_load(&mut bed, &["--connections", "8", "--count", "5000", "--profile", "mixed"])?;
    scene::open_gate(&bed, &load)?;
    let sent = scene::last_line(&load, Duration::from_secs(60))?;
    assert_eq!((&sent["sent"], &sent["answered"], &sent["failed"]), (&5000.into(), &5000.into(), &0.into()), "{sent}");
    assert_eq!(sent["by_status"]["500"], 100, "every fiftieth request fails");
    assert_eq!(sent["dns_sent"], sent["dns_answered"]);
    let api = scene.api.clone();
    let served = scene::final_line(&bed, &api, Duration::from_secs(5))?;
    assert_eq!(served["served"], 5000);
    drop((scene, load, api));
    assert_eq!(bed.take_down()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn containers_of_a_pod_share_their_namespace() -> anyhow::Result<()> {
    let mut bed = Testbed::start()?;
    let first = bed.run(ContainerSpec::new("first", &["/bin/sleep", "1000"]))?;
    let second = bed.run(ContainerSpec::new("second", &["/bin/sleep", "1000"]).sharing(&first))?;
    let netns = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    assert_eq!(netns(first.pid), netns(second.pid));
    assert_ne!(netns(first.pid), netns(std::process::id()));
    assert!(bed.exec(&first, &["/bin/busybox", "ip", "addr"])?.contains(&first.address.to_string()));
    bed.stop(first, Duration::from_millis(100))?;
    assert_eq!(bed.containers().len(), 1);
    Ok(())
}

/// The other half of `a_killed_run_is_swept`: only does something when that test runs it.
#[test]
fn run_that_will_be_killed() -> anyhow::Result<()> {
    let Some(note) = common::note() else { return Ok(()) };
    let mut bed = Testbed::start()?;
    bed.run(ContainerSpec::new("left", &["/bin/sleep", "1000"]))?;
    common::tell(&note, &[bed.id().to_owned(), bed.dir().display().to_string()])?;
    until("killed", Duration::from_secs(60), || false)
}

#[test]
fn a_killed_run_is_swept() -> anyhow::Result<()> {
    let lines = common::killed_run("the run has a container", Duration::from_secs(60))?;
    let [id, dir] = lines.as_slice() else { anyhow::bail!("an odd note: {lines:?}") };
    let dir = std::path::Path::new(dir);
    assert!(!sweep::leftovers(id, dir).is_empty(), "a container outlives the run that started it");
    assert!(sweep::sweep()?.contains(&id.to_owned()));
    assert_eq!(sweep::leftovers(id, dir), Vec::<String>::new());
    Ok(())
}
