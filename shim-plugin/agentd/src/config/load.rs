//! From file, environment and flags to a `Config`, or to the list of everything that is wrong.

use super::value::{Given, nearest};
use super::{Config, DEFAULT_FILE, Fault, Faults, KEYS, Key, SECTIONS};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File { path: PathBuf, line: Option<usize> },
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Origin::File { path, line: None } => write!(f, "{}", path.display()),
            Origin::Environment(variable) => write!(f, "environment {variable}"),
            Origin::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Flags that were given: their name, the key that they set ("section.name"), and the text.
pub type Flags = Vec<(&'static str, &'static str, String)>;

/// A configuration file's path and text.
#[derive(Clone, Debug)]
pub struct Source {
    pub path: PathBuf,
    pub text: String,
}

/// The file that is named, or the default one if it exists.
pub fn read_file(named: Option<&Path>) -> Result<Option<Source>, Faults> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Source { path: path.to_owned(), text })),
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(error) => Err(Faults(vec![Fault {
            origin: Origin::File { path: path.to_owned(), line: None },
            key: String::new(),
            what: format!("cannot be read: {error}; `pilotfish config --print-default` prints one to start from"),
        }])),
    }
}

/// The configuration, with warnings about what was left alone.
///
/// # Errors
/// Every fault of every source, not only the first.
pub fn load(
    source: Option<&Source>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<(Config, Vec<String>), Faults> {
    let mut config = Config::default();
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    if let Some(source) = source {
        apply_file(&mut config, source, &mut faults);
    }
    apply_environment(&mut config, environment, &mut faults, &mut warnings);
    for (flag, dotted, text) in flags {
        if let Some(key) = KEYS.iter().find(|key| key.dotted() == *dotted) {
            apply(&mut config, key, &Given::Text(text), || Origin::Flag(flag), &mut faults);
        }
    }
    if faults.is_empty() { Ok((config, warnings)) } else { Err(Faults(faults)) }
}

pub(super) fn apply_defaults(config: &mut Config) {
    for key in KEYS {
        // A default that does not parse is caught by a test; the blank value then stays.
        if let Ok(value) = DeValue::parse(key.default) {
            let _ = (key.apply)(config, &Given::Toml(value.get_ref()));
        }
    }
}

fn apply(config: &mut Config, key: &Key, given: &Given<'_>, origin: impl Fn() -> Origin, faults: &mut Vec<Fault>) {
    if let Err(what) = (key.apply)(config, given) {
        faults.push(Fault { origin: origin(), key: key.dotted(), what });
    }
}

fn apply_file(config: &mut Config, source: &Source, faults: &mut Vec<Fault>) {
    let at = |offset: Option<usize>| Origin::File {
        path: source.path.clone(),
        line: offset.map(|offset| 1 + source.text.bytes().take(offset).filter(|b| *b == b'\n').count()),
    };
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors {
        let origin = at(error.span().map(|span| span.start));
        faults.push(Fault { origin, key: String::new(), what: error.message().to_owned() });
    }
    for (section, body) in document.get_ref() {
        let name = section.get_ref().as_ref();
        let line = Some(section.span().start);
        if !SECTIONS.iter().any(|(known, _)| *known == name) {
            faults.push(Fault { origin: at(line), key: name.to_owned(), what: unknown_section(name) });
            continue;
        }
        let Some(entries) = body.get_ref().as_table() else {
            let what = format!("is a section; write [{name}] on a line of its own and its keys below");
            faults.push(Fault { origin: at(line), key: name.to_owned(), what });
            continue;
        };
        for (entry, value) in entries {
            let (entry, line) = (entry.get_ref().as_ref(), Some(entry.span().start));
            match KEYS.iter().find(|key| key.section == name && key.name == entry) {
                Some(key) => apply(config, key, &Given::Toml(value.get_ref()), || at(line), faults),
                None => faults.push(Fault {
                    origin: at(line),
                    key: format!("{name}.{entry}"),
                    what: unknown_key(name, entry),
                }),
            }
        }
    }
    // The document's tables are sorted by name; people read files from the top.
    faults.sort_by_key(|fault| match fault.origin {
        Origin::File { line, .. } => line,
        _ => None,
    });
}

/// Variables that look like ours and are not are only warned of: Kubernetes puts `PILOTFISH_METRICS_SERVICE_HOST` and its like into
/// every pod beside a Service named `pilotfish-metrics`.
fn apply_environment(
    config: &mut Config,
    environment: impl Iterator<Item = (String, String)>,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<String>,
) {
    let mut ours: Vec<(String, String)> = environment.filter(|(name, _)| name.starts_with("PILOTFISH_")).collect();
    ours.sort();
    for (variable, text) in ours {
        if variable == "PILOTFISH_CONFIG" {
            continue;
        }
        match KEYS.iter().find(|key| key.env() == variable) {
            Some(key) => {
                apply(config, key, &Given::Text(&text), || Origin::Environment(variable.clone()), faults);
            }
            None => {
                let known: Vec<String> = KEYS.iter().map(Key::env).collect();
                let hint = nearest(&variable, known.iter().map(String::as_str));
                let hint = hint.map(|near| format!("; {near} is")).unwrap_or_default();
                warnings.push(format!("environment {variable} is not a key and was ignored{hint}"));
            }
        }
    }
}

fn unknown_section(name: &str) -> String {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return format!("is a key of section [{}]; write it below that line", key.section);
    }
    match nearest(name, SECTIONS.iter().map(|(known, _)| *known)) {
        Some(near) => format!("no such section; write [{near}]"),
        None => format!("no such section; there are {}", SECTIONS.map(|(known, _)| known).join(", ")),
    }
}

fn unknown_key(section: &str, name: &str) -> String {
    let here = || KEYS.iter().filter(move |key| key.section == section).map(|key| key.name);
    if let Some(near) = nearest(name, here()) {
        return format!("no such key; write {near}");
    }
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return format!("no such key here; it belongs to section [{}]", key.section);
    }
    format!("no such key; [{section}] has {}", here().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
