//! The route of an HTTP request: its path with a placeholder for each segment that looks like a value.
//!
//! What a path alone can tell is told here. That a segment is one of a set that keeps growing shows only
//! over many requests to one server, and is learned where series are kept.

use std::sync::Arc;

/// Stands for a segment. One word for all of them: an identifier that is all digits by chance is of
/// the same route.
const PLACEHOLDER: &str = "{id}";
/// Stands for all that follows.
const REST: &str = "/*";
/// Bytes of a route, `REST` not counted.
const LONGEST: usize = 128;
/// Segments of a route that are told.
const SEGMENTS: usize = 8;
/// Longer segments are values.
const LONGEST_WORD: usize = 64;
/// From this length on, random text can be told from words.
const RANDOM: usize = 16;
/// Targets that are kept for the next request are not longer: an idle connection is to cost little.
const LONGEST_KEPT: usize = 128;

/// The newest target of a connection with its route: most connections ask the same again and again.
#[derive(Debug, Default)]
pub(crate) struct Newest(Option<Arc<Routed>>);

/// Shared by the requests that have it: a pointer in each.
#[derive(Debug)]
pub(crate) struct Routed {
    target: Box<[u8]>,
    route: Arc<str>,
}

/// As records have it; empty where there is none.
pub(crate) fn told(routed: Option<&Arc<Routed>>) -> Arc<str> {
    routed.map_or_else(Arc::default, |routed| routed.route.clone())
}

impl Newest {
    /// The route of a target (RFC 9112 section 3.2); `None` where it has no path.
    pub(crate) fn route(&mut self, target: &[u8]) -> Option<Arc<Routed>> {
        let newest = self.0.as_ref();
        if let Some(routed) = newest
            && !target.is_empty()
            && *routed.target == *target
        {
            return newest.cloned();
        }
        let route = route(target);
        if route.is_empty() {
            return None;
        }
        let route = match newest {
            Some(routed) if *routed.route == *route => routed.route.clone(),
            _ => route.into(),
        };
        // Of a long one nothing is kept: it will be told anew.
        let target = if target.len() <= LONGEST_KEPT { target.into() } else { Box::default() };
        self.0 = Some(Arc::new(Routed { target, route }));
        self.0.clone()
    }

    /// Bytes that it takes.
    pub(crate) fn held(&self) -> usize {
        self.0.as_deref().map_or(0, |routed| size_of::<Routed>() + routed.target.len() + routed.route.len())
    }
}

/// Never has a query, a fragment, or parameters of a segment (RFC 3986 section 3.3).
fn route(target: &[u8]) -> String {
    let Some(path) = path(target) else { return String::new() };
    if path == b"*" {
        return "*".to_owned();
    }
    let mut route = String::with_capacity(path.len().min(LONGEST + REST.len()));
    for (place, segment) in path.split(|byte| *byte == b'/').skip(1).enumerate() {
        let segment = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        let word = match std::str::from_utf8(segment) {
            Ok(word) if !is_value(segment) => word,
            _ => PLACEHOLDER,
        };
        if place == SEGMENTS || route.len() + 1 + word.len() > LONGEST {
            route.push_str(REST);
            break;
        }
        route.push('/');
        route.push_str(word);
    }
    route
}

/// The path of an origin-form or absolute-form target, or `*`.
fn path(target: &[u8]) -> Option<&[u8]> {
    let target = match target.first()? {
        b'/' => target,
        b'*' if target.len() == 1 => return Some(target),
        _ => {
            let authority = target.get(memchr::memmem::find(target, b"://")? + 3..)?;
            match authority.iter().position(|byte| b"/?#".contains(byte)) {
                Some(at) if authority.get(at) == Some(&b'/') => authority.get(at..)?,
                _ => b"/",
            }
        }
    };
    target.split(|byte| b"?#".contains(byte)).next()
}

/// Whether a segment is a number, an address, a date, a UUID, random text, or text that somebody has
/// written (percent-encoded, an e-mail address): what differs from request to request.
fn is_value(segment: &[u8]) -> bool {
    let (mut digits, mut upper, mut lower, mut hex) = (0, 0, 0, 0);
    for &byte in segment {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'A'..=b'Z' => upper += 1,
            b'a'..=b'z' => lower += 1,
            b'-' | b'.' | b'_' | b'~' | b':' | b'$' => {}
            // Of the others RFC 3986 allows, routes that people write have none.
            _ => return true,
        }
        hex += usize::from(byte.is_ascii_hexdigit());
    }
    let (length, letters) = (segment.len(), upper + lower);
    let is_number = digits > 0 && letters == 0;
    let is_uuid = length == 36 && hex == 32 && [8, 13, 18, 23].iter().all(|at| segment.get(*at) == Some(&b'-'));
    let is_random = length >= RANDOM && digits > 0 && (hex == length || upper > 0 && lower > 0 || digits * 4 >= length);
    is_number || is_uuid || is_random || length > LONGEST_WORD || is_date(segment)
}

