use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The program `name` as an administrator's shell would find it.
pub fn installed(name: &str) -> Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"])
        .map(|dir| Path::new(dir).join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{name} is not installed; run scripts/setup.sh --test"))
}

/// A binary of this workspace, from the same profile as the running program: the directory of the
/// running program, or its parent for a test (`deps/`). `PILOTFISH_BIN_DIR` says otherwise.
pub fn built_binary(name: &str) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("PILOTFISH_BIN_DIR") {
        return Ok(PathBuf::from(dir).join(name));
    }
    let me = std::env::current_exe()?;
    for dir in me.ancestors().skip(1).take(2) {
        let candidate = dir.join(name);
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("{name} is not built; run `cargo build -p agentd -p companion -p testbed` with the same profile first")
}
