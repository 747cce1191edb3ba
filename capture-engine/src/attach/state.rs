//! The life of one attachment as a pure machine: what a worker must do next, when to try again. Time is passed in.

#![forbid(unsafe_code)]

use super::linger::Linger;
use super::retry::Retries;
use std::time::{Duration, Instant};

/// A container that may change its own links and addresses can make news without end. It gets this
/// many looks at once, then one each `LOOK_EVERY`: a look takes about 0.2 ms of CPU.
const LOOKS_AT_ONCE: u32 = 16;
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where an attachment stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachState {
    /// Known, waiting for a worker.
    Discovered,
    /// A worker is at it for the first time.
    Attaching,
    /// Every interface that should have programs has them; there may be none yet.
    Attached,
    /// At least one interface lacks its programs; tried again later.
    Failed {
        /// Of the last try, for people.
        reason: String,
    },
    /// A detach was asked for.
    Leaving,
    /// Detached, or the namespace is no more.
    Gone,
}

impl AttachState {
    /// The label value.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            AttachState::Discovered => "discovered",
            AttachState::Attaching => "attaching",
            AttachState::Attached => "attached",
            AttachState::Failed { .. } => "failed",
            AttachState::Leaving => "leaving",
            AttachState::Gone => "gone",
        }
    }
}

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Bring programs onto all interfaces that lack them.
    Attach,
    /// Detach, unless more is to be waited for.
    Leave(Linger),
    Detach,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Attached,
    Failed(String),
    /// It is left later: its sockets have something to say yet.
    Lingers,
    Detached,
}

/// One namespace's attachment. The methods that return `bool` say whether it must be queued for a worker now.
#[derive(Clone, Debug)]
pub struct Attachment {
    state: AttachState,
    queued: bool,
    running: bool,
    /// Something changed since the last look began.
    dirty: bool,
    leaving: bool,
    /// Where it is not left before its sockets have said what they had to say.
    linger: Option<Linger>,
    retries: Retries,
    retry_at: Option<Instant>,
    looks: u32,
    looks_refilled: Instant,
}

impl Attachment {
    /// Newly found; must be queued.
    #[must_use]
    pub fn new(now: Instant) -> Attachment {
        Attachment {
            state: AttachState::Discovered,
            queued: true,
            running: false,
            dirty: false,
            leaving: false,
            linger: None,
            retries: Retries::default(),
            retry_at: None,
            looks: LOOKS_AT_ONCE,
            looks_refilled: now,
        }
    }

    #[must_use]
    pub fn state(&self) -> AttachState {
        match &self.state {
            state if self.leaving && *state != AttachState::Gone => AttachState::Leaving,
            state => state.clone(),
        }
    }

