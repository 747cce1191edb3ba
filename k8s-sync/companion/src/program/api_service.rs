//! The APIServices that lead to the companion. Printed, not applied: which APIs a cluster has is for its
//! admins. An API of which a cluster has one provider is never taken from another.

use super::args::{ApiServiceArgs, Group, Service};
use super::exit::Failure;
use super::{files, secrets};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use companion::apis::{GROUP, VERSION, metrics};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;

/// What `kubectl get apiservices -o json` prints of a large cluster has some 100 KiB.
const LARGEST: u64 = 16 << 20;

impl Group {
    fn group_version(self) -> (&'static str, &'static str) {
        match self {
            Group::Traffic => (GROUP, VERSION),
            Group::CustomMetrics => metrics::CUSTOM,
            Group::ExternalMetrics => metrics::EXTERNAL,
        }
    }
}

/// # Errors
/// The CA is none, or another provider has the group.
pub fn api_service(args: &ApiServiceArgs) -> Result<String, Failure> {
    let ApiServiceArgs { service, port, ca, group, beside } = args;
    let text = files::text("--ca", ca)?;
    let count = CertificateDer::pem_slice_iter(text.as_bytes()).filter(Result::is_ok).count();
    if count == 0 {
        return Err(Failure::usage(format!("--ca: {}: has no certificate", ca.display())));
    }
    let (group, version) = group.group_version();
    if let Some(beside) = beside {
        free(&read(beside)?, group, service).map_err(|fault| Failure::usage(format!("--beside: {fault}")))?;
    }
    let Service { namespace, name } = service;
    Ok(secrets::shown(&json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": { "name": format!("{version}.{group}") },
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 1_000,
            "versionPriority": 10,
            "caBundle": STANDARD.encode(text),
            "service": { "namespace": namespace, "name": name, "port": port },
        },
    })))
}

fn read(path: &Path) -> Result<String, Failure> {
    if path != Path::new("-") {
        return files::text("--beside", path);
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().take(LARGEST).read_to_string(&mut text);
    read.map_err(|error| Failure::of_system("--beside: read the standard input", &error))?;
    Ok(text)
}

/// Whether nobody but `service` has a version of `group`.
fn free(list: &str, group: &str, service: &Service) -> Result<(), String> {
    let list: Value = serde_json::from_str(list).map_err(|error| format!("is no JSON: {error}"))?;
    let items = list["items"].as_array().filter(|_| list["kind"].as_str().is_some_and(|kind| kind.ends_with("List")));
    let items = items.ok_or("is not what `kubectl get apiservices -o json` prints")?;
    // Every API server has some of its own.
    if !items.iter().any(|item| item["kind"] == "APIService") {
        return Err("has no APIService".to_owned());
    }
    let of_group = items.iter().filter(|item| item["spec"]["group"] == group);
    for item in of_group {
        let to = &item["spec"]["service"];
        if to["namespace"] != service.namespace.as_str() || to["name"] != service.name.as_str() {
            let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
            return Err(format!(
                "{} is served by {}/{}: a cluster has one provider of {group}",
                text(&item["metadata"]["name"]),
                text(&to["namespace"]),
                text(&to["name"]),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn companion() -> Service {
        Service { namespace: "pilotfish".to_owned(), name: "companion".to_owned() }
    }

    fn list(services: &[(&str, &str, &str)]) -> String {
        let item = |(version, group, namespace): &(&str, &str, &str)| {
            let service = json!({ "namespace": namespace, "name": "companion" });
            json!({
                "kind": "APIService", "metadata": { "name": format!("{version}.{group}") },
                "spec": { "group": group, "version": version, "service": service },
            })
        };
        let own = json!({ "kind": "APIService", "metadata": { "name": "v1.apps" }, "spec": { "group": "apps" } });
        let items: Vec<Value> = services.iter().map(item).chain([own]).collect();
        json!({ "kind": "List", "items": items }).to_string()
    }

    #[test]
    fn another_providers_place_is_not_taken_whatever_the_version() {
        let group = metrics::CUSTOM.0;
        let is_free = |services: &[(&str, &str, &str)]| free(&list(services), group, &companion());
        assert_eq!(is_free(&[]), Ok(()));
        // Its own, of before, and another group's.
        assert_eq!(is_free(&[("v1beta2", group, "pilotfish"), ("v1beta1", "metrics.k8s.io", "kube-system")]), Ok(()));
        for version in ["v1beta1", "v1beta2"] {
            let told = is_free(&[("v1beta1", "metrics.k8s.io", "kube-system"), (version, group, "monitoring")]);
            let told = told.unwrap_err();
            assert!(told.contains("is served by monitoring/companion: a cluster has one provider"), "{told}");
        }
    }

    #[test]
    fn what_is_no_list_says_nothing() {
        for text in ["", "{}", "[]", "{\"kind\":\"List\",\"items\":[]}", "{\"kind\":\"Pod\",\"items\":[{}]}"] {
            assert!(free(text, "g", &companion()).is_err(), "{text}");
        }
    }
}
