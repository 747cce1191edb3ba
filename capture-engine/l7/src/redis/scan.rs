//! The lines and bulk strings of RESP, of which commands and replies are made alike, and how far a
//! reply reaches (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use memchr::memchr;

/// Bytes of a line or a bulk string that are kept: the name of a command, a number, an error's first
/// word. None that matters is longer.
pub(super) const KEPT: usize = 32;

/// Servers take no longer line of a command (`PROTO_INLINE_MAX_SIZE`), and none of a reply comes near it.
const LONGEST_LINE: u32 = 64 << 10;

/// Far above `proto-max-bulk-len` (512 MiB) as servers ship.
const LONGEST_BULK: u64 = 1 << 40;

/// Elements of an aggregate that are believed; servers have less memory.
const MOST_ELEMENTS: u64 = 1 << 32;

/// Streamed aggregates inside of each other.
const DEEPEST: usize = 32;

/// A place in the bytes of one direction.
#[derive(Debug, Default)]
pub(super) struct Scan {
    kept: [u8; KEPT],
    have: u8,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    /// A line begins.
    #[default]
    Start,
    /// In a line, so many bytes of which have come.
    Line(u32),
    /// So many bytes of a bulk string and of the line end behind it are to come.
    Bulk { left: u64, kind: u8, cut: bool },
}

/// What bytes told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    /// A line is whole that announces no bytes: its beginning is `text`.
    Line,
    /// A bulk string is whole: its beginning is `text`. `cut`: not all of it was seen.
    Bulk {
        kind: u8,
        cut: bool,
    },
    /// It is no RESP.
    Broken,
}

impl Scan {
    /// The beginning of what is whole, without its line end.
    pub(super) fn text(&self) -> &[u8] {
        self.kept.get(..usize::from(self.have)).unwrap_or_default()
    }

    /// Goes on to the end of the next line or bulk string; how many bytes that took.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> (usize, Step) {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            if rest.is_empty() {
                return (used, Step::More);
            }
            match self.place {
                Place::Start => {
                    self.have = 0;
                    self.place = Place::Line(0);
                }
                Place::Line(before) => {
                    let end = memchr(b'\n', rest);
                    let here = end.map_or(rest.len(), |end| end + 1);
                    self.keep(rest.get(..here).unwrap_or_default());
                    used += here;
                    let length = before.saturating_add(u32::try_from(here).unwrap_or(u32::MAX));
                    self.place = Place::Line(length);
                    if length > LONGEST_LINE {
                        return (used, Step::Broken);
                    }
                    if end.is_some() {
                        match self.line(length) {
                            Step::More => {}
                            step => return (used, step),
                        }
                    }
                }
                Place::Bulk { left, kind, cut } => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let here_bytes = rest.get(..here).unwrap_or_default();
                    let body = usize::try_from(left.saturating_sub(2)).unwrap_or(usize::MAX).min(here);
                    self.keep(here_bytes.get(..body).unwrap_or_default());
                    used += here;
                    let after = left - here as u64;
                    self.place = Place::Bulk { left: after, kind, cut };
                    let end: &[u8] = if left >= 2 { b"\r\n" } else { b"\n" };
                    if !end.starts_with(here_bytes.get(body..).unwrap_or_default()) {
                        return (used, Step::Broken);
                    }
                    if after == 0 {
                        self.place = Place::Start;
                        return (used, Step::Bulk { kind, cut });
                    }
                }
            }
        }
    }

    /// Passes over bytes that were not seen; `None` where the place is lost with them.
    pub(super) fn pass(&mut self, bytes: u64) -> Option<Step> {
        let Place::Bulk { left, kind, .. } = self.place else { return None };
        let after = left.checked_sub(bytes)?;
        self.place = if after > 0 { Place::Bulk { left: after, kind, cut: true } } else { Place::Start };
        Some(if after > 0 { Step::More } else { Step::Bulk { kind, cut: true } })
    }

    /// Bytes to come of the bulk string under way.
    pub(super) fn left(&self) -> Option<u64> {
        match self.place {
            Place::Bulk { left, .. } => Some(left),
            Place::Start | Place::Line(_) => None,
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let have = usize::from(self.have);
        let here = bytes.len().min(KEPT - have.min(KEPT));
        if let (Some(to), Some(from)) = (self.kept.get_mut(have..have + here), bytes.get(..here)) {
            to.copy_from_slice(from);
            self.have += here as u8;
        }
    }

    /// A line of `length` bytes is whole. `More`: the bytes that it announces follow.
    fn line(&mut self, length: u32) -> Step {
        self.place = Place::Start;
        if length as usize <= KEPT {
            let text = self.text();
            let end = text.strip_suffix(b"\r\n").or_else(|| text.strip_suffix(b"\n")).map_or(0, <[u8]>::len);
            self.have = end as u8;
        }
        let Some((&kind @ (b'$' | b'!' | b'=' | b';'), digits)) = self.text().split_first() else {
            return Step::Line;
        };
        match (number(digits), kind) {
            (Some(0), b';') => Step::Line,
            (Some(bytes), _) if bytes <= LONGEST_BULK => {
                self.have = 0;
                self.place = Place::Bulk { left: bytes + 2, kind, cut: false };
                Step::More
            }
            (None, b'$') if matches!(digits, b"-1" | b"?") => Step::Line,
            _ => Step::Broken,
        }
    }
}

/// A number without a sign.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.len() <= 19 && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// How far a reply reaches: what is to come of its aggregates.
#[derive(Debug)]
pub(super) struct Extent {
    /// Elements to come.
    left: u64,
    /// What is to come behind each streamed aggregate that is open.
    streams: Vec<u64>,
}

