//! The table of masks, and the text without names.

use super::kind::{Kind, PLAIN, is_word};
use super::patterns;
use flow_model::shown;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// Letters of a mask: none that is taken for another, and no vowel that makes words.
const LETTERS: &[u8; 16] = b"bcdfghjkmnpqrstv";
const LETTERS_OF_MASK: usize = 6;

/// Masks of one report.
#[derive(Debug, Default)]
pub struct Masks {
    /// Known names by their first word, the longest first.
    known: HashMap<String, Vec<(String, Kind)>>,
    masks: HashMap<String, String>,
    taken: HashSet<String>,
}

impl Masks {
    /// From now on this is replaced wherever it stands.
    pub fn name(&mut self, kind: Kind, name: &str) {
        // As pages and logs have it, where it has characters that a terminal would obey.
        for form in [name, &shown(name)] {
            let form = form.trim_matches(|c: char| !is_word(c));
            if form.is_empty() || PLAIN.contains(&form) {
                continue;
            }
            let names = self.known.entry(first_word(form).to_owned()).or_default();
            if names.iter().all(|(known, _)| known != form) {
                names.push((form.to_owned(), kind));
                names.sort_by_key(|(known, _)| std::cmp::Reverse(known.len()));
            }
        }
    }

    /// The text without any known name, address, host or id.
    pub fn text(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(next) = text.get(at..).and_then(|rest| rest.chars().next()) {
            let (done, rest) = text.split_at(at);
            match self.known_at(done, rest).or_else(|| patterns::at(done, rest)) {
                Some((bytes, kind)) => {
                    out.push_str(&self.mask(kind, rest.get(..bytes).unwrap_or_default()));
                    at += bytes;
                }
                None => {
                    out.push(next);
                    at += next.len_utf8();
                }
            }
        }
        out
    }

    /// The longest known name that begins here, at the beginning of a word, and ends with one.
    fn known_at(&self, done: &str, rest: &str) -> Option<(usize, Kind)> {
        if done.ends_with(is_word) {
            return None;
        }
        let names = self.known.get(first_word(rest))?;
        let ends_here = |name: &str| rest.strip_prefix(name).is_some_and(|left| !left.starts_with(is_word));
        let (name, kind) = names.iter().find(|(name, _)| ends_here(name))?;
        // A longer thing may begin with a name: an address, or the name of a host.
        match patterns::at(done, rest) {
            Some((bytes, of)) if bytes > name.len() => Some((bytes, of)),
            _ => Some((name.len(), *kind)),
        }
    }

    fn mask(&mut self, kind: Kind, name: &str) -> String {
        if PLAIN.contains(&name) {
            return name.to_owned();
        }
        if let Some(mask) = self.masks.get(name) {
            return mask.clone();
        }
        loop {
            // Keyed with bytes of the system's randomness, anew for each.
            let drawn = RandomState::new().hash_one(self.masks.len());
            let letter = |at: usize| char::from(LETTERS[(drawn >> (4 * at)) as usize % LETTERS.len()]);
            let letters: String = (0..LETTERS_OF_MASK).map(letter).collect();
            if self.taken.insert(letters.clone()) {
                let mask = format!("{}-{letters}", kind.as_str());
                self.masks.insert(name.to_owned(), mask.clone());
                return mask;
            }
        }
    }

    /// The masks that were given.
    #[cfg(test)]
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.masks.values().map(String::as_str)
    }

    /// How many names were replaced.
    pub fn count(&self) -> usize {
        self.masks.len()
    }
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !is_word(c)).next().unwrap_or_default()
}
