//! What the prepared statements of a connection do, by their numbers: bounded.

use super::statement::UNKNOWN;

/// Statements that are remembered: drivers keep some hundred at most, and use few.
const MOST: usize = 256;

/// Number with which MariaDB's clients mean the statement that was prepared last.
pub(super) const LAST: u32 = u32::MAX;

/// Verbs by number, the one that was used last at the end.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    statements: Vec<(u32, &'static str)>,
    /// What was asked to be prepared last.
    last: Option<&'static str>,
}

impl Prepared {
    /// The client asks for it; its number comes with the answer.
    pub(super) fn asked(&mut self, verb: &'static str) {
        self.last = Some(verb);
    }

    pub(super) fn add(&mut self, number: u32, verb: &'static str) {
        self.close(number);
        if self.statements.len() >= MOST {
            self.statements.remove(0);
        }
        self.statements.push((number, verb));
    }

    pub(super) fn verb(&mut self, number: Option<u32>) -> &'static str {
        if number == Some(LAST) {
            return self.last.unwrap_or(UNKNOWN);
        }
        let at = self.statements.iter().rposition(|(known, _)| Some(*known) == number);
        let Some(at) = at else { return UNKNOWN };
        let found = self.statements.remove(at);
        self.statements.push(found);
        found.1
    }

    pub(super) fn close(&mut self, number: u32) {
        self.statements.retain(|(known, _)| *known != number);
    }

    /// The session begins anew, or bytes of the client were not seen.
    pub(super) fn forget(&mut self) {
        *self = Prepared::default();
    }

    pub(super) fn held(&self) -> usize {
        self.statements.capacity() * size_of::<(u32, &str)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_remembered_and_the_oldest_are_forgotten() {
        let mut prepared = Prepared::default();
        prepared.asked("DELETE");
        assert_eq!(prepared.verb(Some(LAST)), "DELETE");
        for number in 0..=MOST as u32 {
            prepared.add(number, "SELECT");
        }
        assert_eq!((prepared.verb(Some(0)), prepared.verb(Some(1))), (UNKNOWN, "SELECT"));
        prepared.close(1);
        assert_eq!((prepared.verb(Some(1)), prepared.verb(None)), (UNKNOWN, UNKNOWN));
    }
}
