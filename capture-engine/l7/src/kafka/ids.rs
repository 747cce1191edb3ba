//! The numbers that a client gives its requests. Each client counts upwards, but one that talks to many
//! brokers counts for all of them; and a few give all their requests one number.

/// So many steps upwards show that it counts: one that uses some numbers again and again has come back
/// by then.
const TRUSTED: u8 = 8;

/// So many steps of one show by how much it counts.
const BY_ONE: u8 = 4;

#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    newest: Option<i32>,
    /// Steps upwards that were seen, up to a bound; and those with nothing missed in between.
    steps: u8,
    sure: u8,
    /// Each of those was of one.
    by_one: bool,
    /// One was not upwards.
    refuted: bool,
}

impl Ids {
    pub(super) const NONE: Ids = Ids { newest: None, steps: 0, sure: 0, by_one: true, refuted: false };

    /// A request. `missed`: others before it may not have been seen.
    pub(super) fn see(&mut self, id: i32, missed: bool) {
        if let Some(newest) = self.newest {
            let step = id.wrapping_sub(newest);
            if step <= 0 {
                self.refuted = true;
            } else {
                self.steps = self.steps.saturating_add(1).min(TRUSTED);
                if !missed {
                    self.sure = self.sure.saturating_add(1).min(BY_ONE);
                    self.by_one &= step == 1;
                }
            }
        }
        self.newest = Some(id);
    }

    /// A number that was not seen to be asked, and is newer.
    pub(super) fn infer(&mut self, id: i32) {
        self.newest = Some(id);
    }

    /// Something else has shown that numbers come more than once.
    pub(super) fn refute(&mut self) {
        self.refuted = true;
    }

    pub(super) fn newest(&self) -> Option<i32> {
        self.newest
    }

    /// Whether `id` comes after the newest one. Nothing does where the numbers say nothing.
    pub(super) fn is_newer(&self, id: i32) -> bool {
        !self.refuted && self.newest.is_none_or(|newest| id.wrapping_sub(newest) > 0)
    }

    /// Each request has a number of its own.
    pub(super) fn count(&self) -> bool {
        self.steps >= TRUSTED && !self.refuted
    }

    /// One after the other, so that a number tells how many were missed.
    pub(super) fn count_by_one(&self) -> bool {
        self.sure >= BY_ONE && self.by_one && !self.refuted
    }

    pub(super) fn are_refuted(&self) -> bool {
        self.refuted
    }
}

/// How many numbers lie between two, without them.
pub(super) fn between(after: i32, before: i32) -> u32 {
    u32::try_from(before.wrapping_sub(after).wrapping_sub(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(numbers: &[i32]) -> Ids {
        let mut ids = Ids::NONE;
        numbers.iter().for_each(|id| ids.see(*id, false));
        ids
    }

    #[test]
    fn numbers_count_where_they_go_upwards() {
        assert!(seen(&[7, 8, 9, 10, 11]).count_by_one() && !seen(&[7, 8, 9, 10]).count_by_one());
        assert!(seen(&[i32::MAX - 2, i32::MAX - 1, i32::MAX, i32::MIN, i32::MIN + 1]).count_by_one());
        let jumps = [1, 5, 6, 9, 12, 20, 21, 22, 30];
        assert!(seen(&jumps).count() && !seen(&jumps).count_by_one());
        assert!(!seen(&jumps[..8]).count() && !seen(&[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).count());
        assert!(!seen(&[1, 2, 3, 3]).count() && seen(&[0, 0]).are_refuted());
        assert_eq!((between(3, 4), between(3, 7), between(i32::MAX, i32::MIN + 2)), (0, 3, 2));
    }
}
