//! Building Kubernetes' programs from Go modules: one generated module has what all of them and etcd need.

use super::program::{KUBERNETES, Program};
use crate::signals;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Kubernetes 1.36 asks for it in its go.mod.
const GO: (u32, u32) = (1, 26);

const GO_HELP: &str = "Kubernetes' programs are built from source once (about 10 minutes), which needs Go 1.26 or later: \
    install it from https://go.dev/dl (any Go from 1.21 on fetches 1.26 by itself), or set PILOTFISH_K8S_BIN to a directory with \
    etcd 3.6, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy and kubectl of Kubernetes 1.36";

/// Past the capture of the test harness: who waits for minutes wants to see why.
pub(super) fn tell(what: &str) {
    writeln!(std::io::stderr().lock(), "  {what}").ok();
}

/// Builds `programs` into `cache`, each moved there when it is complete. What is made on the way
/// stays in `cache/build` until all went well.
pub(super) fn programs(programs: &[Program], cache: &Path) -> Result<()> {
    let go = Go::find()?;
    let work = cache.join("build");
    fs::create_dir_all(&work)?;
    let names: Vec<&str> = programs.iter().map(|program| program.name()).collect();
    tell(&format!("building {} (Kubernetes {KUBERNETES}), about 10 minutes the first time", names.join(", ")));
    go.write_module(&work)?;
    for program in programs {
        let new = work.join(format!("{}.new", program.name()));
        go.build(&work, *program, &new)?;
        fs::rename(&new, cache.join(program.name()))?;
    }
    fs::remove_dir_all(&work).ok();
    Ok(())
}

struct Go {
    program: PathBuf,
    /// `local` where the installed one will do: nothing is downloaded then that was not asked for.
    toolchain: &'static str,
}

impl Go {
    fn find() -> Result<Go> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/local/go/bin")]);
        let program = places.map(|place| place.join("go")).find(|path| path.is_file()).context(GO_HELP)?;
        let said = crate::network::run(Command::new(&program).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local"))?;
        match version(&said) {
            Some(have) if have >= GO => Ok(Go { program, toolchain: "local" }),
            // The first that can fetch another toolchain.
            Some(have) if have >= (1, 21) => Ok(Go { program, toolchain: "auto" }),
            _ => bail!("{} is {}: {GO_HELP}", program.display(), said.trim()),
        }
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new(&self.program);
        // A Go workspace or flags of the user's own must not get in.
        command
            .current_dir(directory)
            .env("GOFLAGS", "-mod=mod")
            .env("GOWORK", "off")
            .env("GOTOOLCHAIN", self.toolchain);
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    fn write_module(&self, work: &Path) -> Result<()> {
        fs::write(work.join("go.mod"), "module testbed\n")?;
        let module = format!("k8s.io/kubernetes@v{KUBERNETES}");
        let text = crate::network::run(self.command(work).args(["mod", "download", "-json", &module]))
            .with_context(|| format!("download {module}; {GO_HELP}"))?;
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        let source = Path::new(answer["Dir"].as_str().context("go mod download names no directory")?);
        let theirs = fs::read_to_string(source.join("go.mod"))?;
        fs::write(work.join("go.mod"), go_mod(&theirs, KUBERNETES))?;
        // Not copied as a file: those of the module cache are read-only.
        fs::write(work.join("go.sum"), fs::read(source.join("go.sum"))?)?;
        Ok(())
    }

    fn build(&self, work: &Path, program: Program, to: &Path) -> Result<()> {
        let (major, minor) = KUBERNETES.split_once('.').unwrap_or_default();
        let minor = minor.split('.').next().unwrap_or_default();
        let place = "k8s.io/component-base/version";
        // What a release's build stamps; without it every program says v0.0.0 of itself.
        let stamp = format!(
            "-s -w -X {place}.gitVersion=v{KUBERNETES} -X {place}.gitMajor={major} -X {place}.gitMinor={minor} -X {place}.gitTreeState=clean"
        );
        let mut command = self.command(work);
        command.args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", &stamp, "-o"]).arg(to);
        command.arg(program.package()).stdout(Stdio::null()).stderr(Stdio::piped());
        watch(program, &mut command).with_context(|| format!("build {}", program.name()))
    }
}

/// Runs a build and shows how far it is: `-v` names each package and each download as it comes.
fn watch(program: Program, command: &mut Command) -> Result<()> {
    let mut child = command.spawn()?;
    let said = child.stderr.take().context("piped")?;
    let (send, lines) = channel();
    let reader = std::thread::spawn(move || {
        BufReader::new(said).lines().map_while(Result::ok).try_for_each(|line| send.send(line)).ok();
    });
    let in_place = std::io::stderr().is_terminal();
    let every = Duration::from_secs(if in_place { 1 } else { 30 });
    let started = Instant::now();
    let (mut next, mut packages, mut downloads, mut errors) = (started + every, 0_u32, 0_u32, Vec::new());
    let progress = |packages: u32, downloads: u32, end: &str| {
        let (name, seconds) = (program.name(), started.elapsed().as_secs());
        let start = if in_place { "\r" } else { "" };
        write!(
            std::io::stderr().lock(),
            "{start}  {name}: {seconds} s, {downloads} modules fetched, {packages} packages compiled{end}"
        )
        .ok();
    };
    loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) if line.starts_with("go: downloading ") => downloads += 1,
            // A package's name alone; everything else is what went wrong.
            Ok(line) if !line.contains(' ') => packages += 1,
            Ok(line) if errors.len() < 40 => errors.push(line),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if signals::interrupted() {
            child.kill().ok();
        }
        if Instant::now() >= next {
            next += every;
            progress(packages, downloads, if in_place { "" } else { "\n" });
        }
    }
    let status = child.wait()?;
    reader.join().ok();
    progress(packages, downloads, "\n");
    if signals::interrupted() {
        bail!("interrupted");
    }
    if !status.success() {
        bail!("go build ended with {status}:\n{}", errors.join("\n"));
    }
    Ok(())
}

