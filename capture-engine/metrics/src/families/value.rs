//! One label's value, and the set that it is of. What traffic says becomes a word of a closed set,
//! a number of a range, or free text, which `texts.rs` bounds.

use crate::labels::{OTHER, UNANSWERED};
use std::hash::{Hash, Hasher};

/// Labels of a family beside `error_type`. With the edge's eight they fit into a sample of the
/// exposition, which asserts it.
pub(crate) const MOST_LABELS: usize = 6;

/// Place of `error_type` in what is described, behind the family's labels.
pub(crate) const ERROR: usize = MOST_LABELS;

/// Longest free text; what is longer is `_OTHER`. The names that it is for are shorter by their
/// protocols' rules.
const LONGEST_TEXT: usize = 255;

/// What is shown as the same text is the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// The label is not there.
    None,
    /// `_OTHER`.
    Other,
    /// The `error_type` of what got no answer.
    Unanswered,
    Number(u16),
    /// Place in the label's closed set.
    Word(u8),
    /// From traffic, and of no closed set.
    Free(&'a str),
}

impl<'a> Value<'a> {
    #[inline]
    pub(crate) fn free(text: &'a str) -> Value<'a> {
        match text {
            "" => Value::None,
            OTHER => Value::Other,
            UNANSWERED => Value::Unanswered,
            _ if text.len() > LONGEST_TEXT => Value::Other,
            text => Value::Free(text),
        }
    }

    pub(crate) fn other(self) -> Value<'a> {
        match self {
            Value::None => Value::None,
            _ => Value::Other,
        }
    }

    #[inline]
    const fn code(self) -> u32 {
        match self {
            Value::None => 0,
            Value::Other => 1,
            Value::Unanswered => 2,
            Value::Free(_) => FREE,
            Value::Word(place) => WORDS | place as u32,
            Value::Number(number) => NUMBERS | number as u32,
        }
    }
}

const FREE: u32 = 3;
const WORDS: u32 = 1 << 16;
const NUMBERS: u32 = 2 << 16;

/// What a record says, as labels. Compared and made for each exchange: small numbers, and texts only
/// where a value is free text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Described<'a> {
    /// In the order of the family's labels; `error_type` at `ERROR`.
    codes: [u32; MOST_LABELS + 1],
    /// Empty where a value is no free text.
    texts: [&'a str; MOST_LABELS + 1],
    /// Messages by the client and by the server.
    pub(crate) messages: [u64; 2],
}

impl Hash for Described<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.codes.hash(state);
        self.texts().for_each(|(_, text)| text.hash(state));
    }
}

impl<'a> Described<'a> {
    /// Labels in the order of the family's, and `error_type`: an exchange failed where there is one.
    #[inline]
    pub(crate) fn new<const N: usize>(labels: [Value<'a>; N], error: Value<'a>) -> Described<'a> {
        const { assert!(N <= MOST_LABELS) }
        let mut described = Described { codes: [0; MOST_LABELS + 1], texts: [""; MOST_LABELS + 1], messages: [0; 2] };
        for (place, value) in labels.into_iter().enumerate() {
            described.set(place, value);
        }
        described.set(ERROR, error);
        described
    }

    /// With messages by the client and by the server.
    pub(crate) fn carrying(self, messages: [u64; 2]) -> Described<'a> {
        Described { messages, ..self }
    }

    #[inline]
    pub(crate) fn set(&mut self, place: usize, value: Value<'a>) {
        self.codes[place] = value.code();
        self.texts[place] = if let Value::Free(text) = value { text } else { "" };
    }

    pub(crate) fn value(&self, place: usize) -> Value<'a> {
        let code = self.codes[place];
        match code {
            0 => Value::None,
            1 => Value::Other,
            2 => Value::Unanswered,
            FREE => Value::Free(self.texts[place]),
            _ if code & NUMBERS != 0 => Value::Number(code as u16),
            _ => Value::Word(code as u8),
        }
    }

    #[inline]
    pub(crate) fn codes(&self) -> &[u32; MOST_LABELS + 1] {
        &self.codes
    }

    /// The places of free text, and the texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (usize, &'a str)> {
        let places = self.codes.iter().enumerate().filter(|(_, code)| **code == FREE);
        places.map(|(place, _)| (place, self.texts[place]))
    }

    pub(crate) fn has_free_text(&self) -> bool {
        self.codes.contains(&FREE)
    }
}

/// The values that a label can have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// One of these, or `_OTHER`.
    Words(&'static [&'static str]),
    /// A number from the first to the second, or `_OTHER`.
    Numbers(u16, u16),
    /// Whatever traffic says, up to a cap, which does not count these.
    Free(&'static [&'static str]),
}

/// The word of the set that `said` is, else `_OTHER`. Allocates nothing: it is asked for each exchange.
#[inline]
pub(crate) fn words<'a>(set: &'static [&'static str], said: &str) -> Value<'a> {
    word(set, said).unwrap_or(Value::Other)
}

/// The word of the set that `said` is, else free text.
pub(crate) fn words_or_free<'a>(set: &'static [&'static str], said: &'a str) -> Value<'a> {
    word(set, said).unwrap_or(Value::free(said))
}

#[inline]
fn word<'a>(set: &'static [&'static str], said: &str) -> Option<Value<'a>> {
    set.iter().position(|word| *word == said).map(|place| Value::Word(place as u8))
}

impl Set {
    /// The value that was shown as `text`; `None` where it is none of the set's.
    pub(crate) fn read<'a>(&self, text: &'a str) -> Option<Value<'a>> {
        match *self {
            _ if text == OTHER => Some(Value::Other),
            Set::Words(set) => word(set, text),
            Set::Numbers(from, to) => {
                let number = text.parse().ok().filter(|number| (from..=to).contains(number));
                number.map(Value::Number)
            }
            Set::Free(set) => Some(words_or_free(set, text)),
        }
    }

    /// As it is shown; `None` where the label is not there.
    pub(crate) fn show(&self, value: Value<'_>) -> Option<Box<str>> {
        match (value, self) {
            (Value::None, _) => None,
            (Value::Unanswered, _) => Some(UNANSWERED.into()),
            (Value::Number(number), _) => Some(number.to_string().into()),
            (Value::Free(text), _) => Some(text.into()),
            (Value::Word(place), Set::Words(set) | Set::Free(set)) => {
                Some(set.get(usize::from(place)).copied().unwrap_or(OTHER).into())
            }
            (Value::Other | Value::Word(_), _) => Some(OTHER.into()),
        }
    }
}
