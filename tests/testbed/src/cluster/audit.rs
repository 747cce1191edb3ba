//! What the API server says that it was asked, from its audit log (level Metadata): the judge of how kind an agent is.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// Every request but those that the API server makes of itself, once it has been answered and once
/// more when a watch ends.
pub(super) const POLICY: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","rules":[{"level":"Metadata","omitStages":["RequestReceived"]}]}"#;

#[derive(Clone, Debug)]
pub struct Audit {
    path: PathBuf,
}

/// A place in the log: what was asked before it is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(u64);

/// One request, however many lines the log has about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Empty where the token was no good: the log names nobody then.
    pub user: String,
    /// get, list, watch, create, update, patch, delete, ...
    pub verb: String,
    /// Plural; empty for a path that is no resource.
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub uri: String,
    pub user_agent: String,
    /// 0 for a watch that is open and has not been answered.
    pub code: u16,
    /// RFC 3339 with microseconds, as the server's clock had it.
    pub received: String,
    /// It has ended: of a watch, the stream.
    pub is_over: bool,
}

impl Request {
    #[must_use]
    pub fn is_mutating(&self) -> bool {
        ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str())
    }
}

impl Audit {
    pub(super) fn at(path: &Path) -> Audit {
        Audit { path: path.to_owned() }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Now.
    pub fn mark(&self) -> Mark {
        Mark(std::fs::metadata(&self.path).map_or(0, |file| file.len()))
    }

    /// Requests that were first told of after `mark`, in that order: the end of a watch that was
    /// open by then is no request.
    pub fn since(&self, mark: Mark) -> Result<Vec<Request>> {
        let text = std::fs::read(&self.path).with_context(|| format!("read {}", self.path.display()))?;
        let (before, after) = text.split_at(text.len().min(usize::try_from(mark.0)?));
        let before = String::from_utf8_lossy(before);
        let old = before.split("\"auditID\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        Ok(requests(&String::from_utf8_lossy(after), &old))
    }

    /// How often each `verb resource` was asked for by a user, successful or not; where it is no resource, `verb path`.
    pub fn counts(&self, user: &str, mark: Mark) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for request in self.since(mark)?.iter().filter(|request| request.user == user) {
            let path = request.uri.split('?').next().unwrap_or_default();
            let what = if request.resource.is_empty() { path } else { &request.resource };
            *counts.entry(format!("{} {what}", request.verb)).or_default() += 1;
        }
        Ok(counts)
    }
}

/// One for each auditID: stages follow each other, and a watch that is refused is told of twice.
/// The last line of the log may be half written.
fn requests(text: &str, old: &HashSet<&str>) -> Vec<Request> {
    let mut order: Vec<Request> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(id) = event["auditID"].as_str().filter(|id| !old.contains(id)) else { continue };
        let request = read(&event);
        match known.get(id).and_then(|at| order.get_mut(*at)) {
            Some(seen) => *seen = request,
            None => {
                known.insert(id.to_owned(), order.len());
                order.push(request);
            }
        }
    }
    order
}

fn read(event: &Value) -> Request {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    Request {
        user: text(&event["user"]["username"]),
        verb: text(&event["verb"]),
        resource: text(&object["resource"]),
        subresource: text(&object["subresource"]),
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        uri: text(&event["requestURI"]),
        user_agent: text(&event["userAgent"]),
        code: event["responseStatus"]["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(0),
        received: text(&event["requestReceivedTimestamp"]),
        is_over: event["stage"] == "ResponseComplete" || event["stage"] == "Panic",
    }
}

#[cfg(test)]
mod tests {
    use super::requests;

    #[test]
    fn stages_of_a_request_are_one_request() {
        let line = |id: &str, stage: &str, code: u16| {
            format!(
                "{{\"auditID\":\"{id}\",\"stage\":\"{stage}\",\"verb\":\"watch\",\"user\":{{\"username\":\"u\"}},\
                 \"objectRef\":{{\"resource\":\"pods\"}},\"responseStatus\":{{\"code\":{code}}}}}\n"
            )
        };
        let log =
            [line("a", "ResponseStarted", 200), line("b", "ResponseStarted", 403), line("b", "ResponseComplete", 403)];
        let half = "{\"auditID\":\"c\",\"sta";
        let found = requests(&(line("z", "ResponseComplete", 200) + &log.concat() + half), &["z"].into());
        let told: Vec<_> = found.iter().map(|r| (r.verb.as_str(), r.resource.as_str(), r.code, r.is_over)).collect();
        assert_eq!(told, [("watch", "pods", 200, false), ("watch", "pods", 403, true)]);
    }
}
