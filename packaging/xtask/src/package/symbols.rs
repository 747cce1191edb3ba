//! What is compiled into a program: its crates.

use super::product::Product;
use super::source::Source;
use crate::arch::Arch;
use crate::command::output;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// Crates of the agent as their paths begin, its own among them.
pub(crate) fn crates() -> Result<BTreeSet<String>> {
    let lines = tree(Product::Agent, &Source::read()?.root, Arch::or_this(None)?, "{lib}")?;
    let names = lines.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty());
    // A program has no library to be named by.
    Ok(names.map(str::to_owned).chain(["pilotfish".to_owned()]).collect())
}

/// Name and version of each.
pub(super) fn packages(product: Product, root: &Path, arch: Arch) -> Result<BTreeSet<(String, String)>> {
    let package = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.trim_start_matches('v').to_owned()))
    };
    Ok(tree(product, root, arch, "{p}")?.lines().filter_map(package).collect())
}

/// A line for each use of each crate that is compiled into the program.
fn tree(product: Product, root: &Path, arch: Arch, format: &str) -> Result<String> {
    let mut tree = Command::new("cargo");
    tree.current_dir(root).stderr(Stdio::inherit());
    tree.args([
        "tree",
        "--locked",
        "-p",
        product.krate(),
        "-e",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "-f",
        format,
    ]);
    tree.args(["--target", arch.facts().rust_target]);
    output(&mut tree)
}
