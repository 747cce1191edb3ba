//! How often a client has asked, as a source counts it that may refuse what it has seen.

use memchr::memchr;

/// Ends of request lines (RFC 9112 section 3: a space, `HTTP/1.`, a digit, CR and LF) that a source has counted in what
/// is new of the client's direction, whether it could hand it over or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Their number: it wraps at [`Asked::AROUND`].
    count: u32,
    /// Of two counts of the same run the difference is exact, else it is a lower bound.
    run: u8,
    /// Bytes of such an end that came last.
    matched: u8,
}

/// What stands for any digit is 0.
const END: &[u8; 11] = b" HTTP/1.0\r\n";

impl Asked {
    /// The least number that a count does not have.
    pub const AROUND: u32 = 1 << 20;

    /// A word of the kernel programs (`PF_LINES_*` in `bpf/wire.h`).
    #[must_use]
    pub fn from_word(word: u32) -> Asked {
        Asked { count: word >> 12, run: (word >> 4) as u8, matched: (word & 15) as u8 }
    }

    /// The other way around.
    #[must_use]
    pub fn word(self) -> u32 {
        self.count << 12 | u32::from(self.run) << 4 | u32::from(self.matched & 15)
    }

    /// The next run: nothing has matched.
    #[must_use]
    pub fn next_run(self) -> Asked {
        Asked { run: self.run.wrapping_add(1), matched: 0, ..self }
    }

    /// The next bytes of the client: how many ends they have.
    pub fn pass(&mut self, bytes: &[u8]) -> u32 {
        let (mut rest, mut ends) = (bytes, 0);
        if self.is_broken() {
            self.matched = 0;
        }
        while let Some((&byte, after)) = rest.split_first() {
            if self.matched == 0 {
                let Some(at) = memchr(END[0], rest) else { break };
                rest = rest.get(at + 1..).unwrap_or_default();
                self.matched = 1;
                continue;
            }
            rest = after;
            let expected = END[usize::from(self.matched)];
            let fits = if expected == b'0' { byte.is_ascii_digit() } else { byte == expected };
            self.matched = if fits { self.matched + 1 } else { u8::from(byte == END[0]) };
            if usize::from(self.matched) == END.len() {
                self.matched = 0;
                ends += 1;
            }
        }
        self.count = self.count.wrapping_add(ends) % Asked::AROUND;
        ends
    }

    /// How many more than `before`; `None`: not more.
    pub(crate) fn since(self, before: Asked) -> Option<u32> {
        let more = self.count.wrapping_sub(before.count) % Asked::AROUND;
        (more < Asked::AROUND / 2).then_some(more)
    }

    /// Whether what lies between two counts is exact.
    #[must_use]
    pub fn is_of_run(self, other: Asked) -> bool {
        self.run == other.run
    }

    /// Nothing more is counted in its run.
    #[must_use]
    pub fn is_broken(self) -> bool {
        usize::from(self.matched) >= END.len()
    }
}

/// Where a count was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Where the client's direction stands.
    Here,
    /// Behind that: of what lies between, something may not have shown yet.
    Later,
    /// At the end of all that passed.
    Last,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_end_of_a_request_line_is_one_however_it_is_cut() {
        let text =
            b"GET / HTTP/1.1\r\nA: b HTTP/1.1\r\n  HTTP/1.0\r\nHTTP/1.1\r\n HTTP/2.0\r\n HTTP/1.1\n HTTP/1.9\r\n";
        for cut in 0..=text.len() {
            let mut asked = Asked::default();
            let ends = asked.pass(&text[..cut]) + asked.pass(&text[cut..]);
            assert_eq!((ends, asked.count), (4, 4), "{cut}");
        }
    }

    #[test]
    fn a_count_wraps_and_goes_to_the_kernel_and_back() {
        let last = Asked { count: Asked::AROUND - 1, run: 255, matched: 10 };
        assert_eq!(Asked::from_word(last.word()), last);
        let mut next = last;
        assert_eq!(next.pass(b"\n"), 1);
        assert_eq!((next.since(last), last.since(next), next.is_of_run(last)), (Some(1), None, true));
        assert!(!next.next_run().is_of_run(last));
    }

    proptest! {
        #[test]
        fn random_bytes_have_the_ends_that_a_search_finds(
            words in prop::collection::vec(prop::sample::select(vec![
                " ", "HTTP/1.", " HTTP/1.", "1", "0", "\r", "\r\n", "\n", " HTTP/1.1\r\n", "x",
            ]), 0..60),
            cut in 0usize..400,
        ) {
            let text = words.concat().into_bytes();
            let (first, second) = text.split_at(cut.min(text.len()));
            let mut asked = Asked::default();
            let ends = asked.pass(first) + asked.pass(second);
            let is_end = |at: &[u8]| at.starts_with(b" HTTP/1.") && at[8].is_ascii_digit() && at.ends_with(b"\r\n");
            prop_assert_eq!(ends as usize, text.windows(END.len()).filter(|at| is_end(at)).count());
        }
    }
}