/// A date of RFC 3339, alone or before a time.
fn is_date(segment: &[u8]) -> bool {
    let digits =
        |range: std::ops::Range<usize>| segment.get(range).is_some_and(|digits| digits.iter().all(u8::is_ascii_digit));
    digits(0..4) && segment.get(4) == Some(&b'-') && digits(5..7) && segment.get(7) == Some(&b'-') && digits(8..10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_give_way_to_a_placeholder() {
        let check = |target: &str, expected: &str| assert_eq!(route(target.as_bytes()), expected, "{target}");
        check("/", "/");
        check("/api/v1/users", "/api/v1/users");
        check("/users/42", "/users/{id}");
        check("/users/42/", "/users/{id}/");
        check("/users/-1/posts/7.5", "/users/{id}/posts/{id}");
        check("/o/3f2504e0-4f89-11d3-9a0c-0305e82c3301/items", "/o/{id}/items");
        check("/blobs/sha256:9f86d081884c7d659a2feaa0c55ad015", "/blobs/{id}");
        check("/commit/9f86d081884c7d65", "/commit/{id}");
        check("/token/eyJhbGciOiJIUzI1NiJ9", "/token/{id}");
        check("/of/2026-02-03/at/2026-02-03T04:05:06Z", "/of/{id}/at/{id}");
        check("/mail/anna@example.com", "/mail/{id}");
        check("/search/a%20b", "/search/{id}");
        check("/hosts/10.0.0.7", "/hosts/{id}");
        check("/oauth2/token-exchange-grants", "/oauth2/token-exchange-grants");
        check("/getUserAccountSettingsOfTenant", "/getUserAccountSettingsOfTenant");
        check("/deadbeefdeadbeefdead", "/deadbeefdeadbeefdead");
        check("/odata/$metadata", "/odata/$metadata");
        check("/v1/projects:batchGet", "/v1/projects:batchGet");
    }

    #[test]
    fn targets_of_every_form() {
        let check = |target: &str, expected: &str| assert_eq!(route(target.as_bytes()), expected, "{target}");
        check("/a?user=7#x", "/a");
        check("/a;jsessionid=1A2B/b;v=2", "/a/b");
        check("http://shop:8080/a/1?b", "/a/{id}");
        check("http://shop", "/");
        check("http://shop?a=/b", "/");
        check("http://user:secret@shop/a", "/a");
        check("*", "*");
        check("shop:443", "");
        check("", "");
        check("a/b", "");
        check("//", "//");
    }

    #[test]
    fn what_is_long_ends() {
        assert_eq!(route(b"/a/b/c/d/e/f/g/h/i/j"), "/a/b/c/d/e/f/g/h/*");
        assert_eq!(route(format!("/{}", "a".repeat(65)).as_bytes()), "/{id}");
        let long = format!("/{}", ["a".repeat(60), "b".repeat(60), "c".repeat(60)].join("/"));
        assert_eq!(route(long.as_bytes()), format!("/{}/{}/*", "a".repeat(60), "b".repeat(60)));
    }

    #[test]
    fn a_connection_that_asks_the_same_shares_its_route() {
        let mut newest = Newest::default();
        let mut told = |target: &[u8]| told(newest.route(target).as_ref());
        let first = told(b"/users/1?a");
        assert!(Arc::ptr_eq(&first, &told(b"/users/1?a")));
        assert!(Arc::ptr_eq(&first, &told(b"/users/2")), "another user, the same route");
        assert_eq!(&*told(b"/other"), "/other");
        assert_eq!(&*told(b"shop:443"), "");
    }

    fn targets() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(Vec::new()),
            proptest::collection::vec(any::<u8>(), 0..400),
            "(/[a-zA-Z0-9._~:;?#%{}*-]{0,20}){0,12}".prop_map(String::into_bytes),
        ]
    }

    proptest! {
        /// Whatever is sent, and whatever before: bounded, of printable ASCII, without a query, and its own route.
        #[test]
        fn a_route_is_a_bounded_word(
            target in targets(),
            before in proptest::option::of(targets()),
            again in any::<bool>(),
        ) {
            let told = route(&target);
            prop_assert!(told.len() <= LONGEST + REST.len());
            prop_assert!(told.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#;%".contains(&byte)), "{told}");
            prop_assert!(told.is_empty() || told.starts_with('/') || told == "*");
            let mut newest = Newest::default();
            for sent in before.iter().chain(again.then_some(&target)) {
                newest.route(sent);
            }
            prop_assert_eq!(&*super::told(newest.route(&target).as_ref()), &*told);
        }
    }
}
