//! The real control plane by itself: it serves, it can be hurt as tests need it, and it leaves
//! nothing. Needs no root; the first run builds etcd and the API server.

mod common;

use std::net::IpAddr;
use std::time::Duration;
use testbed::cluster::{ControlPlane, ControlPlaneOptions, Mark, Owner, PodSpec, Refused, User, bulk, kinds, objects};
use testbed::{sweep, until};

fn plane() -> anyhow::Result<ControlPlane> {
    ControlPlane::start(&ControlPlaneOptions::default())
}

fn code(result: anyhow::Result<impl Sized>) -> Option<u16> {
    result.err().and_then(|error| error.downcast_ref::<Refused>().map(|refused| refused.status))
}

#[test]
fn pods_run_without_a_kubelet_and_owners_lead_to_their_workload() -> anyhow::Result<()> {
    let plane = plane()?;
    let client = plane.client();
    objects::create_node(client, "node-1", "192.0.2.1".parse()?)?;
    let deployment = client.create(&kinds::DEPLOYMENT, &objects::deployment("default", "web"))?;
    let set = objects::replica_set("default", &Owner::of(&deployment), "7d9f8");
    let set = client.create(&kinds::REPLICA_SET, &set)?;
    let addresses: [IpAddr; 2] = ["10.1.2.3".parse()?, "fd00::3".parse()?];
    let spec = PodSpec::new("web-7d9f8-abcde", "node-1", &addresses).label("app", "web").owned_by(&Owner::of(&set));
    let pod = spec.port(80).create_running(client)?;
    assert_eq!((&pod["status"]["podIP"], &pod["status"]["phase"]), (&"10.1.2.3".into(), &"Running".into()));
    assert_eq!(pod["status"]["podIPs"][1]["ip"], "fd00::3");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["name"], "web-7d9f8");
    client.create(&kinds::SERVICE, &objects::service("default", "web", &[("app", "web")], 80, false))?;
    let slice = objects::endpoint_slice("default", "web", 80, &[(addresses[0], "web-7d9f8-abcde")]);
    client.create(&kinds::ENDPOINT_SLICE, &slice)?;
    let cron = client.create(&kinds::CRON_JOB, &objects::cron_job("default", "tick"))?;
    client.create(&kinds::JOB, &objects::job("default", "tick-1", Some(&Owner::of(&cron))))?;
    for kind in [kinds::POD, kinds::ENDPOINT_SLICE, kinds::REPLICA_SET, kinds::JOB, kinds::NODE] {
        assert_eq!(client.list(&kind, None)?.len(), 1, "{}", kind.resource);
    }
    client.delete(&kinds::POD, Some("default"), "web-7d9f8-abcde")?;
    assert_eq!(client.list(&kinds::POD, Some("default"))?.len(), 0);
    Ok(())
}

#[test]
fn users_have_the_rights_that_they_are_given() -> anyhow::Result<()> {
    let plane = plane()?;
    let mark = plane.audit().mark();
    let agent = plane.client_of(User::Agent)?;
    for kind in [kinds::POD, kinds::SERVICE, kinds::NODE, kinds::ENDPOINT_SLICE, kinds::JOB] {
        assert_eq!(code(agent.list(&kind, None)), None, "{}", kind.resource);
    }
    assert_eq!(code(agent.list(&kinds::SECRET, None)), Some(403));
    assert_eq!(code(plane.client_of(User::Stranger)?.list(&kinds::POD, None)), Some(403));
    assert_eq!(code(plane.client_with_token("no such token")?.list(&kinds::POD, None)), Some(401));
    plane.set_agent_rights(false)?;
    assert_eq!(code(agent.list(&kinds::POD, None)), Some(403));
    plane.set_agent_rights(true)?;
    assert_eq!(code(agent.list(&kinds::POD, None)), None);
    let counts = plane.audit().counts(User::Agent.name(), mark)?;
    assert_eq!((counts["list pods"], counts["list secrets"], counts.len()), (3, 1, 6), "{counts:?}");
    assert!(plane.audit().since(mark)?.iter().any(|request| request.code == 403 && request.user == "stranger"));
    Ok(())
}

