//! `pilotfish report`: everything that a report of a fault needs, in one file, without packets and
//! without secrets.

mod archive;
mod collect;
mod facts;
mod journal;
mod masks;
mod part;

use super::output::print;
use crate::cli::args::{Common, ReportArgs};
use crate::config::{self, Config};
use crate::exit::{Exit, Failure, in_full};
use crate::version;
use agent_api::Client;
use archive::About;
use flow_model::rfc3339;
use masks::{Kind, Masks};
use part::{Cut, Form, Part};
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// Of the archive. What is posted somewhere has to be taken there.
const MOST: usize = 10_000_000;
/// Of what one command prints. 10,000 series of each family are some 20 MiB, and pack to a tenth.
const PART_BYTES: usize = 32 << 20;
/// For each part; all are made at once. `check` and `doctor` have bounds of their own below this.
const PATIENCE: Duration = Duration::from_secs(20);
/// For one file of the kernel's.
const FILE_PATIENCE: Duration = Duration::from_secs(1);
/// Nobody but who wrote it reads it.
const FILE_MODE: u32 = 0o600;

/// Commands of our own: what a person would be asked to run and send. File, and arguments.
const COMMANDS: [(&str, &[&str]); 5] = [
    ("version.json", &["version", "-o", "json"]),
    ("check.json", &["check", "-o", "json"]),
    ("status.json", &["status", "-o", "json"]),
    ("doctor.json", &["doctor", "-o", "json"]),
    ("timeline.json", &["timeline", "--since", "8760h", "-o", "json"]),
];

pub fn run(common: &Common, args: &ReportArgs) -> Result<(), Failure> {
    let at = SystemTime::now();
    let mut place = Place::open(args.output.as_deref(), at)?;
    let (config, configuration) = configuration(common);
    let mut parts = vec![configuration];
    parts.extend(collected(common, config.as_ref()));
    let mut replaced = None;
    if args.mask {
        let mut masks = Masks::default();
        own_names(&mut masks, config.as_ref());
        parts.iter().for_each(|part| masks::learn(&mut masks, part));
        parts.iter_mut().for_each(|part| masks::apply(&mut masks, part));
        replaced = Some(masks.count());
    }
    let version = version::own().version;
    let about = About { at, version: &version, masked: args.mask };
    let archive = archive::fitting(about, &mut parts, MOST).map_err(|error| Failure::new(Exit::Software, error))?;
    place.write(&archive)?;
    place.tell(&page(&place.name(), archive.len(), replaced, &parts))
}

/// Where the archive goes.
enum Place {
    File(PathBuf, std::fs::File),
    Stdout,
}

impl Place {
    /// Opened before anything is collected: whoever cannot write it waits for nothing.
    fn open(wanted: Option<&Path>, at: SystemTime) -> Result<Place, Failure> {
        if wanted == Some(Path::new("-")) {
            if io::stdout().is_terminal() {
                return Err(Failure::say(Exit::Usage, "an archive is nothing for a terminal; send it to a file"));
            }
            return Ok(Place::Stdout);
        }
        let made = || format!("pilotfish-report-{}.tar.gz", rfc3339(at).replace([':', '-'], ""));
        let path = wanted.map_or_else(|| PathBuf::from(made()), Path::to_owned);
        match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path) {
            Ok(file) => Ok(Place::File(path, file)),
            Err(error) => {
                let what = match error.kind() {
                    io::ErrorKind::AlreadyExists => "is there already; name another file with -o".to_owned(),
                    _ => format!("cannot be made: {error}; name a file with -o"),
                };
                Err(Failure::say(Exit::Usage, format!("{} {what}", path.display())))
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Place::File(path, _) => path.display().to_string(),
            Place::Stdout => "standard output".to_owned(),
        }
    }

    /// A file that could not be written in full does not stay.
    fn write(&mut self, archive: &[u8]) -> Result<(), Failure> {
        let written = match self {
            Place::File(_, file) => file.write_all(archive).and_then(|()| file.sync_all()),
            Place::Stdout => io::stdout().write_all(archive).and_then(|()| io::stdout().flush()),
        };
        written.map_err(|error| {
            if let Place::File(path, _) = self {
                // What is said is why it could not be written.
                let _ = std::fs::remove_file(path);
            }
            Failure::say(Exit::Software, format!("write {}: {error}", self.name()))
        })
    }

    fn tell(&self, text: &str) -> Result<(), Failure> {
        match self {
            Place::File(..) => print(text),
            // Standard output has the archive.
            Place::Stdout => {
                io::stderr().write_all(text.as_bytes()).map_err(|error| Failure::new(Exit::Software, error))
            }
        }
    }
}

/// What is not told by one of our commands, and those that they are asked for: all at once.
fn collected(common: &Common, config: Option<&Config>) -> Vec<Part> {
    let socket = config.map(|config| config.admin.socket.clone());
    std::thread::scope(|scope| {
        let mut makers = Vec::new();
        for (file, args) in COMMANDS {
            makers.push((file, Form::Json, scope.spawn(move || timed(|| own_command(common, file, args)))));
        }
        let metrics = move || timed(|| metrics(socket.as_deref()));
        makers.push((METRICS, Form::Metrics, scope.spawn(metrics)));
        makers.push((facts::FILE, Form::Text, scope.spawn(|| timed(|| facts::part(FILE_PATIENCE)))));
        makers.push((journal::FILE, Form::JsonLines, scope.spawn(|| timed(|| journal::part(PATIENCE)))));
        let joined = |(file, form, maker): (&'static str, Form, std::thread::ScopedJoinHandle<'_, Part>)| {
            maker.join().unwrap_or_else(|_| Part::missing(file, form, "it failed by a fault of its own"))
        };
        makers.into_iter().map(joined).collect()
    })
}

