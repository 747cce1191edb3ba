//! Builds for an architecture, and runs what was built, on a machine of that kind or another.
//! Nothing of the machine's own is changed: cargo is told about the cross compiler in its
//! environment, and programs of the other kind run under QEMU's user mode.

use crate::arch::{Arch, Facts};
use crate::command::output_of;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a tool of gcc or binutils that works for `arch` is called here.
pub(crate) fn tool(arch: Arch, name: &str) -> String {
    if arch.is_of_this_machine() { name.to_owned() } else { format!("{}-{name}", arch.facts().gnu) }
}

/// Has `cargo` build for `arch`. For this machine it is told nothing, so that what was built
/// without us is built no second time.
pub(crate) fn build(arch: Arch, cargo: &mut Command) -> Result<()> {
    if arch.is_of_this_machine() {
        return Ok(());
    }
    let Facts { rust_target, .. } = arch.facts();
    ensure!(
        has_std(rust_target)?,
        "Rust's library for {rust_target} is missing: scripts/setup.sh --aarch64 installs it"
    );
    let linker = linker_variable(rust_target);
    // A linker of one's own stays.
    if std::env::var_os(&linker).is_none() {
        cargo.env(linker, tool(arch, "gcc"));
    }
    cargo.args(["--target", rust_target]);
    Ok(())
}

fn linker_variable(rust_target: &str) -> String {
    format!("CARGO_TARGET_{}_LINKER", rust_target.to_uppercase().replace('-', "_"))
}

fn has_std(rust_target: &str) -> Result<bool> {
    let libraries = output_of(
        Command::new("rustc").args(["--print", "target-libdir", "--target", rust_target]),
        "find Rust's library",
    )?;
    Ok(Path::new(libraries.trim()).is_dir())
}

/// Where cargo leaves the profiles' directories of what it was to [`build`].
pub(crate) fn built(arch: Arch, target: &Path) -> PathBuf {
    if arch.is_of_this_machine() { target.to_owned() } else { target.join(arch.facts().rust_target) }
}

/// Where Debian's cross compiler has the libraries of the other architecture.
fn sysroot(arch: Arch) -> PathBuf {
    Path::new("/usr").join(arch.facts().gnu)
}

/// The command that runs a program of `arch`.
pub(crate) fn run(arch: Arch, program: &Path) -> Command {
    if arch.is_of_this_machine() {
        return Command::new(program);
    }
    let mut emulated = Command::new(format!("qemu-{}", arch.facts().name));
    emulated.arg("-L").arg(sysroot(arch)).arg(program);
    emulated
}

/// The shared libraries that a program loads, its loader among them, and where it looks for each.
/// Those of another architecture are the cross compiler's, whose C library is the one that our
/// programs are linked with, and else those below `root`.
pub(crate) fn libraries(arch: Arch, program: &Path, root: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let act = "list the libraries of a program";
    if arch.is_of_this_machine() {
        let listing = output_of(Command::new("ldd").arg(program), act)?;
        return Ok(paths(&listing).map(|path| (path.clone(), path)).collect());
    }
    let Facts { gnu, loader, .. } = arch.facts();
    let places = [sysroot(arch).join("lib"), root.join("lib").join(gnu), root.join("usr/lib").join(gnu)];
    let own_loader = sysroot(arch).join(loader.trim_start_matches('/'));
    let mut list = run(arch, &own_loader);
    list.arg("--library-path").arg(std::env::join_paths(places).context("a path of libraries")?);
    let listing = output_of(list.arg("--list").arg(program), act)?;
    let mut found = vec![(own_loader.clone(), PathBuf::from(loader))];
    // The loader is listed by its name in the program, too, which is no file here.
    for path in paths(&listing).filter(|path| *path != own_loader && path.exists()) {
        let name = path.file_name().context("a library's path")?.to_owned();
        found.push((path, Path::new("/lib").join(gnu).join(name)));
    }
    Ok(found)
}

/// The absolute paths in what ldd says.
fn paths(listing: &str) -> impl Iterator<Item = PathBuf> {
    listing.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_takes_the_linker_from_a_variable_of_the_targets_name() {
        assert_eq!(linker_variable("aarch64-unknown-linux-gnu"), "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER");
    }

    #[test]
    fn nothing_is_said_to_cargo_when_it_builds_for_this_machine() -> Result<()> {
        for arch in Arch::ALL.into_iter().filter(|arch| arch.is_of_this_machine()) {
            let mut cargo = Command::new("cargo");
            build(arch, cargo.arg("build"))?;
            assert!(cargo.get_args().eq(["build"]) && cargo.get_envs().count() == 0);
            assert_eq!(built(arch, Path::new("target")), Path::new("target"));
            assert_eq!(run(arch, Path::new("/bin/true")).get_program(), "/bin/true");
        }
        Ok(())
    }

    #[test]
    fn what_is_of_another_machine_has_its_own_tools_and_directories() {
        for arch in Arch::ALL.into_iter().filter(|arch| !arch.is_of_this_machine()) {
            let Facts { name, gnu, rust_target, .. } = arch.facts();
            assert_eq!(tool(arch, "strip"), format!("{gnu}-strip"));
            assert_eq!(built(arch, Path::new("target")), Path::new("target").join(rust_target));
            assert_eq!(run(arch, Path::new("agent")).get_program().to_str(), Some(format!("qemu-{name}").as_str()));
        }
    }

    #[test]
    fn libraries_are_read_from_what_the_loader_lists() {
        let listing = "\tlinux-vdso.so.1 (0x7ffd)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f4e)\n\t/lib64/ld.so.2 (0x7f4f)\n";
        let found: Vec<PathBuf> = paths(listing).collect();
        assert_eq!(found, [Path::new("/lib/libc.so.6"), Path::new("/lib64/ld.so.2")]);
    }
}
