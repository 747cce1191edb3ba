//! The keys that somebody gave, for a person who is to see what an agent runs with. Only keys that
//! there are, so that no text of a file beside them, a comment say, is told; none of them is a
//! secret, and files that they name are not read.

use super::keys::{KEYS, Key};
use super::load::{Flags, Source};
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// A line for each, as TOML: `section.key = value  # where it is given`. Where a key is given in
/// several places, the one that counts.
#[must_use]
pub fn given(source: Option<&Source>, environment: impl Iterator<Item = (String, String)>, flags: &Flags) -> String {
    let mut given: BTreeMap<String, (String, String)> = BTreeMap::new();
    if let Some(source) = source {
        let (document, _) = DeTable::parse_recoverable(&source.text);
        for (section, body) in document.get_ref() {
            let section = section.get_ref().as_ref();
            for (name, value) in body.get_ref().as_table().into_iter().flatten() {
                if let Some(called) = Key::find(section, name.get_ref().as_ref()) {
                    let origin = source.path.display().to_string();
                    given.insert(called.dotted(), (toml(value.get_ref()), origin));
                }
            }
        }
    }
    let mut ours: Vec<(String, String)> = environment.filter(|(name, _)| name.starts_with("PILOTFISH_")).collect();
    ours.sort();
    for (variable, text) in ours {
        if let Some(called) = Key::find_env(&variable) {
            given.insert(called.dotted(), (format!("{text:?}"), format!("environment {variable}")));
        }
    }
    for (flag, dotted, text) in flags {
        if KEYS.iter().any(|key| key.dotted() == *dotted) {
            given.insert((*dotted).to_owned(), (format!("{text:?}"), format!("flag {flag}")));
        }
    }
    given.into_iter().map(|(key, (value, origin))| format!("{key} = {value}  # {origin}\n")).collect()
}

/// The value alone: what is between its parts in the file may be a comment.
fn toml(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(digits) => digits.as_str().to_owned(),
        DeValue::Float(digits) => digits.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(moment) => moment.to_string(),
        DeValue::Array(values) => {
            format!("[{}]", values.iter().map(|value| toml(value.get_ref())).collect::<Vec<_>>().join(", "))
        }
        // No key has one.
        DeValue::Table(_) => "{..}".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn what_is_given_is_told_with_its_place_and_nothing_beside_it() {
        let text = "# token s3cr3t\n[admin]\nlisten = \"0.0.0.0:1\" # s3cr3t\npassword = \"s3cr3t\"\n[s3cr3t]\na = 1\n\
                    [capture]\nports = [80, # s3cr3t\n\"1-2\"]\n[attach]\nhost = false\n";
        let source = Source { path: PathBuf::from("/a.toml"), text: text.to_owned() };
        let environment = [("PILOTFISH_ADMIN_SOCKET", "/b"), ("PILOTFISH_TOKEN", "s3cr3t"), ("TOKEN", "s3cr3t")];
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let flags = vec![("--listen", "admin.listen", "127.0.0.1:2".to_owned())];
        assert_eq!(
            given(Some(&source), environment, &flags),
            "admin.listen = \"127.0.0.1:2\"  # flag --listen\n\
             admin.socket = \"/b\"  # environment PILOTFISH_ADMIN_SOCKET\n\
             attach.host = false  # /a.toml\n\
             capture.ports = [80, \"1-2\"]  # /a.toml\n"
        );
    }
}
