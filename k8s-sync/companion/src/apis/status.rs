//! What went wrong, as Kubernetes' `Status`.

use super::kind::{GROUP, Kind};
use serde_json::{Value, json};

/// Kubernetes' `Status` of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of HTTP.
    pub code: u16,
    reason: &'static str,
    message: String,
    details: Option<(Kind, String)>,
}

impl Failure {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, reason, message: message.into(), details: None }
    }

    pub(super) fn not_found(kind: Kind, name: &str) -> Failure {
        let message = format!("{}.{GROUP} \"{name}\" not found", kind.resource());
        Failure { details: Some((kind, name.to_owned())), ..Failure::new(404, "NotFound", message) }
    }

    /// Who is not the API server.
    #[must_use]
    pub fn unauthorized(why: &str) -> Failure {
        Failure::new(401, "Unauthorized", why)
    }

    /// Too much is asked at once.
    #[must_use]
    pub fn too_many() -> Failure {
        Failure::new(429, "TooManyRequests", "too many watches are open")
    }

    /// What answers it is not ready to.
    pub fn unavailable(why: &str) -> Failure {
        Failure::new(503, "ServiceUnavailable", why)
    }

    /// The document.
    #[must_use]
    pub fn body(&self) -> Value {
        let details =
            self.details.as_ref().map(|(kind, name)| json!({ "group": GROUP, "kind": kind.resource(), "name": name }));
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": details.unwrap_or(json!({})), "code": self.code,
        })
    }
}
