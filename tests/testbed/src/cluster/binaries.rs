//! Kubernetes' own programs and etcd: found on the machine, or built from Go modules once and kept outside the tree.

use super::build;
pub use super::program::{ETCD, KUBERNETES, Program};
use crate::network::run;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program's path. From the directory that `PILOTFISH_K8S_BIN` names, else from `PATH` where it
/// has the right version, else from [`cache`], where it is built first if need be: minutes, told on
/// the console.
pub fn find(program: Program) -> Result<PathBuf> {
    Ok(find_all(&[program])?.remove(0))
}

/// As [`find`], for several at once: what has to be built is built in one go.
pub fn find_all(programs: &[Program]) -> Result<Vec<PathBuf>> {
    let found = programs.iter().map(|program| find_built(*program)).collect::<Result<Vec<_>>>()?;
    let missing: Vec<Program> =
        Program::ALL.into_iter().filter(|p| programs.iter().zip(&found).any(|(q, f)| p == q && f.is_none())).collect();
    if !missing.is_empty() {
        build_missing(&missing)?;
    }
    programs.iter().map(|program| find_built(*program)?.context("it was just built")).collect()
}

fn find_built(program: Program) -> Result<Option<PathBuf>> {
    if let Some(directory) = std::env::var_os("PILOTFISH_K8S_BIN").filter(|directory| !directory.is_empty()) {
        let path = PathBuf::from(directory).join(program.name());
        if !path.is_file() {
            bail!("PILOTFISH_K8S_BIN is set, but there is no {}", path.display());
        }
        return Ok(Some(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|place| place.join(program.name())).find(|path| path.is_file());
    if let Some(path) = installed.filter(|path| has_right_version(program, path)) {
        return Ok(Some(path));
    }
    let cached = cache()?.join(program.name());
    Ok(cached.is_file().then_some(cached))
}

fn has_right_version(program: Program, path: &Path) -> bool {
    let said = run(Command::new(path).args(program.version_arguments())).unwrap_or_default();
    said.contains(&program.wanted_version())
}

/// Where built programs are kept: `$XDG_CACHE_HOME/pilotfish/k8s/<version>` (`~/.cache/...` without it).
pub fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let base =
        base.context("neither XDG_CACHE_HOME nor HOME is set, so there is no place to keep Kubernetes' programs")?;
    Ok(base.join("pilotfish/k8s").join(KUBERNETES))
}

/// One build at a time on a machine: who comes second finds the programs made.
fn build_missing(missing: &[Program]) -> Result<()> {
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let lock = File::create(cache.join("lock"))?;
    if lock.try_lock().is_err() {
        build::tell("waiting: Kubernetes' programs are being built by another process");
        lock.lock()?;
    }
    let missing: Vec<Program> = missing.iter().copied().filter(|p| !cache.join(p.name()).is_file()).collect();
    if missing.is_empty() { Ok(()) } else { build::programs(&missing, &cache) }
}
