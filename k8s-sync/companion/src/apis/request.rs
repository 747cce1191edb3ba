//! What a request asks for: path, query and `Accept`.

use super::discovery::Document;
use super::kind::{GROUP, Kind, VERSION};
use super::status::Failure;

/// In which form objects are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Json,
    /// As rows for a person.
    Table,
    /// The same, each with its whole object: kubectl sorts by what is in it.
    WholeTable,
}

/// Which objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Of this kind.
    pub kind: Kind,
    /// Of this namespace; `None`: of all.
    pub namespace: Option<String>,
    /// The one of this name, by its path.
    pub name: Option<String>,
    /// Of a list the one of this name, by a selector.
    pub only: Option<String>,
    /// With these labels, or without: `=`, `!=` and the bare name.
    pub labels: Vec<(String, Option<String>, bool)>,
}

/// Once, or as they change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// As they are now.
    Once,
    /// As they change; with what is there first, where the client has nothing yet.
    Watch {
        /// The client has no state.
        from_nothing: bool,
        /// It ends by itself after so many seconds.
        seconds: u64,
    },
}

/// A request that is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A constant.
    Document {
        /// Which.
        document: Document,
        /// The client reads aggregated discovery.
        accept_v2: bool,
    },
    /// Objects.
    Objects {
        /// Which.
        selected: Selected,
        /// In which form.
        form: Form,
        /// Once, or as they change.
        reads: Reads,
    },
}

/// A watch ends after half an hour, as the API server's own do.
const LONGEST: u64 = 1_800;

impl Asked {
    /// # Errors
    /// With the `Status` to answer.
    pub fn read(method: &str, path: &str, query: &str, accept: &str) -> Result<Asked, Failure> {
        if method != "GET" {
            return Err(Failure::new(405, "MethodNotAllowed", format!("{method} is not supported: these are figures")));
        }
        let accept_v2 = accept.contains("as=APIGroupDiscoveryList") && accept.contains("v=v2;");
        if let Some(document) = Document::at(path) {
            return Ok(Asked::Document { document, accept_v2 });
        }
        let unknown = || Failure::new(404, "NotFound", "the server could not find the requested resource");
        let rest = path.strip_prefix("/apis/").and_then(|rest| rest.strip_prefix(GROUP));
        let rest = rest.and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.strip_prefix(VERSION));
        let segments: Option<Vec<String>> =
            rest.and_then(|rest| rest.strip_prefix('/')).ok_or_else(unknown)?.split('/').map(decoded).collect();
        let segments = segments.ok_or_else(unknown)?;
        let (namespace, resource, name) = match segments.as_slice() {
            [resource] => (None, resource, None),
            [word, namespace, resource] if word == "namespaces" => (Some(namespace), resource, None),
            [word, namespace, resource, name] if word == "namespaces" => (Some(namespace), resource, Some(name)),
            [resource, name] => (None, resource, Some(name)),
            _ => return Err(unknown()),
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.resource() == resource).ok_or_else(unknown)?;
        // One of all namespaces has no path, and what is in none has no other.
        if if kind.is_namespaced() { name.is_some() && namespace.is_none() } else { namespace.is_some() } {
            return Err(unknown());
        }
        let mut selected =
            Selected { kind, namespace: namespace.cloned(), name: name.cloned(), only: None, labels: Vec::new() };
        let form = match accept.contains("as=Table") && accept.contains("g=meta.k8s.io") {
            true if query.split('&').any(|part| part == "includeObject=Object") => Form::WholeTable,
            true => Form::Table,
            false => Form::Json,
        };
        let reads = read_query(query, &mut selected)?;
        Ok(Asked::Objects { selected, form, reads })
    }
}

fn read_query(query: &str, selected: &mut Selected) -> Result<Reads, Failure> {
    let bad = |what: String| Failure::new(400, "BadRequest", what);
    let (mut watch, mut from_nothing, mut seconds) = (false, true, LONGEST);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = decoded(value).ok_or_else(|| bad(format!("{name} is no text")))?;
        match name {
            "watch" => watch = matches!(&*value, "true" | "1" | ""),
            "resourceVersion" => from_nothing = matches!(&*value, "" | "0"),
            "timeoutSeconds" => seconds = value.parse::<u64>().unwrap_or(LONGEST).clamp(1, LONGEST),
            // The client falls back to a list and a watch.
            "sendInitialEvents" if value == "true" => {
                let message = "sendInitialEvents is forbidden: list, then watch";
                return Err(Failure::new(422, "Invalid", message));
            }
            "labelSelector" => selected.labels = value.split(',').filter(|one| !one.is_empty()).map(label).collect(),
            "fieldSelector" => {
                for one in value.split(',').filter(|one| !one.is_empty()) {
                    match one.split_once('=').map(|(name, value)| (name, value.trim_start_matches('='))) {
                        Some(("metadata.name", name)) => selected.only = Some(name.to_owned()),
                        // It narrows: the right to read was asked for by the path.
                        Some(("metadata.namespace", namespace))
                            if selected.namespace.as_deref().is_none_or(|path| path == namespace) =>
                        {
                            selected.namespace = Some(namespace.to_owned());
                        }
                        Some(("metadata.namespace", _)) => selected.only = Some(String::new()),
                        _ => {
                            return Err(bad(format!(
                                "field selector {one}: metadata.name and metadata.namespace are known"
                            )));
                        }
                    }
                }
            }
            // limit, allowWatchBookmarks, pretty ..: nothing changes with them.
            _ => {}
        }
    }
    Ok(if watch { Reads::Watch { from_nothing, seconds } } else { Reads::Once })
}

/// Name, value, and whether it is asked for or ruled out.
fn label(one: &str) -> (String, Option<String>, bool) {
    if let Some((name, value)) = one.split_once("!=") {
        return (name.to_owned(), Some(value.to_owned()), false);
    }
    if let Some((name, value)) = one.split_once('=') {
        return (name.to_owned(), Some(value.trim_start_matches('=').to_owned()), true);
    }
    match one.strip_prefix('!') {
        Some(name) => (name.to_owned(), None, false),
        None => (one.to_owned(), None, true),
    }
}

/// RFC 3986 section 2.1; a `+` in a query is what it is.
pub(super) fn decoded(text: &str) -> Option<String> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            out.push(*byte);
        }
    }
    String::from_utf8(out).ok()
}
