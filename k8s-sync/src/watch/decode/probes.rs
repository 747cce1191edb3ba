//! Probes of a pod's containers that ask by plain HTTP.

use super::container::{ContainerJson, HttpGet, PortJson, ProbeJson, port};
use crate::cluster::object::{Probe, ProbeKind};

/// Probes of one pod: three for each of some containers.
const MOST: usize = 64;
/// Dissectors tell of so much of a request's target; a longer path is never recognised.
const LONGEST_PATH: usize = 1024;
/// Defaults of `v1` Probe and PodSpec.
const TIMEOUT_S: u32 = 1;
const FAILURES: u32 = 3;
const GRACE_S: u32 = 30;

/// Those of these containers, in a pod that has so long to end.
pub(super) fn probes<'b, 'a: 'b>(
    containers: impl Iterator<Item = &'b ContainerJson<'a>>,
    grace: Option<i64>,
) -> Vec<Probe> {
    let of_container = |container: &'b ContainerJson<'a>| {
        let kinds = [
            (ProbeKind::Startup, &container.startup_probe),
            (ProbeKind::Liveness, &container.liveness_probe),
            (ProbeKind::Readiness, &container.readiness_probe),
        ];
        kinds.into_iter().filter_map(move |(kind, json)| probe(container, kind, json.as_ref()?, grace))
    };
    containers.flat_map(of_container).take(MOST).collect()
}

fn probe(container: &ContainerJson<'_>, kind: ProbeKind, json: &ProbeJson<'_>, grace: Option<i64>) -> Option<Probe> {
    let ProbeJson { http_get, timeout_seconds, failure_threshold, termination_grace_period_seconds } = json;
    let HttpGet { path, port: of, host, scheme } = http_get.as_ref()?;
    // What goes elsewhere says nothing of the pod, and what is encrypted is not seen.
    let elsewhere = host.as_deref().is_some_and(|host| !host.is_empty());
    let encrypted = scheme.as_deref().is_some_and(|scheme| scheme == "HTTPS");
    if elsewhere || encrypted {
        return None;
    }
    let number = match of.as_ref()? {
        PortJson::Number(number) => port(*number)?,
        PortJson::Name(name) => {
            let mut ports = container.ports.iter().flatten();
            port(ports.find(|port| port.name.as_deref() == Some(&**name))?.container_port?)?
        }
    };
    let path = path.as_deref().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let at_least = |given: Option<i64>, least, default| {
        given.and_then(|given| u32::try_from(given).ok()).filter(|given| *given >= least).unwrap_or(default)
    };
    (path.len() <= LONGEST_PATH).then(|| Probe {
        container: container.name.as_deref().unwrap_or_default().to_owned(),
        kind,
        path,
        port: number,
        timeout_s: at_least(*timeout_seconds, 1, TIMEOUT_S),
        failures: at_least(*failure_threshold, 1, FAILURES),
        grace_s: at_least(termination_grace_period_seconds.or(grace), 0, GRACE_S),
    })
}