fn timed(make: impl FnOnce() -> Part) -> Part {
    let began = Instant::now();
    let part = make();
    Part { took: began.elapsed(), ..part }
}

/// One of our own commands, in a process of its own: one that hangs, or fails, costs its part alone.
fn own_command(common: &Common, file: &'static str, args: &[&str]) -> Part {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return Part::missing(file, Form::Json, format!("where this program is: {error}")),
    };
    let mut command = Command::new(own);
    command.args(args);
    if let Some(config) = &common.config {
        command.arg("--config").arg(config);
    }
    if let Some(socket) = &common.socket {
        command.arg("--socket").arg(socket);
    }
    let printed = match collect::output(&mut command, PART_BYTES, PATIENCE) {
        Ok(printed) => printed,
        Err(why) => return Part::missing(file, Form::Json, why),
    };
    let code = match printed.code {
        _ if printed.cut => String::new(),
        Some(0) => String::new(),
        Some(code) => format!("exit code {code}"),
        None => "ended by a signal, or not in time".to_owned(),
    };
    let detail =
        [code.as_str(), &printed.said].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    if printed.out.is_empty() {
        return Part::missing(file, Form::Json, detail);
    }
    let content = String::from_utf8_lossy(&printed.out).into_owned();
    let cut = if printed.cut { Cut::Unknown } else { Cut::Nothing };
    Part { cut, detail, ..Part::whole(file, Form::Json, content) }
}

const METRICS: &str = "metrics.txt";

fn metrics(socket: Option<&Path>) -> Part {
    let Some(socket) = socket else {
        return Part::missing(METRICS, Form::Metrics, "where the agent answers is not known: see config.txt");
    };
    match Client::new(socket).metrics(PART_BYTES) {
        Ok(text) => {
            let mut part = Part::whole(METRICS, Form::Metrics, text);
            if part.bytes() >= PART_BYTES {
                part.shorten(PART_BYTES - 1);
                part.cut = Cut::Unknown;
            }
            part
        }
        Err(error) => Part::missing(METRICS, Form::Metrics, in_full(error)),
    }
}

/// What is configured, and from where; where it has faults, all of them.
fn configuration(common: &Common) -> (Option<Config>, Part) {
    const FILE: &str = "config.txt";
    let flags = common.flags(&crate::cli::args::AgentFlags::default());
    let read = || -> Result<(Config, Vec<String>, String), config::Faults> {
        let source = config::read_file(common.config.as_deref())?;
        let (config, warnings) = config::load(source.as_ref(), std::env::vars(), &flags)?;
        Ok((config, warnings, config::given(source.as_ref(), std::env::vars(), &flags)))
    };
    match read() {
        Ok((config, warnings, given)) => {
            let warnings: String = warnings.iter().map(|warning| format!("# {warning}\n")).collect();
            let head = "# Keys that are given, and where. All others are at their default. Files that keys name are not read.\n";
            (Some(config), Part::whole(FILE, Form::Text, format!("{head}{warnings}{given}")))
        }
        Err(faults) => (None, Part::whole(FILE, Form::Text, format!("{faults}\n"))),
    }
}

/// Names that are in no part at a place for names.
fn own_names(masks: &mut Masks, config: Option<&Config>) {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let short = host.split('.').next().unwrap_or_default();
    let node = std::env::var("NODE_NAME").unwrap_or_default();
    let configured = config.and_then(|config| config.kubernetes.node.clone()).unwrap_or_default();
    for name in [&host, short, &host.to_lowercase(), &short.to_lowercase(), &node, &configured] {
        masks.name(Kind::Node, name);
    }
    for namespace in config.iter().flat_map(|config| &config.containerd.namespaces) {
        masks.name(Kind::Namespace, namespace);
    }
}

fn page(place: &str, bytes: usize, replaced: Option<usize>, parts: &[Part]) -> String {
    let mut out = format!("{place}: {bytes} bytes\n");
    for Part { file, form: _, content, cut, detail, .. } in parts {
        let state = match (content, cut) {
            (None, _) => "missing",
            (Some(_), Cut::Nothing) => "whole",
            (Some(_), Cut::Bytes(_) | Cut::Unknown) => "cut",
        };
        let detail = detail.lines().next().unwrap_or_default();
        let line = format!("  {file:<14}  {state:<7}  {}", flow_model::shown(detail));
        out.push_str(&format!("{}\n", line.trim_end()));
    }
    out.push_str(&match replaced {
        Some(names) => format!("{names} names are replaced by masks. Look through it before you give it away.\n"),
        None => "It names workloads, namespaces, nodes and addresses; --mask replaces them.\n".to_owned(),
    });
    out
}

#[cfg(test)]
mod tests;
