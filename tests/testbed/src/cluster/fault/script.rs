use serde_json::{Value, json};
use std::time::Duration;

/// Which requests a line of the script is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct On {
    verb: Option<&'static str>,
    resource: Option<String>,
}

impl On {
    /// Every request.
    #[must_use]
    pub fn anything() -> On {
        On { verb: None, resource: None }
    }

    #[must_use]
    pub fn list(resource: &str) -> On {
        On { verb: Some("list"), resource: Some(resource.into()) }
    }

    #[must_use]
    pub fn watch(resource: &str) -> On {
        On { verb: Some("watch"), resource: Some(resource.into()) }
    }

    #[must_use]
    pub fn any_watch() -> On {
        On { verb: Some("watch"), resource: None }
    }

    fn describes(&self, verb: &str, resource: &str) -> bool {
        self.verb.is_none_or(|wanted| wanted == verb) && self.resource.as_ref().is_none_or(|wanted| wanted == resource)
    }
}

/// What a request gets instead of its answer. Acts that count events are for watches in JSON, one object a line.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// This HTTP status at once, with a `Status` object that says the same.
    Status(u16),
    /// The request is passed on after this long.
    Delay(Duration),
    /// The connection is closed in place of an answer.
    Close,
    /// Nothing is answered, and nothing is closed.
    Silence,
    /// So many events, then the first half of the next one (or of an object that nobody sent, when
    /// none comes soon), then the end of the connection without the end of the body.
    HalfEvent { after: usize },
    /// So many events, then half of one, and an orderly end of the body: the connection stays usable.
    HalfEventThenEnd { after: usize },
    /// So many events, then nothing more, and the connection stays open.
    Stall { after: usize },
    /// So many events, then this one, then the end of the body.
    Event { after: usize, event: Value },
    /// So many events, then the end of the body, as when a server closes a watch.
    End { after: usize },
    /// Only events of other types than BOOKMARK are passed.
    NoBookmarks,
}

impl Act {
    /// The event by which a server ends a watch that fell behind (HTTP status 200, code 410 inside).
    #[must_use]
    pub fn gone_in_stream(after: usize) -> Act {
        let event = json!({"type": "ERROR", "object": status(410)});
        Act::Event { after, event }
    }
}

/// A `Status` object, as errors of the API are told.
pub(super) fn status(code: u16) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code,
        "message": format!("as the test's script says: {code}"),
    })
}

#[derive(Debug, Default)]
pub(super) struct Script {
    lines: Vec<(On, Act, Option<u32>)>,
    pub acted: u64,
}

impl Script {
    pub fn add(&mut self, on: On, act: Act, times: Option<u32>) {
        self.lines.push((on, act, times));
    }

    /// What this request gets; a line that was used up is gone.
    pub fn next(&mut self, verb: &str, resource: &str) -> Option<Act> {
        let at = self.lines.iter().position(|(on, _, times)| *times != Some(0) && on.describes(verb, resource))?;
        let (_, act, times) = &mut self.lines[at];
        if let Some(left) = times {
            *left -= 1;
        }
        self.acted += 1;
        Some(act.clone())
    }
}

/// Verb and resource of a request, as the audit log would name them (Kubernetes API concepts, "Resource URIs").
pub(super) fn classify(method: &str, target: &str) -> (String, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let rest = match parts.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        _ => return (method.to_lowercase(), parts.first().copied().unwrap_or_default().to_owned()),
    };
    let (resource, name) = match rest {
        ["namespaces", _, resource, rest @ ..] => (*resource, rest.first()),
        [resource, rest @ ..] => (*resource, rest.first()),
        [] => ("", None),
    };
    let watches = query.split('&').any(|word| ["watch=1", "watch=true"].contains(&word));
    let verb = match (method, name.is_some()) {
        ("GET", _) if watches => "watch",
        ("GET", false) => "list",
        ("GET", true) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => "other",
    };
    (verb.to_owned(), resource.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Act, On, Script, classify};

    #[test]
    fn requests_have_the_audit_logs_words() {
        let told = |method, target| {
            let (verb, resource) = classify(method, target);
            format!("{verb} {resource}")
        };
        assert_eq!(told("GET", "/api/v1/pods?limit=500"), "list pods");
        assert_eq!(told("GET", "/api/v1/pods?resourceVersion=1&watch=true"), "watch pods");
        assert_eq!(told("GET", "/apis/apps/v1/namespaces/shop/replicasets/a"), "get replicasets");
        assert_eq!(told("GET", "/api/v1/namespaces/shop/pods"), "list pods");
        assert_eq!(told("PATCH", "/api/v1/nodes/n1/status"), "patch nodes");
        assert_eq!(told("GET", "/version"), "get version");
    }

    #[test]
    fn a_line_is_used_as_often_as_it_says() {
        let mut script = Script::default();
        script.add(On::watch("pods"), Act::Status(410), Some(2));
        script.add(On::any_watch(), Act::Close, None);
        let mut next = |verb, resource| script.next(verb, resource);
        assert_eq!(next("list", "pods"), None);
        assert_eq!(next("watch", "pods"), Some(Act::Status(410)));
        assert_eq!(next("watch", "nodes"), Some(Act::Close));
        assert_eq!(next("watch", "pods"), Some(Act::Status(410)));
        assert_eq!(next("watch", "pods"), Some(Act::Close));
        assert_eq!(script.acted, 4);
    }
}
