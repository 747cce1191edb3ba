//! What is asked of the API server, as paths. There are five resources and two verbs; all are GET.

use crate::cluster::object::Resource;
use std::fmt::Write;

/// Objects in a page of a list. What client-go and kube use; about 5 MB of JSON for pods.
pub const PAGE: u32 = 500;

/// Jobs are needed for their owner only: the server leaves their bodies out.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// The same for a list.
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// One resource, narrowed to one node's if so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub resource: Resource,
    pub node: Option<String>,
}

impl Query {
    fn begin(&self) -> String {
        let mut path = match self.resource {
            Resource::Pods => "/api/v1/pods?",
            Resource::Services => "/api/v1/services?",
            Resource::Nodes => "/api/v1/nodes?",
            Resource::EndpointSlices => "/apis/discovery.k8s.io/v1/endpointslices?",
            Resource::Jobs => "/apis/batch/v1/jobs?",
        }
        .to_owned();
        if let Some(node) = &self.node {
            path.push_str("fieldSelector=spec.nodeName%3D");
            encode(&mut path, node);
            path.push('&');
        }
        path
    }

    /// A page of a consistent list: its first has no version, so that the server reads the newest;
    /// `resourceVersion=0` would ignore `limit`.
    #[must_use]
    pub fn page(&self, limit: u32, next: Option<&str>) -> String {
        let mut path = self.begin();
        let _ = write!(path, "limit={limit}");
        if let Some(next) = next {
            path.push_str("&continue=");
            encode(&mut path, next);
        }
        path
    }

    /// Everything after `version`. Without `timeout_s` the server chooses: 30 to 60 min, at random.
    #[must_use]
    pub fn watch(&self, version: &str, bookmarks: bool, timeout_s: Option<u32>) -> String {
        let mut path = self.begin();
        let _ = write!(path, "watch=1&allowWatchBookmarks={bookmarks}&resourceVersion=");
        encode(&mut path, version);
        timeout(&mut path, timeout_s);
        path
    }

    /// What exists, then everything after it. The version that a list would have is that of the
    /// bookmark between the two.
    #[must_use]
    pub fn streaming_list(&self, timeout_s: Option<u32>) -> String {
        let mut path = self.begin();
        path.push_str("watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
        timeout(&mut path, timeout_s);
        path
    }

    #[must_use]
    pub fn accept(&self, is_list: bool) -> &'static str {
        match (self.resource, is_list) {
            (Resource::Jobs, true) => METADATA_LIST,
            (Resource::Jobs, false) => METADATA,
            _ => "application/json",
        }
    }
}

fn timeout(path: &mut String, timeout_s: Option<u32>) {
    if let Some(seconds) = timeout_s {
        let _ = write!(path, "&timeoutSeconds={seconds}");
    }
}

/// Percent-encodes everything but the unreserved characters (RFC 3986, 2.3).
pub(super) fn encode(path: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
            _ => {
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_the_api_takes_them() {
        let all = Query { resource: Resource::EndpointSlices, node: None };
        assert_eq!(all.page(500, None), "/apis/discovery.k8s.io/v1/endpointslices?limit=500");
        let own = Query { resource: Resource::Pods, node: Some("a.b".to_owned()) };
        assert_eq!(
            own.page(2, Some("x=&y")),
            "/api/v1/pods?fieldSelector=spec.nodeName%3Da.b&limit=2&continue=x%3D%26y"
        );
        assert_eq!(
            own.watch("7 ", true, Some(9)),
            "/api/v1/pods?fieldSelector=spec.nodeName%3Da.b&watch=1&allowWatchBookmarks=true&resourceVersion=7%20&timeoutSeconds=9"
        );
        assert!(all.streaming_list(None).ends_with("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"));
    }

    #[test]
    fn every_path_is_a_uri_whatever_is_put_in() {
        for word in ["", "\u{0}\n", "ä#?&%", "..\\/"] {
            let query = Query { resource: Resource::Pods, node: Some(word.to_owned()) };
            for path in [query.page(1, Some(word)), query.watch(word, false, None)] {
                assert!(path.parse::<hyper::Uri>().is_ok(), "{path}");
            }
        }
    }
}
