//! What gRPC says in HTTP/2's words: the call's name, and its status.

use flow_model::RpcCall;
use std::borrow::Cow;
use std::sync::Arc;

/// In the order of their numbers (grpc/grpc `doc/statuscodes.md`).
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of a code; its number where it has none.
pub(super) fn code(number: u16) -> Cow<'static, str> {
    match CODES.get(usize::from(number)) {
        Some(name) => Cow::Borrowed(name),
        None if number == u16::MAX => Cow::Borrowed("UNKNOWN"),
        None => Cow::Owned(number.to_string()),
    }
}

/// The error code of HTTP/2 of one that is not interested any more.
pub(super) const CANCEL: u32 = 8;

/// The status of a call that ended with an error code of HTTP/2 (grpc/grpc `doc/PROTOCOL-HTTP2.md`, "Errors").
pub(super) fn of_reset(error: Option<u32>) -> &'static str {
    match error {
        Some(0..=4 | 6 | 9 | 10) => "INTERNAL",
        Some(7) => "UNAVAILABLE",
        Some(8) => "CANCELLED",
        Some(11) => "RESOURCE_EXHAUSTED",
        Some(12) => "PERMISSION_DENIED",
        Some(_) => "UNKNOWN",
        None => "",
    }
}

/// The status of a call whose answer says none (grpc/grpc `doc/http-grpc-status-mapping.md`).
pub(super) fn of_http(status: u16) -> &'static str {
    match status {
        400 => "INTERNAL",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "UNIMPLEMENTED",
        429 | 502 | 503 | 504 => "UNAVAILABLE",
        _ => "UNKNOWN",
    }
}

/// Names of a connection's latest calls: they repeat, and records share them.
#[derive(Debug, Default)]
pub(super) struct Names {
    latest: Vec<Call>,
    /// The next one to be replaced.
    next: u8,
}

/// A service with its package, and one of its methods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    service: Arc<str>,
    method: Arc<str>,
}

/// Calls of which the names are remembered: few clients use more on one connection in turn, and those that
/// do pay for an allocation.
const LATEST: usize = 4;

/// Longest name, as `flow-model` promises.
const NAME_MAX: usize = 255;

impl Names {
    /// The call that a path names: `/package.Service/Method`.
    pub(super) fn of(&mut self, path: &str) -> Call {
        let path = path.split('?').next().unwrap_or_default();
        let path = path.strip_prefix('/').unwrap_or(path);
        let (service, method) = path.rsplit_once('/').unwrap_or(("", path));
        let (service, method) = (short(service), short(method));
        let known = self.latest.iter().find(|call| &*call.method == method && &*call.service == service);
        if let Some(call) = known {
            return call.clone();
        }
        let call = Call { service: service.into(), method: method.into() };
        if self.latest.len() < LATEST {
            self.latest.push(call.clone());
        } else if let Some(place) = self.latest.get_mut(usize::from(self.next)) {
            *place = call.clone();
            self.next = (self.next + 1) % LATEST as u8;
        }
        call
    }

    pub(super) fn held(&self) -> usize {
        self.latest.iter().map(|call| size_of::<Call>() + 32 + call.service.len() + call.method.len()).sum()
    }
}

impl Call {
    pub(super) fn record(self, status: Cow<'static, str>, http_status: Option<u16>) -> RpcCall {
        RpcCall { system: "grpc", service: self.service, method: self.method, status, http_status }
    }
}

fn short(name: &str) -> &str {
    let mut end = name.len().min(NAME_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_service_and_a_method() {
        let check = |path: &str, service: &str, method: &str| {
            let call = Names::default().of(path);
            assert_eq!((&*call.service, &*call.method), (service, method), "{path}");
        };
        check("/shop.v1.Cart/AddItem", "shop.v1.Cart", "AddItem");
        check("/prefix/shop.Cart/AddItem?token=secret", "prefix/shop.Cart", "AddItem");
        check("Method", "", "Method");
        check("", "", "");
        check(&format!("/{}/m", "\u{e9}".repeat(200)), &"\u{e9}".repeat(127), "m");
    }

    #[test]
    fn names_that_repeat_are_shared() {
        let mut names = Names::default();
        let first = names.of("/a/b");
        assert!(Arc::ptr_eq(&first.method, &names.of("/a/b").method));
        for number in 0..100 {
            names.of(&format!("/a/{number}"));
        }
        assert_eq!(names.latest.len(), LATEST);
    }

    #[test]
    fn a_code_is_shown_by_its_name_or_its_number() {
        assert_eq!([code(0), code(16), code(17), code(u16::MAX)], ["OK", "UNAUTHENTICATED", "17", "UNKNOWN"]);
        let statuses = [200, 401, 404, 429, 503, 418].map(of_http);
        assert_eq!(statuses, ["UNKNOWN", "UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE", "UNAVAILABLE", "UNKNOWN"]);
        let resets = [Some(0), Some(5), Some(7), Some(8), Some(11), Some(13), None].map(of_reset);
        assert_eq!(resets, ["INTERNAL", "UNKNOWN", "UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED", "UNKNOWN", ""]);
    }
}
