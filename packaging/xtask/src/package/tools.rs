//! The two cargo commands that write packages: from PATH, from the cache, or installed there on first use.

use crate::command::run_command;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

const CARGO_DEB: &str = "3.8.0";
const CARGO_GENERATE_RPM: &str = "0.21.1";

pub(super) fn cargo_deb() -> Result<Command> {
    Ok(Command::new(find("cargo-deb", CARGO_DEB)?))
}

pub(super) fn cargo_generate_rpm() -> Result<Command> {
    Ok(Command::new(find("cargo-generate-rpm", CARGO_GENERATE_RPM)?))
}

/// A directory for what is dear to make and the same for every checkout.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("pilotfish"))
}

fn find(name: &str, version: &str) -> Result<PathBuf> {
    let root = cache()?.join("tools");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([root.join("bin")]);
    if let Some(found) = places.map(|place| place.join(name)).find(|path| path.exists()) {
        return Ok(found);
    }
    eprintln!("installing {name} into {}", root.display());
    let mut install = Command::new("cargo");
    install.args(["install", "--locked", name, "--version", version, "--root"]).arg(&root);
    run_command(&mut install, &format!("install {name}"))?;
    Ok(root.join("bin").join(name))
}
