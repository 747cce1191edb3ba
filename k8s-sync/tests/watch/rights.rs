//! Rights, tokens and authorities are taken away, exchanged and given back.

use crate::bed::{PATIENCE, Watches, address, agent, create, plane};
use anyhow::Result;
use k8s_sync::cluster::object::Resource;
use k8s_sync::watch::{Code, Link, Verb, WatchReport};
use std::fs;
use testbed::cluster::{Fault, User};

#[test]
fn rights_that_are_missing_are_waited_for() -> Result<()> {
    let plane = plane(2)?;
    plane.set_agent_rights(false)?;
    let watches = Watches::start(agent(&plane)?, |_| {})?;
    watches.until("every resource was refused", |report| {
        report.watches.len() == 5 && report.watches.iter().all(|watch| watch.failures > 0)
    })?;
    let report = watches.report();
    assert_eq!(report.link, Link::Connected, "the server answers; that it refuses is each resource's own affair");
    let reason = report.is_fresh().expect_err("nothing is listed");
    assert!(reason.contains("403"), "{reason}");
    plane.set_agent_rights(true)?;
    watches.until_fresh()?;
    watches.until_equal(&plane)
}

#[test]
fn one_forbidden_resource_delays_no_other() -> Result<()> {
    let plane = plane(2)?;
    let fault = Fault::start(&plane)?;
    let forbidden = testbed::cluster::Act::Status(403);
    fault.script(testbed::cluster::On::watch("nodes"), forbidden.clone(), None);
    fault.script(testbed::cluster::On::list("nodes"), forbidden, None);
    // The others have nothing to tell, and the server's next bookmark may come later than the
    // tests' usual silence ends.
    let watches = Watches::start(plane.kubeconfig_at(User::Agent, fault.server())?, |config| {
        (config.timing.silence, config.timing.unmarked_silence) = (PATIENCE, PATIENCE);
    })?;
    watches.until_equal(&plane)?;
    watches.until("the nodes were refused again and again", |_| {
        watches.watch(Resource::Nodes).is_ok_and(|nodes| nodes.failures >= 3)
    })?;
    let is_other = |watch: &&WatchReport| watch.resource != Resource::Nodes;
    watches.until("the others are complete", |report| {
        report.watches.iter().filter(is_other).all(|watch| watch.is_complete)
    })?;
    let report = watches.report();
    assert!(report.watches.iter().filter(is_other).all(|watch| watch.failures == 0), "{report:#?}");
    create(&plane, "late", address(9))?;
    watches.until_equal(&plane)?;
    fault.forget_script();
    watches.until_fresh()
}

#[test]
fn a_new_token_in_the_file_is_used_at_once() -> Result<()> {
    let plane = plane(2)?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("token");
    fs::write(&file, plane.new_agent_token("first")?)?;
    let watches = Watches::start(plane.kubeconfig_with_token_file(&file, plane.server())?, |_| {})?;
    watches.until_fresh()?;
    plane.revoke("first")?;
    watches.until("the old token is refused", |report| {
        report.watches.iter().any(|watch| watch.last_error.as_deref().is_some_and(|error| error.contains("401")))
            || matches!(&report.link, Link::Unreachable { reason, .. } if reason.contains("401"))
    })?;
    let next = directory.path().join("next");
    fs::write(&next, plane.new_agent_token("second")?)?;
    fs::rename(&next, &file)?;
    watches.until_fresh()?;
    create(&plane, "late", address(9))?;
    watches.until_equal(&plane)?;
    let report = watches.report();
    assert!(report.watches.iter().all(|watch| watch.lists == 1), "streams were resumed: {report:#?}");
    Ok(())
}

#[test]
fn a_token_that_is_exchanged_in_time_is_never_refused() -> Result<()> {
    let plane = plane(1)?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("token");
    fs::write(&file, plane.new_agent_token("first")?)?;
    let watches = Watches::start(plane.kubeconfig_with_token_file(&file, plane.server())?, |_| {})?;
    watches.until_fresh()?;
    let read = watches.report().credentials_read;
    let next = directory.path().join("next");
    fs::write(&next, plane.new_agent_token("second")?)?;
    fs::rename(&next, &file)?;
    plane.revoke("first")?;
    watches.until("the new token was read, and all watches were resumed with it", |report| {
        report.credentials_read > read && report.watches.iter().all(|watch| watch.restarts >= 3)
    })?;
    let refused = watches.report().requests.into_iter().filter(|asked| asked.code == Code::Status(401)).count();
    assert_eq!(refused, 0);
    Ok(())
}

#[test]
fn a_new_authority_is_trusted_when_its_file_says_so() -> Result<()> {
    let mut plane = plane(1)?;
    let watches = Watches::start(agent(&plane)?, |_| {})?;
    watches.until_fresh()?;
    plane.rotate_authority()?;
    let old: Vec<u64> = watches.report().watches.iter().map(|watch| watch.restarts).collect();
    plane.restart_api_server()?;
    // The kubeconfig of the testbed names the authority's file, which has another authority in it by now.
    watches.until("all watches go on over new connections", |report| {
        report.is_fresh().is_ok() && report.watches.iter().zip(&old).all(|(watch, old)| watch.restarts > *old)
    })?;
    create(&plane, "late", address(9))?;
    watches.until_equal(&plane)?;
    assert!(watches.report().requests.iter().any(|asked| asked.verb == Verb::Watch), "{:#?}", watches.report());
    Ok(())
}
