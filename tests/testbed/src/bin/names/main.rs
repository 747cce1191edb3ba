//! Keeps the cluster's names in a hosts file: `<service>.<namespace>.svc.cluster.local` is the
//! Service's address, or those of its ready endpoints where it has none. The nodes' dnsmasq answer
//! from it. Polls, because one dialect of watching is enough for a project.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testbed::cluster::{Client, kinds};

/// How long a new name may take to be known. Two lists from the API server's memory each.
const EVERY: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("usage: names KUBECONFIG HOSTS PID...");
    let (kubeconfig, hosts) = (PathBuf::from(next()?), PathBuf::from(next()?));
    let servers: Vec<Pid> = args.map(|pid| pid.parse().map(Pid::from_raw)).collect::<Result<_, _>>()?;
    testbed::signals::catch()?;
    let client = Client::from_kubeconfig(&kubeconfig)?.with_patience(Duration::from_secs(5));
    let mut known = String::new();
    while !testbed::signals::interrupted() {
        // While the API server is away, names stay as they are.
        if let Ok(names) = names(&client)
            && names != known
        {
            write(&hosts, &names)?;
            for server in &servers {
                kill(*server, Signal::SIGHUP).ok();
            }
            known = names;
        }
        std::thread::sleep(EVERY);
    }
    Ok(())
}

/// dnsmasq never sees half of it.
fn write(hosts: &Path, names: &str) -> Result<()> {
    let new = hosts.with_extension("new");
    std::fs::write(&new, names)?;
    std::fs::rename(&new, hosts).with_context(|| format!("write {}", hosts.display()))
}

fn names(client: &Client) -> Result<String> {
    let list = |kind: &kinds::Kind| -> Result<Vec<Value>> {
        let mut answer = client.get(&format!("{}?resourceVersion=0", kind.collection(None)))?;
        Ok(answer["items"].take().as_array_mut().map(std::mem::take).unwrap_or_default())
    };
    let mut lines = BTreeSet::new();
    let slices = list(&kinds::ENDPOINT_SLICE)?;
    for service in list(&kinds::SERVICE)? {
        let meta = &service["metadata"];
        let (Some(name), Some(namespace)) = (meta["name"].as_str(), meta["namespace"].as_str()) else { continue };
        let full = format!("{name}.{namespace}.svc.cluster.local");
        match service["spec"]["clusterIP"].as_str() {
            Some("None") => {
                let of_service = |slice: &&Value| {
                    slice["metadata"]["namespace"] == *namespace
                        && slice["metadata"]["labels"]["kubernetes.io/service-name"] == *name
                };
                let endpoints = slices.iter().filter(of_service).filter_map(|slice| slice["endpoints"].as_array());
                for endpoint in endpoints.flatten().filter(|endpoint| endpoint["conditions"]["ready"] != false) {
                    for address in endpoint["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                        lines.insert(format!("{address} {full}"));
                        // A StatefulSet's pod has a name of its own.
                        lines.extend(endpoint["hostname"].as_str().map(|host| format!("{address} {host}.{full}")));
                    }
                }
            }
            Some(address) => {
                lines.insert(format!("{address} {full}"));
            }
            // ExternalName is another name, which no hosts file can say.
            None => {}
        }
    }
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}
