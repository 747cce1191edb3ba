//! The word that a statement of SQL begins with: nothing else of its text is looked at. What a database
//! has of its own is a [`Dialect`].

/// A statement that begins with no known word, or with none.
pub(crate) const OTHER: &str = "other";

/// A statement whose text was not seen.
pub(crate) const UNKNOWN: &str = "unknown";

/// What statements of one database look like.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// Words with which statements begin. Sorted.
    pub verbs: &'static [&'static str],
    /// The longest of them.
    pub longest: usize,
    /// Those that `WITH` may stand before.
    pub main: &'static [&'static str],
    /// Bytes of the comment, or of what is in quotes, that begins here: what is passed over before the next
    /// word. `None` where neither begins. More than there are: it does not end.
    pub aside: fn(&[u8]) -> Option<usize>,
}

/// Where what was looked for ends; where it does not, behind everything.
pub(crate) fn ends(end: Option<usize>) -> Option<usize> {
    Some(end.unwrap_or(usize::MAX))
}

/// Where the line ends that begins here.
pub(crate) fn line(text: &[u8]) -> Option<usize> {
    ends(memchr::memchr(b'\n', text).map(|end| end + 1))
}

impl Dialect {
    /// The word that a statement begins with, comments and parentheses left out. That of `WITH` is the
    /// first of `main` that stands in no parentheses, where it is among the bytes that are looked at; else
    /// it stays `WITH`. `cut`: the text goes on.
    pub(crate) fn verb(&'static self, text: &[u8], cut: bool) -> &'static str {
        let mut words = self.words(text);
        let Some(first) = words.next() else { return if cut { UNKNOWN } else { OTHER } };
        if cut && words.rest.is_empty() {
            return UNKNOWN;
        }
        let first = self.known(first);
        if first != "WITH" {
            return first;
        }
        let base = words.depth;
        while let Some(word) = words.next() {
            let verb = self.known(word);
            if words.depth == base && self.main.contains(&verb) && !(cut && words.rest.is_empty()) {
                return verb;
            }
        }
        first
    }

    pub(crate) fn words<'a>(&'static self, text: &'a [u8]) -> Words<'a> {
        Words { dialect: self, rest: text, depth: 0 }
    }

    fn known(&self, word: &[u8]) -> &'static str {
        if word.len() > self.longest {
            return OTHER;
        }
        let order = |verb: &str| {
            let bytes = word.iter().map(u8::to_ascii_uppercase);
            verb.bytes().cmp(bytes)
        };
        let found = self.verbs.binary_search_by(|verb| order(verb)).ok();
        found.and_then(|at| self.verbs.get(at)).copied().unwrap_or(OTHER)
    }
}

/// The words of a statement that are not in quotes or comments.
pub(crate) struct Words<'a> {
    dialect: &'static Dialect,
    /// What follows the last word.
    pub rest: &'a [u8],
    /// Parentheses that are open.
    depth: u32,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let (&first, after) = self.rest.split_first()?;
            if let Some(end) = (self.dialect.aside)(self.rest) {
                self.pass(end);
                continue;
            }
            match first {
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => {
                    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
                    let end = self.rest.iter().position(|byte| !is_word(byte)).unwrap_or(self.rest.len());
                    let (word, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    return Some(word);
                }
                b'0'..=b'9' => {
                    let end = self.rest.iter().position(|byte| !byte.is_ascii_alphanumeric());
                    self.pass(end.unwrap_or(usize::MAX));
                }
                _ => {
                    match first {
                        b'(' => self.depth += 1,
                        b')' => self.depth = self.depth.saturating_sub(1),
                        _ => {}
                    }
                    self.rest = after;
                }
            }
        }
    }
}

impl Words<'_> {
    /// Leaves out so many bytes, one at least.
    fn pass(&mut self, end: usize) {
        let at = end.clamp(1, self.rest.len().max(1));
        self.rest = self.rest.get(at..).unwrap_or_default();
    }
}
