//! From file, environment and flags to a `Config`, or to the list of everything that is wrong.

use super::fault::{Fault, Faults, Origin};
use super::keys::{Called, KEYS, Key, SECTIONS};
use super::sections::Config;
use super::value::{Given, nearest};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Read when it exists and no other file is named.
const DEFAULT_FILE: &str = "/etc/pilotfish/agent.toml";

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
        apply_file(&mut config, source, &mut faults, &mut warnings);
    }
    apply_environment(&mut config, environment, &mut faults, &mut warnings);
    for (flag, dotted, text) in flags {
        if let Some(key) = KEYS.iter().find(|key| key.dotted() == *dotted) {
            let called = Called { key, old: None };
            apply(&mut config, called, &Given::Text(text), || Origin::Flag(flag), &mut faults);
        }
    }
    if faults.is_empty() { Ok((config, warnings)) } else { Err(Faults(faults)) }
}

fn apply(config: &mut Config, called: Called, given: &Given<'_>, origin: impl Fn() -> Origin, faults: &mut Vec<Fault>) {
    if let Err(what) = (called.key.apply)(config, given) {
        faults.push(Fault { origin: origin(), key: called.dotted(), what });
    }
}

/// By its old name and by its own, in one place: nobody knows which of them is meant.
fn given_twice(called: Called, origin: Origin) -> Fault {
    let what = format!("is the old name of {}, which is given too; remove one of them", called.key.dotted());
    Fault { origin, key: called.dotted(), what }
}

fn apply_file(config: &mut Config, source: &Source, faults: &mut Vec<Fault>, warnings: &mut Vec<String>) {
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
            match Key::find(name, entry) {
                Some(called) => {
                    let is_given_anew = called.old.is_some() && entries.contains_key(called.key.name);
                    if is_given_anew {
                        faults.push(given_twice(called, at(line)));
                        continue;
                    }
                    warnings.extend(called.warning().map(|text| format!("{}: {text}", at(line))));
                    apply(config, called, &Given::Toml(value.get_ref()), || at(line), faults);
                }
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

/// Variables that look like ours and are not are only warned of: Kubernetes puts
/// `PILOTFISH_METRICS_SERVICE_HOST` and its like into every pod beside a Service named
/// `pilotfish-metrics`.
fn apply_environment(
    config: &mut Config,
    environment: impl Iterator<Item = (String, String)>,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<String>,
) {
    let mut ours: Vec<(String, String)> = environment.filter(|(name, _)| name.starts_with("PILOTFISH_")).collect();
    ours.sort();
    for (variable, text) in &ours {
        if variable == "PILOTFISH_CONFIG" {
            continue;
        }
        let origin = || Origin::Environment(variable.clone());
        match Key::find_env(variable) {
            Some(called) => {
                let anew = called.key.env();
                if called.old.is_some() && ours.iter().any(|(other, _)| *other == anew) {
                    faults.push(given_twice(called, origin()));
                    continue;
                }
                warnings.extend(called.warning().map(|text| format!("{}: {text}", origin())));
                apply(config, called, &Given::Text(text), origin, faults);
            }
            None => {
                let known: Vec<String> = KEYS.iter().map(Key::env).collect();
                let hint = nearest(variable, known.iter().map(String::as_str));
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