/// Inside of a streamed aggregate nobody knows how many elements come.
const STREAMED: u64 = u64::MAX / 2;

impl Default for Extent {
    fn default() -> Self {
        Extent { left: 1, streams: Vec::new() }
    }
}

impl Extent {
    /// Nothing is to come.
    pub(super) fn is_whole(&self) -> bool {
        self.left == 0 && self.streams.is_empty()
    }

    /// One element is to come: the reply itself or an attribute of it, or else its last one.
    pub(super) fn is_at_last(&self) -> bool {
        self.left == 1 && self.streams.is_empty()
    }

    /// Counts a line; false where it is no element.
    pub(super) fn line(&mut self, text: &[u8]) -> bool {
        let Some((&kind, rest)) = text.split_first() else { return false };
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => self.one(),
            b'*' | b'~' | b'%' | b'>' | b'|' => match (number(rest), rest) {
                (Some(count), _) if count <= MOST_ELEMENTS => {
                    let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                    // An attribute is of the element that follows it.
                    let taken = u64::from(kind != b'|');
                    self.left = self.left.saturating_sub(taken).saturating_add(count * each);
                    true
                }
                (None, b"?") if kind != b'|' && self.streams.len() < DEEPEST => {
                    self.streams.push(self.left.saturating_sub(1));
                    self.left = STREAMED;
                    true
                }
                (None, b"-1") if kind == b'*' => self.one(),
                _ => false,
            },
            b'.' if rest.is_empty() => match self.streams.pop() {
                Some(left) => {
                    self.left = left;
                    true
                }
                None => false,
            },
            // Its chunks follow, and an empty one ends it.
            b'$' if rest == b"?" => true,
            b'$' | b';' => self.one(),
            _ => false,
        }
    }

    /// Counts a bulk string.
    pub(super) fn bulk(&mut self, kind: u8) {
        if kind != b';' {
            self.one();
        }
    }

    fn one(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the first reply in `bytes`; `None` where it is none, or not whole.
    fn reach(bytes: &[u8], piece: usize) -> Option<usize> {
        let (mut scan, mut extent, mut at) = (Scan::default(), Extent::default(), 0);
        while at < bytes.len() {
            let end = (at + piece).min(bytes.len());
            let (used, step) = scan.feed(&bytes[at..end]);
            at += used;
            match step {
                Step::More => continue,
                Step::Line => assert!(extent.line(scan.text()), "{}", scan.text().escape_ascii()),
                Step::Bulk { kind, .. } => extent.bulk(kind),
                Step::Broken => return None,
            }
            if extent.is_whole() {
                return Some(at);
            }
        }
        None
    }

    #[test]
    fn a_reply_of_any_shape_ends_where_it_does() {
        for reply in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":-12\r\n",
            "$5\r\nhello\r\n",
            "$0\r\n\r\n",
            "$-1\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*2\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n",
            "_\r\n",
            "#t\r\n",
            ",1.5\r\n",
            "(3492890328409238509324850943850943825024385\r\n",
            "!21\r\nSYNTAX invalid syntax\r\n",
            "=15\r\ntxt:Some string\r\n",
            "%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n_\r\n",
            "~3\r\n:1\r\n:2\r\n:3\r\n",
            ">3\r\n+message\r\n+ch\r\n$2\r\nhi\r\n",
            "|1\r\n+popularity\r\n%1\r\n$1\r\na\r\n,0.1\r\n*2\r\n:1\r\n:2\r\n",
            "*3\r\n:1\r\n|1\r\n+ttl\r\n:3600\r\n:2\r\n:3\r\n",
            "$?\r\n;4\r\nHell\r\n;5\r\no wor\r\n;0\r\n",
            "*?\r\n:1\r\n*2\r\n:2\r\n:3\r\n*?\r\n.\r\n.\r\n",
            "*2\r\n%?\r\n+a\r\n:1\r\n.\r\n:1\r\n",
            "+a line that is much longer than what is kept of any line of a reply\r\n",
        ] {
            let bytes = format!("{reply}+NEXT\r\n").into_bytes();
            for piece in 1..=bytes.len() {
                assert_eq!(reach(&bytes, piece), Some(reply.len()), "{} by {piece}", reply.escape_debug());
            }
        }
    }

    #[test]
    fn what_is_no_resp_is_told() {
        for bytes in ["$5\r\nhello!!\r\n", "$99999999999999\r\n", "$x\r\n", "$-2\r\n", "=?\r\n", "$2\r\nab\n\n"] {
            assert_eq!(reach(bytes.as_bytes(), 99), None, "{}", bytes.escape_debug());
        }
        let mut scan = Scan::default();
        assert_eq!(scan.feed(&[b'x'; 70_000]).1, Step::Broken);
        for line in [&b"hello"[..], b".", b"*x", b"*-2", b"", b"|?", b"*99999999999"] {
            assert!(!Extent::default().line(line), "{}", line.escape_ascii());
        }
        let mut deep = Extent::default();
        assert_eq!((0..100).filter(|_| deep.line(b"*?")).count(), DEEPEST);
    }

    #[test]
    fn a_hole_inside_of_a_value_is_passed_by_counting() {
        let mut scan = Scan::default();
        assert_eq!(scan.feed(b"$1000\r\nabc"), (10, Step::More));
        assert_eq!(scan.pass(900), Some(Step::More));
        assert_eq!(scan.left(), Some(99));
        assert_eq!(scan.pass(100), None, "the next line began in it");
        assert_eq!(scan.pass(99), Some(Step::Bulk { kind: b'$', cut: true }));
        assert_eq!(scan.text(), b"abc");
        assert_eq!(scan.pass(1), None, "no value is under way");
    }
}
