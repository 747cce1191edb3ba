//! One label's value, and the set that it is of. What traffic says becomes a word of a closed set,
//! a number of a range, or free text, which `texts.rs` bounds.

use crate::labels::OTHER;
use std::hash::{Hash, Hasher};

/// Labels of a family beside `error_type`. With the edge's eight they fit into a sample of the
/// exposition, which asserts it.
pub(crate) const MOST_LABELS: usize = 6;

/// Longest free text; what is longer is `_OTHER`. The names that it is for are shorter by their
/// protocols' rules.
const LONGEST_TEXT: usize = 255;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// The label is not there.
    None,
    Number(u16),
    /// Of a closed set.
    Word(&'static str),
    /// From traffic.
    Free(&'a str),
}

impl<'a> Value<'a> {
    pub(crate) fn free(text: &'a str) -> Value<'a> {
        match text {
            "" => Value::None,
            OTHER => Value::Word(OTHER),
            _ if text.len() > LONGEST_TEXT => Value::Word(OTHER),
            text => Value::Free(text),
        }
    }

    pub(crate) fn other(self) -> Value<'a> {
        match self {
            Value::None => Value::None,
            _ => Value::Word(OTHER),
        }
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        match *self {
            Value::Word(word) => Some(word),
            Value::Free(text) => Some(text),
            Value::None | Value::Number(_) => None,
        }
    }
}

/// By what is shown: free text may be a word of a set. The same word of a set is most often at the
/// same place, which is compared first: this is asked for each exchange.
impl PartialEq for Value<'_> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Word(a), Value::Word(b)) => std::ptr::eq(*a, *b) || a == b,
            (Value::None, Value::None) => true,
            (Value::Number(a), Value::Number(b)) => a == b,
            _ => matches!((self.text(), other.text()), (Some(a), Some(b)) if a == b),
        }
    }
}

impl Eq for Value<'_> {}

impl Hash for Value<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Value::None => {}
            Value::Number(number) => state.write_u16(*number),
            Value::Word(text) | Value::Free(text) => state.write(text.as_bytes()),
        }
    }
}

/// What a record says, as labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Described<'a> {
    /// In the order of the family's labels.
    pub(crate) values: [Value<'a>; MOST_LABELS],
    /// `error_type`. An exchange failed where there is one.
    pub(crate) error: Value<'a>,
    /// Messages by the client and by the server.
    pub(crate) messages: [u64; 2],
}

impl<'a> Described<'a> {
    #[inline]
    pub(crate) fn new<const N: usize>(labels: [Value<'a>; N]) -> Described<'a> {
        const { assert!(N <= MOST_LABELS) }
        let mut values = [Value::None; MOST_LABELS];
        values[..N].copy_from_slice(&labels);
        Described { values, error: Value::None, messages: [0; 2] }
    }

    pub(crate) fn has_free_text(&self) -> bool {
        self.values.iter().chain([&self.error]).any(|value| matches!(value, Value::Free(_)))
    }
}

/// The values that a label can have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// One of these, or `_OTHER`.
    Words(&'static [&'static str]),
    /// A number from the first to the second, or `_OTHER`.
    Numbers(u16, u16),
    /// Whatever traffic says, up to a cap.
    Free,
}

/// The word of the set that `said` is, else `_OTHER`.
#[inline]
pub(crate) fn words<'a>(set: &'static [&'static str], said: &str) -> Value<'a> {
    Value::Word(set.iter().find(|word| **word == said).copied().unwrap_or(OTHER))
}

impl Set {
    /// The value that was shown as `text`; `None` where it is none of the set's.
    pub(crate) fn read<'a>(&self, text: &'a str) -> Option<Value<'a>> {
        match self {
            _ if text == OTHER => Some(Value::Word(OTHER)),
            Set::Words(set) => set.iter().find(|word| **word == text).map(|word| Value::Word(word)),
            Set::Numbers(from, to) => {
                let number = text.parse().ok().filter(|number| (from..=to).contains(&number));
                number.map(Value::Number)
            }
            Set::Free => Some(Value::free(text)),
        }
    }
}
