//! Answers, in the words of the two APIs.

use super::announce;
use super::ask::{Ask, Asked, Object};
use super::groups::{CUSTOM, EXTERNAL};
use crate::apis::answer::Answer;
use crate::apis::status::Failure;
use crate::figure::{Figure, Measure, Missing};
use flow_model::rfc3339;
use golden_metrics::Answering;
use serde_json::{Value, json};
use std::time::SystemTime;

/// Answers what was asked. `figure` says it, or why there is none. Zero stands for nothing but zero, and
/// nothing is told that lacks a part: whoever scales by it holds, and repeats our words.
pub fn answer(ask: &Ask, figure: impl FnOnce(&Asked) -> Result<Figure, Missing>, now: SystemTime) -> Answer {
    match ask {
        Ask::Group(group) => Answer::json(announce::group(group)),
        Ask::Resources(group) => Answer::json(announce::resources(group)),
        Ask::Figure(asked) => match figure(asked) {
            Ok(figure) => Answer::json(told(asked, &quantity(asked.measure, figure.value), now)),
            Err(missing) => {
                let message = format!("{} of {}: {missing}", asked.measure.name(), called(asked));
                Failure::new(404, "NotFound", message).into()
            }
        },
    }
}

fn told(asked: &Asked, value: &str, now: SystemTime) -> Value {
    let (Answering::Workload { namespace, .. } | Answering::Service { namespace, .. }) = &asked.answering;
    match &asked.object {
        Object::Described { kind, version, resource: _, name } => {
            let object = json!({ "kind": kind, "namespace": namespace, "name": name, "apiVersion": version });
            json!({
                "kind": "MetricValueList", "apiVersion": format!("{}/{}", CUSTOM.0, CUSTOM.1), "metadata": {},
                "items": [{
                    "describedObject": object, "metric": { "name": asked.measure.name(), "selector": null },
                    "timestamp": rfc3339(now), "windowSeconds": 60, "value": value,
                }],
            })
        }
        Object::Labelled(labels) => {
            let labels: serde_json::Map<String, Value> =
                labels.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
            json!({
                "kind": "ExternalMetricValueList", "apiVersion": format!("{}/{}", EXTERNAL.0, EXTERNAL.1),
                "metadata": {},
                "items": [{
                    "metricName": asked.measure.name(), "metricLabels": labels,
                    "timestamp": rfc3339(now), "window": 60, "value": value,
                }],
            })
        }
    }
}

fn called(asked: &Asked) -> String {
    let (Answering::Workload { namespace, .. } | Answering::Service { namespace, .. }) = &asked.answering;
    match &asked.object {
        Object::Described { resource, name, .. } => format!("{resource} \"{name}\" in {namespace}"),
        Object::Labelled(labels) => {
            let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} in {namespace}", labels.join(","))
        }
    }
}

/// A `resource.Quantity`: thousandths of a request a second, millionths of a second.
fn quantity(measure: Measure, value: f64) -> String {
    let (scale, suffix) = match measure {
        Measure::Rate => (1e3, "m"),
        Measure::P95 => (1e6, "u"),
    };
    // The cast keeps what it cannot show at its bounds.
    format!("{}{suffix}", (value.max(0.0) * scale).round().min(1e15) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apis::metrics::groups::Groups;
    use crate::figure::Gap;
    use std::time::Duration;

    fn ask(path: &str) -> Ask {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Ask::read(Groups { custom: true, external: true }, "GET", path, query).unwrap().unwrap()
    }

    #[test]
    fn a_figure_is_what_the_controller_reads() {
        let object = ask(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/deployments.apps/api/http_request_duration_seconds_p95",
        );
        let Answer { status, body, .. } = answer(
            &object,
            |_| Ok(Figure { value: 0.012_345_6 }),
            SystemTime::UNIX_EPOCH + Duration::from_secs(86_400),
        );
        let item = &body["items"][0];
        assert_eq!((status, &body["kind"], &item["value"]), (200, &"MetricValueList".into(), &"12346u".into()));
        assert_eq!(item["describedObject"]["apiVersion"], "apps/v1");
        assert_eq!(item["timestamp"], "1970-01-02T00:00:00Z");
        let labels = ask(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/http_requests_per_second?labelSelector=service%3Dapi",
        );
        let Answer { body, .. } = answer(&labels, |_| Ok(Figure { value: 30.0 }), SystemTime::UNIX_EPOCH);
        assert_eq!(
            (&body["items"][0]["value"], &body["items"][0]["metricLabels"]["service"]),
            (&"30000m".into(), &"api".into())
        );
        for (value, text) in [(0.0, "0m"), (f64::NAN, "0m"), (f64::INFINITY, "1000000000000000m"), (0.000_4, "0m")] {
            assert_eq!(quantity(Measure::Rate, value), text);
        }
    }

    #[test]
    fn what_lacks_a_node_is_a_404_that_names_it() {
        let object = ask("/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/services/api/http_requests_per_second");
        let gaps = |n: u32| (1..=n).map(|n| (format!("n{n}"), Gap::Silent(Duration::from_secs(47)))).collect();
        let Answer { status, body, .. } = answer(&object, |_| Err(Missing::Nodes(gaps(1))), SystemTime::UNIX_EPOCH);
        assert_eq!(status, 404);
        assert_eq!(
            body["message"],
            "http_requests_per_second of services \"api\" in shop: a sum would lack a part; node n1 runs pods of it, \
             and it has been silent for 40 s"
        );
        let Answer { body, .. } = answer(&object, |_| Err(Missing::Nodes(gaps(9))), SystemTime::UNIX_EPOCH);
        assert!(body["message"].as_str().unwrap().ends_with("; and 6 more nodes"), "{body}");
    }
}