#[test]
fn a_token_ends_with_its_secret_and_an_authority_with_its_rotation() -> anyhow::Result<()> {
    let mut plane = plane()?;
    let token = plane.new_agent_token("first")?;
    let agent = plane.client_with_token(&token)?;
    assert_eq!(code(agent.list(&kinds::POD, None)), None);
    plane.revoke("first")?;
    until("the token is refused", Duration::from_secs(60), || code(agent.list(&kinds::POD, None)) == Some(401))?;
    // A configuration of its own: with the tickets of an earlier session, nobody would look at the certificate.
    let old = plane.client_of(User::Admin)?;
    plane.rotate_authority()?;
    assert!(old.request("GET", "/readyz", None).is_err(), "who trusts the old authority alone does not connect");
    assert_eq!(plane.client().request("GET", "/readyz", None)?.status, 200);
    Ok(())
}

#[test]
fn a_restarted_or_frozen_server_has_the_same_port_and_data() -> anyhow::Result<()> {
    let mut plane = plane()?;
    let server = plane.server();
    PodSpec::new("stays", "node-1", &["10.1.2.3".parse()?]).create_running(plane.client())?;
    plane.freeze()?;
    let hasty = plane.client().clone().with_patience(Duration::from_millis(300));
    assert!(hasty.list(&kinds::POD, None).is_err(), "a frozen server does not answer");
    plane.thaw()?;
    assert_eq!(plane.client().list(&kinds::POD, None)?.len(), 1);
    let before = plane.etcd().revision()?;
    plane.kill_api_server();
    assert!(hasty.list(&kinds::POD, None).is_err());
    plane.start_api_server()?;
    assert_eq!((plane.server(), plane.client().list(&kinds::POD, None)?.len()), (server, 1));
    // After a compaction, who asks for the past is told that it is gone.
    assert!(plane.compact()? >= before);
    plane.restart_api_server()?;
    let past = plane.client().get("/api/v1/pods?watch=1&resourceVersion=1&timeoutSeconds=1");
    let event = past.map_or_else(|error| error.to_string(), |event| event.to_string());
    assert!(event.contains("410") || event.contains("too old"), "{event}");
    Ok(())
}

#[test]
fn pods_written_past_the_server_are_in_its_lists() -> anyhow::Result<()> {
    let plane = plane()?;
    let client = plane.client();
    client.create(&kinds::NAMESPACE, &objects::namespace("bulk"))?;
    bulk::write_pods(client, plane.etcd(), "bulk", 1500, 10)?;
    until("all are listed", Duration::from_secs(30), || {
        client.list(&kinds::POD, Some("bulk")).is_ok_and(|pods| pods.len() == 1500)
    })?;
    let pod = client.read(&kinds::POD, Some("bulk"), &bulk::name(1234))?;
    assert_eq!(pod["status"]["podIP"], bulk::address(1234).to_string());
    assert_eq!(pod["spec"]["nodeName"], "node-00004");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["name"], "work-000123-bcdf");
    let uids: std::collections::BTreeSet<String> =
        client.list(&kinds::POD, Some("bulk"))?.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
    assert_eq!(uids.len(), 1500);
    client.create(&kinds::NAMESPACE, &objects::namespace("slow"))?;
    bulk::create_pods(client, "slow", 40, 10, 4)?;
    bulk::delete_pods(client, "slow", 0..10)?;
    assert_eq!(client.list(&kinds::POD, Some("slow"))?.len(), 30);
    Ok(())
}

#[test]
fn a_control_plane_leaves_nothing() -> anyhow::Result<()> {
    let plane = plane()?;
    let (pids, dir) = ([plane.etcd().pid(), plane.api_server_pid()], plane.dir().to_owned());
    assert!(plane.audit().since(Mark::default())?.len() > 3);
    assert_eq!(plane.take_down()?, Vec::<String>::new());
    assert!(pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) && !dir.exists());
    Ok(())
}

/// The other half of the next test: only does something when that one runs it.
#[test]
fn run_that_will_be_killed() -> anyhow::Result<()> {
    let Some(note) = common::note() else { return Ok(()) };
    let plane = plane()?;
    common::tell(&note, &[plane.id().to_owned(), plane.dir().display().to_string()])?;
    until("killed", Duration::from_secs(120), || false)
}

#[test]
fn a_killed_run_is_swept() -> anyhow::Result<()> {
    let lines = common::killed_run("the run has a cluster", Duration::from_secs(180))?;
    let [id, dir] = lines.as_slice() else { anyhow::bail!("an odd note: {lines:?}") };
    let dir = std::path::Path::new(dir);
    assert_eq!(sweep::leftovers(id, dir).len(), 3, "two processes and a directory outlive the run that started them");
    assert!(sweep::sweep()?.contains(&id.to_owned()));
    assert_eq!(sweep::leftovers(id, dir), Vec::<String>::new());
    Ok(())
}
