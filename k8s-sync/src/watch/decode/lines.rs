//! A body in parts, cut into lines. A watch sends one JSON object in each line.

/// One line that has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Whole(&'a [u8]),
    /// Longer than the bound: its bytes were dropped.
    TooLong,
}

/// Memory stays below the bound and one part of the body. What was kept for a long line is given back with its end.
#[derive(Debug)]
pub struct Lines {
    begun: Vec<u8>,
    is_too_long: bool,
    bound: usize,
}

/// What is kept of the buffer between lines: most events are shorter.
const KEPT: usize = 64 << 10;

impl Lines {
    #[must_use]
    pub fn new(bound: usize) -> Lines {
        Lines { begun: Vec::new(), is_too_long: false, bound }
    }

    /// Calls `each` for every line that ends in `part`. Empty lines are left out.
    pub fn push<E>(&mut self, part: &[u8], mut each: impl FnMut(Line<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut pieces = part.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let has_ended = pieces.peek().is_some();
            let is_fitting = self.begun.len().saturating_add(piece.len()) <= self.bound && !self.is_too_long;
            match (has_ended, is_fitting) {
                (false, true) => self.begun.extend_from_slice(piece),
                (false, false) => {
                    self.begun = Vec::new();
                    self.is_too_long = true;
                }
                (true, true) if self.begun.is_empty() && !piece.is_empty() => each(Line::Whole(piece))?,
                (true, true) => {
                    self.begun.extend_from_slice(piece);
                    let line = std::mem::take(&mut self.begun);
                    if !line.is_empty() {
                        each(Line::Whole(&line))?;
                    }
                    self.begun = line;
                    self.begun.clear();
                    self.begun.shrink_to(KEPT);
                }
                (true, false) => {
                    self.begun = Vec::new();
                    self.is_too_long = false;
                    each(Line::TooLong)?;
                }
            }
        }
        Ok(())
    }

    /// Bytes of a line that has not ended.
    #[must_use]
    pub fn is_within_a_line(&self) -> bool {
        self.is_too_long || !self.begun.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn cut(bound: usize, parts: &[&[u8]]) -> (Vec<String>, bool) {
        let mut lines = Lines::new(bound);
        let mut found = Vec::new();
        for part in parts {
            let all = lines.push(part, |line| -> Result<(), Infallible> {
                found.push(match line {
                    Line::Whole(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    Line::TooLong => "(too long)".to_owned(),
                });
                Ok(())
            });
            let Ok(()) = all;
        }
        (found, lines.is_within_a_line())
    }

    #[test]
    fn lines_are_put_together_from_parts() {
        assert_eq!(cut(10, &[b"ab", b"c\nde\n\n", b"f"]), (vec!["abc".into(), "de".into()], true));
        assert_eq!(cut(10, &[b"ab\n", b"\n"]), (vec!["ab".into()], false));
    }

    #[test]
    fn a_line_over_the_bound_is_told_once_and_the_next_is_read() {
        assert_eq!(cut(4, &[b"1234\n", b"123", b"45", b"678", b"\nok\n"]).0, ["1234", "(too long)", "ok"]);
        assert_eq!(cut(4, &[b"12345\nok\n"]).0, ["(too long)", "ok"]);
    }

    proptest! {
        #[test]
        fn where_a_body_is_cut_makes_no_difference(body in "[a-c\n]{0,60}", cuts in proptest::collection::vec(0usize..60, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(body.len())).collect();
            cuts.sort_unstable();
            let mut parts = Vec::new();
            let mut from = 0;
            for at in cuts {
                parts.push(&body.as_bytes()[from..at]);
                from = at;
            }
            parts.push(&body.as_bytes()[from..]);
            prop_assert_eq!(cut(5, &parts), cut(5, &[body.as_bytes()]));
        }
    }
}
