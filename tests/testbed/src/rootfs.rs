//! A root file system made of the machine's own files: the servers, the libraries that they are
//! linked with, and what they expect to find. Nothing is downloaded.

use crate::network::run;
use crate::programs::installed;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const DIRECTORIES: [&str; 20] = [
    "bin",
    "conf",
    "data",
    "dev",
    "etc/nginx",
    "etc/ssl",
    "logs",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib/nginx",
    "usr/share/nginx",
    "var/cache",
    "var/lib/nginx",
    "var/lib/redis",
    "var/log/nginx",
    "var/run",
];

/// Applets that the containers' scripts use.
const APPLETS: [&str; 15] =
    ["sh", "cat", "chown", "echo", "kill", "ls", "mkdir", "nc", "ping", "ps", "sleep", "su", "true", "false", "wget"];

/// Servers and clients that become part of the root file system where they are installed.
const PROGRAMS: [&str; 7] = ["nginx", "redis-server", "redis-benchmark", "redis-cli", "dnsmasq", "wrk", "dig"];

/// Makes `root`, with `ours` (built binaries) in its `/bin`.
pub(crate) fn create(root: &Path, ours: &[&Path]) -> Result<()> {
    for directory in DIRECTORIES {
        fs::create_dir_all(root.join(directory))?;
    }
    let busybox = installed("busybox")?;
    fs::copy(&busybox, root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).ok();
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nwww-data:x:33:33::/:/bin/false\n\
         redis:x:100:100::/:/bin/false\ndnsmasq:x:101:65534::/:/bin/false\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\nwww-data:x:33:\nredis:x:100:\ndip:x:30:\n")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    fs::write(root.join("etc/resolv.conf"), "")?;
    fs::write(root.join("etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n")?;
    for program in PROGRAMS {
        if let Ok(path) = installed(program) {
            add_program(root, &path)?;
        }
    }
    for path in ours {
        add_program(root, path)?;
    }
    Ok(())
}

/// Adds the newest PostgreSQL of the machine: where its programs are, inside. Seldom wanted, and large.
pub(crate) fn add_postgres(root: &Path) -> Result<PathBuf> {
    let (programs, shared) = (Path::new("/usr/lib/postgresql"), Path::new("/usr/share/postgresql"));
    let versions = fs::read_dir(programs).context("postgresql is not installed; run scripts/setup.sh --test")?;
    let versions = versions.filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.parse::<u32>().ok());
    let version = versions.max().context("a version of PostgreSQL")?.to_string();
    let bin = programs.join(&version).join("bin");
    for name in ["initdb", "postgres"] {
        add_libraries(root, &bin.join(name))?;
        copy_tree(root, &bin.join(name))?;
    }
    // What initdb has the server load, and not what compiles queries, which has 26 MB.
    for name in ["dict_snowball.so", "plpgsql.so"] {
        copy_tree(root, &programs.join(&version).join("lib").join(name))?;
    }
    copy_tree(root, &shared.join(&version))?;
    Ok(bin)
}

/// Adds MariaDB: where its program is, inside. Seldom wanted, and large.
pub(crate) fn add_mariadb(root: &Path) -> Result<PathBuf> {
    let program = installed("mariadbd").context("mariadb-server-core is not installed; run scripts/setup.sh --test")?;
    add_libraries(root, &program)?;
    for path in [&*program, Path::new("/usr/share/mysql/english"), Path::new("/usr/share/mysql/charsets")] {
        copy_tree(root, path)?;
    }
    Ok(program)
}

/// Copies a file, or all that is in a directory, to the same place below `root`.
fn copy_tree(root: &Path, from: &Path) -> Result<()> {
    let to = root.join(from.strip_prefix("/").unwrap_or(from));
    if from.is_dir() {
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from)? {
            copy_tree(root, &entry?.path())?;
        }
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
    fs::copy(from, &to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

/// Copies a program into `/bin`, and its libraries.
fn add_program(root: &Path, program: &Path) -> Result<()> {
    let name = program.file_name().context("a program has a name")?;
    fs::copy(program, root.join("bin").join(name)).with_context(|| format!("copy {}", program.display()))?;
    add_libraries(root, program)
}

/// Copies the libraries that the loader names for a program to where the loader looks for them.
fn add_libraries(root: &Path, program: &Path) -> Result<()> {
    let listed = run(Command::new("ldd").arg(program)).unwrap_or_default();
    for library in listed.split_ascii_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(library.trim_start_matches('/'));
        if !place.exists() {
            fs::create_dir_all(place.parent().context("a library is in a directory")?)?;
            fs::copy(library, &place).with_context(|| format!("copy {library}"))?;
        }
    }
    Ok(())
}
