//! Whose a symbol is. Pure.
//!
//! A crate owns what is written in it, and what the standard library makes for its types:
//! `alloc::vec::Vec<http::Uri>::push` is there because of `http`. So the first crate that is not the
//! standard library's, read from the left, is the owner: the outermost type, or the crate of the
//! function itself.

use std::collections::BTreeSet;

/// The standard library, with what is compiled into it.
pub(super) const STD: &str = "std";
/// C, assembly, the linker's own and the start of the program.
pub(super) const OTHER: &str = "other";

/// `crates` are named as in paths, with `_`.
pub(super) fn owner<'a>(symbol: &str, crates: &'a BTreeSet<String>) -> &'a str {
    let Ok(name) = rustc_demangle::try_demangle(symbol) else {
        return of_c(symbol, crates);
    };
    // Without the hashes of crates.
    let path = format!("{name:#}");
    roots(&path).find_map(|root| crates.get(root)).map_or(STD, String::as_str)
}

/// Libraries of C put their name before each function that they give to others.
fn of_c<'a>(symbol: &str, crates: &'a BTreeSet<String>) -> &'a str {
    let mut ends = symbol.match_indices('_').map(|(at, _)| at);
    ends.find_map(|end| crates.get(&symbol[..end])).map_or(OTHER, String::as_str)
}

/// Names that begin a path, from the left.
fn roots(path: &str) -> impl Iterator<Item = &str> {
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let begin = at + path.get(at..)?.find(is_of_name)?;
            let rest = &path[begin..];
            let name = &rest[..rest.find(|c| !is_of_name(c)).unwrap_or(rest.len())];
            at = begin + name.len();
            if !path[..begin].ends_with(':') && path[at..].starts_with("::") {
                return Some(name);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crates() -> BTreeSet<String> {
        ["http", "tokio", "hyper_util", "ring", "serde"].map(str::to_owned).into()
    }

    fn check(path: &str, expected: &[&str]) {
        assert_eq!(roots(path).collect::<Vec<_>>(), expected, "{path}");
    }

    #[test]
    fn a_path_begins_with_its_crate() {
        check("http::uri::Uri::path", &["http"]);
        check("<alloc::vec::Vec<http::Uri> as core::fmt::Debug>::fmt", &["alloc", "http", "core"]);
        check("core::ptr::drop_in_place::<(u8, &mut hyper_util::client::Pool)>", &["core", "hyper_util"]);
        check("tokio::runtime::task::raw::poll::<http::X>::{closure#0}", &["tokio", "http"]);
        check("<str as serde::Serialize>::serialize", &["serde"]);
        check("main", &[]);
        check("", &[]);
        check("<dyn core::any::Any + core::marker::Send>::é::x", &["core", "core"]);
    }

    #[test]
    fn a_symbol_is_its_outermost_crates_that_is_not_std() {
        let crates = crates();
        // <alloc::vec::Vec<http::Uri>>::push, in today's mangling.
        let v0 = "_RNvMs_NtCs1_5alloc3vecINtB4_3VecNtCs2_4http3UriE4push";
        assert_eq!(owner(v0, &crates), "http");
        assert_eq!(owner("_ZN5tokio7runtime5Spawn17h0123456789abcdefE", &crates), "tokio");
        assert_eq!(owner("_ZN4core3fmt5write17h0123456789abcdefE", &crates), STD);
        // Compiled into the standard library, and no dependency of ours.
        assert_eq!(owner("_ZN5gimli4read4unit17h0123456789abcdefE", &crates), STD);
    }

    #[test]
    fn what_is_not_rust_is_its_librarys_or_nobodys() {
        let crates = crates();
        assert_eq!(owner("ring_core_0_17_14__sha256_block", &crates), "ring");
        assert_eq!(owner("_start", &crates), OTHER);
        assert_eq!(owner("memcpy", &crates), OTHER);
        assert_eq!(owner("", &crates), OTHER);
        assert_eq!(owner("ringing_core", &crates), OTHER);
    }
}
