//! Where names stand in the files of a report, and how each file is masked without breaking it.

use super::kind::Kind;
use super::table::Masks;
use crate::cli::report::part::{Form, Part};
use serde_json::Value;

/// Texts under these keys are ours: digests of the build, and words of closed sets.
const OURS: [&str; 6] = ["version", "commit", "kernel_object", "schema", "at", "target"];
/// What says that a name is only the class of an address.
const CLASS: &str = "Address";
const HOME: &str = concat!("/ho", "me/");

/// Labels of a sample and their values, as they are without escapes.
type Labels<'a> = Vec<(&'a str, String)>;

/// What a text under this key, or in this label, names.
fn named_by(key: &str) -> Option<Kind> {
    Some(match key {
        "namespace" | "client_namespace" | "server_namespace" | "namespaces" => Kind::Namespace,
        "workload" | "client" | "server" | "client_workload" | "server_workload" | "server_service" | "service" => {
            Kind::Workload
        }
        "pod" | "pods" => Kind::Pod,
        "container" => Kind::Container,
        "container_id" | "sandbox_id" => Kind::Id,
        "node" => Kind::Node,
        "path" | "cgroup" => Kind::Cgroup,
        "address" | "addresses" | "ip" | "companion" => Kind::Host,
        _ => return None,
    })
}

/// Remembers every name that this part tells in a place for names.
pub fn learn(masks: &mut Masks, part: &Part) {
    let Some(content) = &part.content else { return };
    for behind in content.split(HOME).skip(1) {
        let end = behind.find(|c: char| !(c.is_alphanumeric() || "._-".contains(c))).unwrap_or(behind.len());
        masks.name(Kind::User, behind.get(..end).unwrap_or_default());
    }
    match part.form {
        Form::Json => drop(serde_json::from_str(content).map(|value| learn_value(masks, "", &value))),
        Form::JsonLines => {
            for line in content.lines() {
                drop(serde_json::from_str(line).map(|value| learn_value(masks, "", &value)));
            }
        }
        Form::Metrics => content.lines().filter_map(labels).for_each(|(_, labels, _)| learn_labels(masks, &labels)),
        Form::Text => {}
    }
}

fn learn_value(masks: &mut Masks, key: &str, value: &Value) {
    match value {
        Value::String(text) => {
            if let Some(kind) = named_by(key) {
                name(masks, kind, text);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| learn_value(masks, key, value)),
        Value::Object(fields) => {
            let text = |key: &str| fields.get(key).and_then(Value::as_str);
            if let (Some(kind), Some(named)) = (text("kind"), text("name"))
                && kind != CLASS
            {
                name(masks, Kind::Workload, named);
            }
            let is_class = |key: &str| text(&format!("{key}_kind")) == Some(CLASS);
            for (key, value) in fields.iter().filter(|(key, _)| !OURS.contains(&key.as_str()) && !is_class(key)) {
                learn_value(masks, key, value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn learn_labels(masks: &mut Masks, labels: &[(&str, String)]) {
    let of = |wanted: &str| labels.iter().find(|(label, _)| *label == wanted).map(|(_, value)| value.as_str());
    let is_class =
        |label: &str| label.split_once('_').is_some_and(|(end, _)| of(&format!("{end}_kind")) == Some(CLASS));
    for (label, value) in labels.iter().filter(|(label, _)| !is_class(label)) {
        if let Some(kind) = named_by(label) {
            name(masks, kind, value);
        }
    }
}

/// A name as it is told somewhere: with its namespace before it, or its port behind it, or as a URL.
fn name(masks: &mut Masks, kind: Kind, told: &str) {
    // Words for what has no name.
    if told.starts_with('_') || told.contains("://") {
        return;
    }
    match (kind, told.split_once('/')) {
        (Kind::Workload, Some((namespace, workload))) => {
            masks.name(Kind::Namespace, namespace);
            masks.name(Kind::Workload, workload);
        }
        (Kind::Host, _) => {
            let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let host = told.rsplit_once(':').filter(|(host, port)| is_port(port) && !host.contains(':'));
            let host = host.map_or(told, |(host, _)| host);
            // An address has its shape.
            if host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err() {
                masks.name(kind, host);
            }
        }
        _ => masks.name(kind, told),
    }
}

/// Masks everything in this part. What is not in the form that it should have is left out: nobody
/// knows where its names stand.
pub fn apply(masks: &mut Masks, part: &mut Part) {
    part.detail = masks.text(&part.detail);
    let Some(content) = part.content.take() else { return };
    part.content = match part.form {
        Form::Text => Some(masks.text(&content)),
        Form::Json => document(masks, &content).map(|text| text + "\n"),
        Form::JsonLines => Some(content.lines().filter_map(|text| line(masks, text)).map(|line| line + "\n").collect()),
        Form::Metrics => Some(content.lines().map(|line| sample(masks, line) + "\n").collect()),
    };
    if part.content.is_none() {
        part.detail = "left out: too long, or damaged, to be masked as a whole".to_owned();
    }
}

fn document(masks: &mut Masks, text: &str) -> Option<String> {
    let mut value = serde_json::from_str(text).ok()?;
    mask_value(masks, &mut value);
    serde_json::to_string_pretty(&value).ok()
}

fn line(masks: &mut Masks, text: &str) -> Option<String> {
    let mut value = serde_json::from_str(text).ok()?;
    mask_value(masks, &mut value);
    serde_json::to_string(&value).ok()
}

fn mask_value(masks: &mut Masks, value: &mut Value) {
    match value {
        Value::String(text) => *text = masks.text(text),
        Value::Array(values) => values.iter_mut().for_each(|value| mask_value(masks, value)),
        Value::Object(fields) => {
            let is_ours = |key: &str| OURS.contains(&key);
            fields.iter_mut().filter(|(key, _)| !is_ours(key)).for_each(|(_, value)| mask_value(masks, value));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A line of the page. Comments are ours.
fn sample(masks: &mut Masks, line: &str) -> String {
    let Some((name, labels, rest)) = labels(line) else {
        return line.to_owned();
    };
    let masked = |(label, value): (&str, String)| {
        let value = if label == "le" || OURS.contains(&label) { value } else { masks.text(&value) };
        format!("{label}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
    };
    let labels: Vec<String> = labels.into_iter().map(masked).collect();
    format!("{name}{{{}}}{rest}", labels.join(","))
}

/// Name, labels and the rest of a sample; None for a line without labels.
fn labels(line: &str) -> Option<(&str, Labels<'_>, &str)> {
    if line.starts_with('#') {
        return None;
    }
    let (name, mut rest) = line.split_once('{')?;
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((name, labels, behind));
        }
        let (label, behind) = rest.split_once("=\"")?;
        let (value, behind) = quoted(behind)?;
        labels.push((label, value));
        rest = behind;
    }
}

/// A text up to its closing quote, and what follows that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}
