//! What the commands that ask the agent share: printing, and doing it again.

use crate::exit::{Exit, Failure};
use flow_model::{is_plain, shown};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

/// Linkerd's `--watch` period.
const AGAIN: Duration = Duration::from_secs(2);

/// Prints to standard output; a reader that went away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    write(text).map(|_| ())
}

/// As `print`; whether anybody still reads.
pub fn write(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Exit::Software, error)),
    }
}

/// The same with every text of it as [`shown`], for a page. A program gets it as it is: [`json`].
///
/// # Errors
/// When the value has no JSON form: never for ours.
pub fn for_people<T: Serialize + DeserializeOwned>(answer: &T) -> Result<T, Failure> {
    fn all(value: &mut Value) {
        match value {
            Value::String(text) => *text = shown(text).into_owned(),
            Value::Array(values) => values.iter_mut().for_each(all),
            Value::Object(fields) => {
                *fields =
                    std::mem::take(fields).into_iter().map(|(key, value)| (shown(&key).into_owned(), value)).collect();
                fields.values_mut().for_each(all);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let failed = |error| Failure::new(Exit::Software, anyhow::Error::new::<serde_json::Error>(error));
    let mut value = serde_json::to_value(answer).map_err(failed)?;
    all(&mut value);
    serde_json::from_value(value).map_err(failed)
}

/// Nothing of the text is lost, and no character of it reaches a terminal that would obey it.
///
/// # Errors
/// When the value has no JSON form: never for ours.
pub fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Software, error))?;
    Ok(plain_json(&text) + "\n")
}

/// The same text of JSON, without a character that a terminal would obey.
#[must_use]
pub fn plain_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if c == '\n' || is_plain(c) {
            out.push(c);
        } else {
            // RFC 8259 section 7: within a string, which is where such a character is.
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// Prints what `page` makes: once, or again and again, each time on a cleared screen where there is one.
pub fn show(watch: bool, mut page: impl FnMut() -> Result<String, Failure>) -> Result<(), Failure> {
    if !watch {
        return print(&page()?);
    }
    let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    while write(&format!("{clear}{}", page()?))? {
        std::thread::sleep(AGAIN);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_api::{EdgeRow, Golden, Party};

    fn edge(name: &str) -> EdgeRow {
        let party = |name: &str| Party { name: name.into(), namespace: "shop".into(), kind: "Pod".into() };
        let golden = Golden { requests: 3, rps: 0.25, success: Some(1.0), p50: Some(80e-6), ..Golden::default() };
        EdgeRow {
            src: party(name),
            dst: party("api"),
            service: String::new(),
            protocol: "http".into(),
            reporter: "client".into(),
            golden,
        }
    }

    const EVIL: &str = "web\x1b]0;x\x07\n\u{202e}\u{9b}\u{e0041}";

    #[test]
    fn json_keeps_every_name_and_shows_a_terminal_nothing_that_it_obeys() {
        let text = json(&[edge(EVIL), edge("caf\u{e9} \u{7f51}")]).expect("JSON");
        assert!(text.chars().all(|c| c == '\n' || is_plain(c)), "{text}");
        assert!(text.contains("caf\u{e9} \u{7f51}") && text.contains("\\u202e"), "{text}");
        let read: Vec<EdgeRow> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read, [edge(EVIL), edge("caf\u{e9} \u{7f51}")]);
    }

    #[test]
    fn a_page_gets_the_same_with_plain_names() {
        let plain = for_people(&edge(EVIL)).expect("JSON");
        assert_eq!(plain, edge(r"web\u{1b}]0;x\u{7}\n\u{202e}\u{9b}\u{e0041}"));
    }
}
