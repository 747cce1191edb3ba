use super::*;

/// A file after the other, each `path: text`.
fn check(files: &[(&str, &str)], expected: &[&str]) {
    let files: Vec<SourceFile> =
        files.iter().map(|(path, text)| SourceFile { path: format!("src/{path}"), text: (*text).to_owned() }).collect();
    let name = |path: &str| path.trim_start_matches("src/").trim_end_matches(".rs").to_owned();
    let edges = Modules::read("src/lib.rs", &files).edges();
    let edges: BTreeSet<String> =
        edges.iter().map(|edge| format!("{} -> {}", name(&edge.from), name(&edge.to))).collect();
    assert_eq!(edges.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn declaring_a_child_is_no_use_of_it() {
    check(&[("lib.rs", "mod a; pub use a::A;"), ("a.rs", "struct A;")], &["lib -> a"]);
    check(&[("lib.rs", "pub mod a;"), ("a.rs", "struct A;")], &[]);
}

#[test]
fn a_name_that_a_parent_hands_on_is_taken_from_where_it_is_defined() {
    check(
        &[
            ("lib.rs", "mod a; mod b; pub use a::A;"),
            ("a.rs", "pub struct A;"),
            ("b.rs", "use super::A; use crate::A as Again;"),
        ],
        &["b -> a", "lib -> a"],
    );
}

#[test]
fn a_name_that_the_parent_defines_is_taken_from_the_parent() {
    check(
        &[("lib.rs", "mod a; use a::run; pub struct Shared;"), ("a.rs", "use super::Shared; pub fn run() {}")],
        &["a -> lib", "lib -> a"],
    );
}

#[test]
fn a_module_that_is_imported_is_used_where_its_names_are() {
    check(
        &[
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a/mod.rs", "mod deep; pub use deep::x; pub fn y() {}"),
            ("a/deep.rs", "pub fn x() {}"),
            ("b.rs", "use crate::a; fn f() { a::x() }"),
            ("c.rs", "use super::a::{self, y}; fn f() { a::x(); super::a::deep::x() }"),
        ],
        &["a/mod -> a/deep", "b -> a/deep", "c -> a/deep", "c -> a/mod"],
    );
}

#[test]
fn a_module_within_braces_is_of_its_file() {
    check(
        &[("lib.rs", "mod a; mod b { pub struct B; use super::a::A; }"), ("a.rs", "use crate::b::B; struct A;")],
        &["a -> lib", "lib -> a"],
    );
}

#[test]
fn who_takes_everything_takes_it_from_the_file_itself() {
    check(&[("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::*;"), ("b.rs", "struct B;")], &["a -> b"]);
}

#[test]
fn other_crates_and_own_names_are_no_files() {
    check(
        &[("lib.rs", "mod a;"), ("a.rs", "use std::a::b; enum E { X } fn f() { E::X; std::mem::take(x); Vec::new() }")],
        &[],
    );
}

#[test]
fn a_circle_is_told_with_its_imports() {
    let files = [
        ("src/lib.rs", "mod a; mod b; mod c;"),
        ("src/a.rs", "use crate::b::B;\npub struct A;"),
        ("src/b.rs", "\nuse crate::a::A; pub struct B;"),
        ("src/c.rs", "use crate::a::A;"),
    ];
    let files: Vec<SourceFile> =
        files.iter().map(|(path, text)| SourceFile { path: (*path).into(), text: (*text).into() }).collect();
    let circles = Modules::read("src/lib.rs", &files).circles();
    let told: Vec<String> = circles.iter().flatten().map(|e| format!("{}:{} {}", e.from, e.line, e.path)).collect();
    assert_eq!(told, ["src/a.rs:1 crate::b::B", "src/b.rs:2 crate::a::A"]);
}
