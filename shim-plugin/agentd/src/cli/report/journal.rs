//! The agent's last words, from the journal: an object a line, of the fields that it wrote itself.

use super::collect;
use super::part::{Cut, Form, Part};
use crate::cli::moment::rfc3339_millis;
use serde_json::{Map, Value};
use std::process::Command;
use std::time::{Duration, SystemTime};

pub const FILE: &str = "log.jsonl";
const LINES: &str = "1000";
/// Of what journalctl prints: it tells each line with all of the journal's own fields.
const BYTES: usize = 32 << 20;
/// Before a field of the agent's own, as `tracing-journald` writes it.
const OWN: &str = "F_";

/// The last 1,000 lines. Words of systemd about the unit are among them.
pub fn part(patience: Duration) -> Part {
    let mut command = Command::new("journalctl");
    // Not quietly: whoever may not read all of it is told so.
    command.args(["--no-pager", "--output=json", "--lines", LINES]);
    // The agent by any way that it was started, or systemd about it.
    let matches = ["SYSLOG_IDENTIFIER=pilotfish", "_SYSTEMD_UNIT=pilotfish.service", "UNIT=pilotfish.service"];
    command.args(matches.join(" + ").split(' '));
    let printed = match collect::output(&mut command, BYTES, patience) {
        Ok(printed) => printed,
        Err(why) => return Part::missing(FILE, Form::JsonLines, without(&why)),
    };
    let text = String::from_utf8_lossy(&printed.out);
    let lines: String = text.lines().filter_map(line).collect();
    if lines.is_empty() {
        let why = if printed.said.is_empty() { "the journal has no line of it" } else { printed.said.as_str() };
        return Part::missing(FILE, Form::JsonLines, without(why));
    }
    let cut = if printed.cut { Cut::Unknown } else { Cut::Nothing };
    Part { cut, detail: printed.said, ..Part::whole(FILE, Form::JsonLines, lines) }
}

fn without(why: &str) -> String {
    format!("{why}; an agent that logs elsewhere is read there (in a pod: `kubectl logs`)")
}

/// One of ours from one of journalctl's; None for what is no object.
fn line(told: &str) -> Option<String> {
    let Value::Object(fields) = serde_json::from_str(told).ok()? else { return None };
    let mut ours = Map::new();
    let number = |key: &str| fields.get(key).and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok());
    if let Some(at) = number("__REALTIME_TIMESTAMP") {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(at)).unwrap_or(SystemTime::UNIX_EPOCH);
        ours.insert("at".to_owned(), rfc3339_millis(at).into());
    }
    if let Some(priority) = number("PRIORITY") {
        ours.insert("priority".to_owned(), priority.into());
    }
    for (from, to) in [("SYSLOG_IDENTIFIER", "by"), ("TARGET", "target"), ("MESSAGE", "message")] {
        if let Some(value) = fields.get(from) {
            ours.insert(to.to_owned(), value_of(value));
        }
    }
    for (key, value) in &fields {
        if let Some(own) = key.strip_prefix(OWN) {
            // Not the place of another: what the agent wrote stays beside what the journal knows.
            ours.entry(own.to_lowercase()).or_insert_with(|| value_of(value));
        }
    }
    serde_json::to_string(&ours).ok().map(|line| line + "\n")
}

/// A field that is not UTF-8, or holds control characters, is told as a list of bytes; one that was
/// written several times as a list of texts.
fn value_of(value: &Value) -> Value {
    let bytes = |values: &Vec<Value>| -> Option<Vec<u8>> {
        values.iter().map(|value| value.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect()
    };
    match value {
        Value::Array(values) => match bytes(values) {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
            None => value.clone(),
        },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_the_agent_wrote_and_nothing_of_the_machine() {
        let told = r#"{"__REALTIME_TIMESTAMP":"1795242600123456","PRIORITY":"4","_HOSTNAME":"n1","_MACHINE_ID":"c0ffee",
            "_CMDLINE":"/usr/bin/pilotfish agent","SYSLOG_IDENTIFIER":"pilotfish","TARGET":"agentd::run","MESSAGE":"a read is late",
            "F_FILE":"/proc/1/status","F_ERROR":[97,27,98],"F_AT":"x","CODE_FILE":"a.rs"}"#;
        let expected = r#"{"at":"2026-11-21T06:30:00.123Z","priority":4,"by":"pilotfish","target":"agentd::run","message":"a read is late","error":"a\u001bb","file":"/proc/1/status"}"#;
        let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert_eq!(read(&line(&told.replace('\n', " ")).expect("a line")), read(expected));
        assert_eq!((line("no JSON"), line("[1]")), (None, None));
    }
}
