//! What of an HTTP request's target may be shown.

/// The path of a target in any of its forms (RFC 9112 section 3.2): never a query, a fragment, or
/// what stands before an `@`. The authority form has no path: host and port.
pub(super) fn path(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    if target.starts_with('/') {
        return target;
    }
    let rest = match target.split_once("://") {
        Some((_, rest)) => match rest.find('/') {
            Some(at) => return rest.get(at..).unwrap_or("/"),
            None => return "/",
        },
        None => target,
    };
    rest.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::path;
    use proptest::prelude::*;

    #[test]
    fn a_target_of_any_form_is_shown_without_its_query_and_without_credentials() {
        for (target, shown) in [
            ("/a/b?x=1#y", "/a/b"),
            ("/a#y?x", "/a"),
            ("/@me/a:b@c", "/@me/a:b@c"),
            ("http://user:secret@h.example/a?u=http://x/", "/a"),
            ("http://user:secret@h.example", "/"),
            ("http://user:secret@h.example?u=/secret", "/"),
            ("user:secret@h.example:443", "h.example:443"),
            ("h.example:443", "h.example:443"),
            ("*", "*"),
            ("?token=secret", ""),
            ("", ""),
        ] {
            assert_eq!(path(target), shown, "{target}");
        }
    }

    proptest! {
        #[test]
        fn nothing_behind_a_question_mark_is_shown(before in "[a-z:/@.]{0,20}", query in "\\PC{0,20}") {
            let target = format!("{before}?SECRET{query}");
            prop_assert!(!path(&target).contains("SECRET"));
            prop_assert!(!path(&target).contains('?'));
        }

        #[test]
        fn credentials_before_a_host_are_not_shown(scheme in "(http://|https://|)", after in "[a-z.]{1,9}(:[0-9]{2})?(/[a-z]{0,5})?") {
            let target = format!("{scheme}user:SECRET@{after}");
            prop_assert!(!path(&target).contains("SECRET"), "{}", path(&target));
        }
    }
}
