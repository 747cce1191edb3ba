//! What the statements and portals of a connection do, by their names: bounded, and forgotten where it
//! could be wrong.

use super::frame::{Name, UNNAMED};
use super::statement::UNKNOWN;

/// Names that are remembered of each kind: drivers keep some hundred statements at most, and use few.
const MOST: usize = 128;

/// Verbs by name, the newest last.
#[derive(Debug, Default)]
pub(super) struct Verbs {
    unnamed: Option<&'static str>,
    named: Vec<(u64, &'static str)>,
}

impl Verbs {
    /// `verb` is what `name` does from here on. A name that is not free yet may keep what it had: then
    /// nobody knows.
    fn add(&mut self, name: Name, verb: &'static str, is_free: bool) {
        let Some(name) = name else {
            // Any of them may be another one now.
            *self = Verbs::default();
            return;
        };
        if Some(name) == UNNAMED {
            self.unnamed = Some(verb);
            return;
        }
        let old = self.take(name);
        let verb = if is_free || old.is_none_or(|old| old == verb) { verb } else { UNKNOWN };
        if self.named.len() >= MOST {
            self.named.remove(0);
        }
        self.named.push((name, verb));
    }

    fn get(&mut self, name: Name) -> &'static str {
        let Some(name) = name else { return UNKNOWN };
        if Some(name) == UNNAMED {
            return self.unnamed.unwrap_or(UNKNOWN);
        }
        let Some(verb) = self.take(name) else { return UNKNOWN };
        self.named.push((name, verb));
        verb
    }

    fn take(&mut self, name: u64) -> Option<&'static str> {
        let at = self.named.iter().rposition(|(known, _)| *known == name)?;
        Some(self.named.remove(at).1)
    }

    fn close(&mut self, name: Name) {
        match name {
            None => *self = Verbs::default(),
            UNNAMED => self.unnamed = None,
            Some(name) => drop(self.take(name)),
        }
    }

    fn held(&self) -> usize {
        self.named.capacity() * size_of::<(u64, &str)>()
    }
}

/// What a connection has prepared.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    statements: Verbs,
    portals: Verbs,
}

impl Prepared {
    pub(super) fn parse(&mut self, statement: Name, verb: &'static str) {
        self.statements.add(statement, verb, false);
    }

    pub(super) fn bind(&mut self, portal: Name, statement: Name) {
        let verb = self.statements.get(statement);
        // The portals of a transaction end with it.
        self.portals.add(portal, verb, true);
    }

    pub(super) fn verb(&mut self, portal: Name) -> &'static str {
        self.portals.get(portal)
    }

    pub(super) fn close_statement(&mut self, statement: Name) {
        self.statements.close(statement);
    }

    pub(super) fn close_portal(&mut self, portal: Name) {
        self.portals.close(portal);
    }

    /// A statement of SQL that frees names.
    pub(super) fn done(&mut self, verb: &str) {
        if matches!(verb, "DEALLOCATE" | "DISCARD") {
            *self = Prepared::default();
        }
    }

    /// Bytes of the client were not seen.
    pub(super) fn forget(&mut self) {
        *self = Prepared::default();
    }

    pub(super) fn held(&self) -> usize {
        self.statements.held() + self.portals.held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_remembered_and_the_oldest_are_forgotten() {
        let mut prepared = Prepared::default();
        for name in 1..=MOST as u64 + 1 {
            prepared.parse(Some(name), "SELECT");
        }
        let verb = |prepared: &mut Prepared, name| {
            prepared.bind(UNNAMED, name);
            prepared.verb(UNNAMED)
        };
        assert_eq!(verb(&mut prepared, Some(1)), UNKNOWN);
        assert_eq!(verb(&mut prepared, Some(2)), "SELECT");
        assert_eq!(verb(&mut prepared, UNNAMED), UNKNOWN);
        prepared.close_statement(Some(2));
        assert_eq!(verb(&mut prepared, Some(2)), UNKNOWN);
    }

    #[test]
    fn a_name_that_was_not_seen_may_be_any() {
        let mut prepared = Prepared::default();
        prepared.parse(UNNAMED, "SELECT");
        prepared.parse(None, "DELETE");
        prepared.bind(UNNAMED, UNNAMED);
        assert_eq!(prepared.verb(UNNAMED), UNKNOWN);
    }

    #[test]
    fn a_name_that_is_taken_may_keep_what_it_had() {
        let mut prepared = Prepared::default();
        prepared.parse(Some(7), "SELECT");
        prepared.parse(Some(7), "DELETE");
        prepared.bind(UNNAMED, Some(7));
        assert_eq!(prepared.verb(UNNAMED), UNKNOWN);
    }
}