    /// When [`Attachment::due`] will have something to do.
    #[must_use]
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// A detach was asked for.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Tries that failed since the last one that did not.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.retries.failures()
    }

    /// A worker took it from the queue.
    pub fn begin(&mut self) -> Option<Work> {
        self.queued = false;
        if self.running || self.state == AttachState::Gone {
            return None;
        }
        self.running = true;
        self.dirty = false;
        self.retry_at = None;
        if self.leaving {
            return Some(self.linger.map_or(Work::Detach, Work::Leave));
        }
        if self.state == AttachState::Discovered {
            self.state = AttachState::Attaching;
        }
        Some(Work::Attach)
    }

    /// The worker's result. It still holds the attachment, until [`Attachment::release`].
    pub fn finish(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Attached => {
                self.retries = Retries::default();
                self.state = AttachState::Attached;
            }
            Outcome::Failed(reason) => {
                // Whoever leaves does not come back for another try.
                self.retry_at = (!self.leaving).then(|| now + self.retries.failed());
                self.state = AttachState::Failed { reason };
            }
            // Unless it was told meanwhile to wait no longer.
            Outcome::Lingers => self.retry_at = self.linger.as_mut().map(|linger| linger.next(now)),
            Outcome::Detached => {
                self.retry_at = None;
                self.state = AttachState::Gone;
            }
        }
    }

    /// The worker is done with it.
    #[must_use]
    pub fn release(&mut self, now: Instant) -> bool {
        self.running = false;
        match (self.leaving, self.dirty) {
            (true, _) => self.retry_at.is_none() && self.enqueue(),
            (false, true) => self.changed(now),
            (false, false) => false,
        }
    }

    /// Links or addresses of the namespace changed, or may have.
    #[must_use]
    pub fn changed(&mut self, now: Instant) -> bool {
        if self.running {
            self.dirty = true;
            return false;
        }
        if self.queued || self.leaving {
            return false;
        }
        self.refill(now);
        if self.looks == 0 {
            let next = self.looks_refilled + LOOK_EVERY;
            self.retry_at = Some(self.retry_at.map_or(next, |at| at.min(next)));
            return false;
        }
        self.looks -= 1;
        self.enqueue()
    }

    /// It has made so much news lately that its next looks go behind those of others.
    #[must_use]
    pub fn is_restless(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.looks < LOOKS_AT_ONCE / 2
    }

    /// Nothing is known to have changed, but what was seen last is old. What failed has a time of
    /// its own.
    #[must_use]
    pub fn look_again(&mut self) -> bool {
        let settled = !self.running && !self.leaving && self.state == AttachState::Attached;
        settled && self.enqueue()
    }

    /// Its last process has ended, and may have left something in its sockets.
    #[must_use]
    pub fn leave(&mut self, linger: Linger) -> bool {
        if self.leaving {
            return false;
        }
        (self.leaving, self.linger, self.retry_at) = (true, Some(linger), None);
        !self.running && self.enqueue()
    }

    /// Until when it waits for its sockets, if it does.
    #[must_use]
    pub fn lingers(&self) -> Option<Linger> {
        self.linger.filter(|_| self.state != AttachState::Gone)
    }

    /// If it waits for its sockets, it is looked at once more now, and then left.
    #[must_use]
    pub fn make_room(&mut self, now: Instant) -> bool {
        let Some(linger) = self.linger.as_mut() else { return false };
        linger.make_room(now);
        self.retry_at = None;
        !self.running && self.enqueue()
    }

    /// At once: it is not to be observed any more, or somebody else takes its place, or we leave.
    #[must_use]
    pub fn detach(&mut self) -> bool {
        self.leaving = true;
        self.linger = None;
        self.retry_at = None;
        !self.running && self.enqueue()
    }

    /// Time passed.
    #[must_use]
    pub fn due(&mut self, now: Instant) -> bool {
        match self.retry_at {
            Some(at) if at <= now && !self.running => {
                self.retry_at = None;
                self.enqueue()
            }
            _ => false,
        }
    }

    fn enqueue(&mut self) -> bool {
        let newly = !self.queued && self.state != AttachState::Gone;
        self.queued |= newly;
        newly
    }

    fn refill(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.looks_refilled).as_millis() / LOOK_EVERY.as_millis();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if self.looks.saturating_add(earned) >= LOOKS_AT_ONCE {
            self.looks = LOOKS_AT_ONCE;
            self.looks_refilled = now;
        } else {
            self.looks += earned;
            self.looks_refilled += LOOK_EVERY * earned;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    fn run(attachment: &mut Attachment, outcome: Outcome, now: Instant) -> bool {
        assert!(attachment.begin().is_some());
        attachment.finish(outcome, now);
        attachment.release(now)
    }

    #[test]
    fn failures_are_tried_again_after_1_2_4_and_at_most_60_seconds() {
        let mut now = Instant::now();
        let mut attachment = Attachment::new(now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert!(!run(&mut attachment, Outcome::Failed("refused".to_owned()), now));
            assert_eq!(attachment.state().as_str(), "failed");
            let at = attachment.retry_at().expect("a retry");
            waits.push((at - now).as_secs());
            assert!(!attachment.due(now));
            now = at;
            assert!(attachment.due(now));
            let mut tried = attachment.clone();
            assert!(tried.begin().is_some());
            assert_eq!(tried.state(), attachment.state(), "the reason stays until the next try has ended");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!run(&mut attachment, Outcome::Attached, now));
        assert_eq!(
            (attachment.state(), attachment.failures(), attachment.retry_at()),
            (AttachState::Attached, 0, None)
        );
    }

    #[test]
    fn a_change_while_a_worker_looks_means_another_look() {
        let now = Instant::now();
        let mut attachment = Attachment::new(now);
        assert_eq!(attachment.begin(), Some(Work::Attach));
        assert!(!attachment.changed(now));
        attachment.finish(Outcome::Attached, now);
        assert!(attachment.release(now), "queued again");
        assert!(!attachment.changed(now), "already queued");
        assert_eq!(attachment.begin(), Some(Work::Attach));
        assert_eq!(attachment.state(), AttachState::Attached, "a second look does not unsay the first");
    }

    #[test]
    fn detach_in_the_middle_of_an_attach_waits_for_it_and_then_happens() {
        let now = Instant::now();
        let mut attachment = Attachment::new(now);
        assert_eq!(attachment.begin(), Some(Work::Attach));
        assert!(!attachment.detach());
        attachment.finish(Outcome::Attached, now);
        assert_eq!(attachment.state(), AttachState::Leaving);
        assert!(attachment.release(now));
        assert_eq!(attachment.begin(), Some(Work::Detach));
        attachment.finish(Outcome::Detached, now);
        assert!(!attachment.release(now));
        assert_eq!(attachment.state(), AttachState::Gone);
        assert!(!attachment.changed(now) && !attachment.detach() && attachment.begin().is_none());
    }

    #[test]
    fn what_failed_and_waits_for_its_next_try_leaves_at_once() {
        let now = Instant::now();
        let mut attachment = Attachment::new(now);
        assert!(!run(&mut attachment, Outcome::Failed("refused".to_owned()), now));
        assert!(attachment.detach(), "queued, not left to the retry");
        assert_eq!((attachment.state(), attachment.retry_at()), (AttachState::Leaving, None));
        assert_eq!(attachment.begin(), Some(Work::Detach));
    }

    #[test]
    fn news_without_end_gets_a_burst_of_looks_and_then_four_a_second() {
        let start = Instant::now();
        let mut attachment = Attachment::new(start);
        run(&mut attachment, Outcome::Attached, start);
        let mut looks = 0;
        for millisecond in 0..2000 {
            let now = after(start, f64::from(millisecond) / 1000.0);
            if attachment.changed(now) || attachment.due(now) {
                looks += 1;
                run(&mut attachment, Outcome::Attached, now);
            }
        }
        assert!((20..=32).contains(&looks), "{looks} looks in 2 s");
    }

    #[test]
    fn who_makes_news_without_end_goes_behind_others_until_it_is_quiet_for_a_while() {
        let start = Instant::now();
        let mut attachment = Attachment::new(start);
        run(&mut attachment, Outcome::Attached, start);
        let mut first = 0;
        let mut end = start;
        for millisecond in 0..4000 {
            end = after(start, f64::from(millisecond) / 1000.0);
            let is_calm = !attachment.is_restless(end);
            if attachment.changed(end) || attachment.due(end) {
                first += u32::from(is_calm);
                run(&mut attachment, Outcome::Attached, end);
            }
        }
        assert_eq!(first, LOOKS_AT_ONCE / 2 + 1, "so many looks are as urgent as anybody's");
        assert!(attachment.is_restless(end));
        assert!(!attachment.is_restless(end + LOOK_EVERY * LOOKS_AT_ONCE));
    }

    #[test]
    fn only_what_is_believed_attached_is_looked_at_again_and_that_costs_no_look_of_the_news() {
        let now = Instant::now();
        let mut attachment = Attachment::new(now);
        assert!(!attachment.look_again(), "it waits for its first");
        assert!(attachment.begin().is_some());
        assert!(!attachment.look_again(), "a worker looks");
        attachment.finish(Outcome::Attached, now);
        assert!(!attachment.release(now));
        for _ in 0..100 {
            assert!(attachment.look_again());
            assert!(!attachment.look_again(), "already queued");
            assert!(!run(&mut attachment, Outcome::Attached, now));
        }
        assert!(attachment.changed(now), "news are still heard at once");
        assert!(!run(&mut attachment, Outcome::Failed("refused".to_owned()), now));
        assert!(!attachment.look_again(), "it has a time of its own");
        assert!(attachment.detach() && !attachment.look_again());
    }

    #[test]
    fn what_has_more_to_say_is_looked_at_again_until_its_time_is_over() {
        let start = Instant::now();
        let mut attachment = Attachment::new(start);
        run(&mut attachment, Outcome::Attached, start);
        let linger = Linger::new(start + Duration::from_secs(10));
        assert!(attachment.leave(linger) && !attachment.leave(linger), "once");
        let (mut now, mut looks) = (start, 0);
        while now < start + Duration::from_secs(10) {
            assert!(matches!(attachment.begin(), Some(Work::Leave(_))));
            attachment.finish(Outcome::Lingers, now);
            assert!(!attachment.release(now) && !attachment.changed(now) && !attachment.look_again());
            now = attachment.retry_at().expect("another look");
            assert!(attachment.due(now));
            looks += 1;
        }
        assert_eq!(now, start + Duration::from_secs(10));
        assert!((30..60).contains(&looks), "{looks} looks");
        assert_eq!(attachment.begin(), Some(Work::Leave(attachment.lingers().expect("it still waits"))));
        attachment.finish(Outcome::Detached, now);
        assert!(!attachment.release(now));
        assert_eq!((attachment.state(), attachment.lingers()), (AttachState::Gone, None));
    }

    #[test]
    fn who_is_told_to_wait_no_longer_is_left_at_once() {
        let start = Instant::now();
        let lingering = |is_running: bool| {
            let mut attachment = Attachment::new(start);
            run(&mut attachment, Outcome::Attached, start);
            assert!(attachment.leave(Linger::new(start + Duration::from_secs(10))));
            assert!(attachment.begin().is_some());
            if !is_running {
                attachment.finish(Outcome::Lingers, start);
                assert!(!attachment.release(start));
            }
            attachment
        };
        let mut waits = lingering(false);
        assert!(waits.detach());
        assert_eq!((waits.begin(), waits.lingers()), (Some(Work::Detach), None));
        let mut is_looked_at = lingering(true);
        assert!(!is_looked_at.detach());
        is_looked_at.finish(Outcome::Lingers, start);
        assert!(is_looked_at.release(start), "the look came too late to matter");
        assert_eq!(is_looked_at.begin(), Some(Work::Detach));
        let mut crowded = lingering(false);
        assert!(crowded.make_room(start));
        let linger = crowded.lingers().expect("one more look");
        assert!(linger.is_over(start) && linger.is_crowded());
        assert_eq!(crowded.begin(), Some(Work::Leave(linger)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin,
        Finish(bool),
        Changed,
        Look,
        Leave,
        MakeRoom,
        Detach,
        Wait(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Begin),
            4 => any::<bool>().prop_map(Step::Finish),
            2 => Just(Step::Changed),
            2 => Just(Step::Look),
            1 => Just(Step::Leave),
            1 => Just(Step::MakeRoom),
            1 => Just(Step::Detach),
            2 => any::<u16>().prop_map(Step::Wait),
        ];
        proptest::collection::vec(step, 0..80)
    }

    proptest! {
        /// However news, results, time and detach come together: never two workers at once, never
        /// twice in the queue, nothing forgotten (what failed or changed is queued or has a time),
        /// and after a detach it ends.
        #[test]
        fn nothing_is_forgotten_and_nothing_is_done_twice(steps in steps()) {
            let mut now = Instant::now();
            let mut attachment = Attachment::new(now);
            let (mut in_queue, mut working, mut detached) = (1i32, None, false);
            for step in steps {
                match step {
                    Step::Begin if in_queue == 1 => {
                        in_queue = 0;
                        let work = attachment.begin();
                        prop_assert!(work.is_none() || working.is_none());
                        working = work.or(working);
                        prop_assert!(matches!(work, None | Some(Work::Attach)) || detached);
                    }
                    Step::Finish(well) => if let Some(work) = working.take() {
                        attachment.finish(match (work, well) {
                            (Work::Detach, _) | (Work::Leave(_), true) => Outcome::Detached,
                            (Work::Leave(_), false) => Outcome::Lingers,
                            (Work::Attach, true) => Outcome::Attached,
                            (Work::Attach, false) => Outcome::Failed(String::new()),
                        }, now);
                        in_queue += i32::from(attachment.release(now));
                    },
                    Step::Changed => {
                        in_queue += i32::from(attachment.changed(now));
                        let known = in_queue == 1 || working.is_some() || attachment.retry_at().is_some() || detached;
                        prop_assert!(known, "the change is forgotten");
                    }
                    Step::Look => in_queue += i32::from(attachment.look_again()),
                    Step::Leave => {
                        detached = true;
                        in_queue += i32::from(attachment.leave(Linger::new(now + Duration::from_secs(10))));
                    }
                    Step::MakeRoom => in_queue += i32::from(attachment.make_room(now)),
                    Step::Detach => {
                        detached = true;
                        in_queue += i32::from(attachment.detach());
                    }
                    Step::Wait(milliseconds) => {
                        now += Duration::from_millis(u64::from(milliseconds));
                        in_queue += i32::from(attachment.due(now));
                    }
                    Step::Begin => {}
                }
                prop_assert!((0..=1).contains(&in_queue));
                let failed = matches!(attachment.state(), AttachState::Failed { .. });
                prop_assert!(!failed || in_queue == 1 || working.is_some() || attachment.retry_at().is_some());
                let ended = attachment.state() == AttachState::Gone;
                let lingers = attachment.lingers().is_some() && attachment.retry_at().is_some();
                prop_assert!(!detached || ended || in_queue == 1 || working.is_some() || lingers);
            }
        }
    }
}
