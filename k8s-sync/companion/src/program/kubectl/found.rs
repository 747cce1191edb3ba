//! What kubectl said, as far as it is needed: words of a cluster, which anybody may have written.

use serde_json::Value;

/// Of what kubectl said that went wrong.
const SHOWN: usize = 300;

/// What came of a question.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// The answer.
    There(Value),
    /// There is none (NotFound), or the API server knows no such kind.
    None,
    /// Why there is no answer.
    Failed(String),
}

impl Found {
    /// By what kubectl wrote.
    pub(super) fn of(succeeded: bool, out: &[u8], error: &[u8]) -> Found {
        if succeeded {
            let read = serde_json::from_slice(out);
            return read.map_or_else(|_| Found::Failed("kubectl printed no JSON".to_owned()), Found::There);
        }
        let error = String::from_utf8_lossy(error);
        let is_none = error.contains("(NotFound)") || error.contains("doesn't have a resource type");
        if is_none {
            return Found::None;
        }
        // The last line says it; those before are of a cache of kubectl's.
        let line = error.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("kubectl says nothing");
        Found::Failed(shown(line))
    }
}

/// Short, and without what moves a terminal's cursor.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}