/// `go1.26.8` as (1, 26).
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix("go")?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A module that builds Kubernetes' commands from outside its repository: its own requirements,
/// where the parts that live in its repository (`v0.0.0`, replaced by `./staging/...` there) become
/// their published releases, `v0.MINOR.PATCH`.
fn go_mod(theirs: &str, version: &str) -> String {
    let staged = format!("v0.{}", version.split_once('.').map_or(version, |(_, rest)| rest));
    let mut text = String::from("module testbed\n\n");
    let mut replaces = String::new();
    let mut block = "";
    for line in theirs.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match (block, words.as_slice()) {
            ("", ["go" | "godebug", ..]) => text += &format!("{line}\n"),
            ("", ["require", "("]) => {
                block = "require";
                text += "\nrequire (\n";
            }
            ("", ["replace", "("]) => block = "replace",
            ("require", [")", ..]) => {
                block = "";
                text += ")\n";
            }
            ("replace", [")", ..]) => block = "",
            ("require", [module, "v0.0.0", ..]) if module.starts_with("k8s.io/") => {
                text += &format!("\t{module} {staged}\n");
            }
            ("require", [module, version, ..]) => text += &format!("\t{module} {version}\n"),
            ("replace", [module, "=>", place]) if place.starts_with("./staging/") => {
                replaces += &format!("replace {module} => {module} {staged}\n");
            }
            _ => {}
        }
    }
    format!("{text}\nrequire k8s.io/kubernetes v{version}\n\n{replaces}")
}

#[cfg(test)]
mod tests {
    use super::{go_mod, version};

    #[test]
    fn parts_of_the_repository_become_their_releases() {
        let theirs = "// note\nmodule k8s.io/kubernetes\n\ngo 1.26.0\n\nrequire (\n\tgo.etcd.io/etcd/api/v3 v3.6.8\n\tk8s.io/api v0.0.0\n\
                      \tk8s.io/utils v0.0.0-2025 // indirect\n)\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n";
        let ours = "module testbed\n\ngo 1.26.0\n\nrequire (\n\tgo.etcd.io/etcd/api/v3 v3.6.8\n\tk8s.io/api v0.36.3\n\
                    \tk8s.io/utils v0.0.0-2025\n)\n\nrequire k8s.io/kubernetes v1.36.3\n\nreplace k8s.io/api => k8s.io/api v0.36.3\n";
        assert_eq!(go_mod(theirs, "1.36.3"), ours);
    }

    #[test]
    fn versions_of_go_are_read() {
        assert_eq!(version("go1.26.8\n"), Some((1, 26)));
        assert_eq!(version("go1.21"), Some((1, 21)));
        assert_eq!(version("devel"), None);
    }
}
