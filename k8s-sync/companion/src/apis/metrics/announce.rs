//! What the groups say that they have. Lists are short: every kubectl reads them, and what the HPA's
//! controller asks for need not be in them.

use super::groups::{CUSTOM, EXTERNAL, Groups};
use crate::apis::answer::Answer;
use crate::apis::discovery::Document;
use crate::apis::request::Asked;
use crate::figure::Measure;
use serde_json::{Value, json};

/// Objects that are named in lists.
const OBJECTS: [&str; 2] = ["services", "deployments.apps"];

fn version(group: &str) -> &'static str {
    if group == CUSTOM.0 { CUSTOM.1 } else { EXTERNAL.1 }
}

fn kind(group: &str) -> &'static str {
    if group == CUSTOM.0 { "MetricValueList" } else { "ExternalMetricValueList" }
}

/// `/apis/GROUP`
pub(super) fn group(group: &str) -> Value {
    let version = version(group);
    let version = json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": [version], "preferredVersion": version,
    })
}

/// `/apis/GROUP/VERSION`
pub(super) fn resources(group: &str) -> Value {
    let one = |name: String| json!({ "name": name, "singularName": "", "namespaced": true, "kind": kind(group), "verbs": ["get"] });
    let names = Measure::ALL.map(Measure::name).into_iter().flat_map(|metric| match group == CUSTOM.0 {
        true => OBJECTS.iter().map(|object| format!("{object}/{metric}")).collect(),
        false => vec![metric.to_owned()],
    });
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{}", version(group)),
        "resources": names.map(one).collect::<Value>(),
    })
}

/// The same for those who read aggregated discovery: there `a/b` is b below a.
fn aggregated(group: &str) -> Value {
    let kind = json!({ "group": group, "version": version(group), "kind": kind(group) });
    let resources: Value = match group == CUSTOM.0 {
        true => OBJECTS
            .iter()
            .map(|object| {
                let below =
                    |metric: Measure| json!({ "subresource": metric.name(), "responseKind": kind, "verbs": ["get"] });
                // Without a kind it is itself no resource.
                json!({
                    "resource": object, "singularResource": "", "scope": "Namespaced", "verbs": [],
                    "responseKind": { "group": "", "version": "", "kind": "" },
                    "subresources": Measure::ALL.map(below),
                })
            })
            .collect(),
        false => Measure::ALL
            .iter()
            .map(|metric| {
                json!({
                    "resource": metric.name(), "singularResource": "", "scope": "Namespaced", "verbs": ["get"],
                    "responseKind": kind,
                })
            })
            .collect(),
    };
    let version = json!({ "version": version(group), "freshness": "Current", "resources": resources });
    json!({ "metadata": { "name": group }, "versions": [version] })
}

impl Groups {
    /// Names those that are served in the list of all groups.
    pub fn announce(self, asked: &Asked, answer: &mut Answer) {
        let Asked::Document { document: Document::Groups, accept_v2 } = asked else { return };
        let (list, one): (_, fn(&str) -> Value) = if *accept_v2 { ("items", aggregated) } else { ("groups", group) };
        if let Some(all) = answer.body[list].as_array_mut() {
            all.extend(self.served().map(|(group, _)| one(group)));
        }
    }
}
