//! Rounds through the kernel's flow table: when one is due, and which of the flows that it shows
//! are over.
//!
//! Pure: the owner of the table reads it and removes from it what is said to be over here.

use crate::event::Sample;
use flow_model::{Role, Slot, Transport, Ts};
use std::collections::HashMap;
use std::time::Duration;

/// A round begins so long after the one before at the earliest.
const ROUND: Duration = Duration::from_secs(1);
/// And after this many times the processor's time that it took: sampling takes 1 % of a CPU at most.
/// Not what passed meanwhile: the ring is emptied in between, which takes all the time while it is full.
const ROUND_TIMES: u32 = 100;
/// But no later than that where many flows have ended and only the table tells of it, because the ring
/// has no room for that either: they take the places of others. Then they cost what their events would have.
const ROUND_UNTOLD: Duration = Duration::from_millis(250);
/// Of the flows of a round, one in so many.
const MANY_UNTOLD: usize = 16;
/// A UDP flow without a packet for so long is over; most are one DNS query each. conntrack gives an
/// unanswered one 30 s.
const UDP_IDLE: Duration = Duration::from_secs(20);
/// The same in a namespace that has three quarters of its share of the table: others are not to
/// have less for it.
const UDP_IDLE_CROWDED: Duration = Duration::from_secs(5);
/// A handshake that was never completed: SYN retries end after 127 s with Linux' defaults.
const HALF_OPEN: Duration = Duration::from_secs(130);
/// A socket of the node that was closed before its peer answers that: what comes after is handled
/// without the socket, where its cgroup sees nothing of it. A socket that only stopped sending
/// looks the same; a client that did so may still wait for its answer. An orphaned socket is given
/// 60 s by the kernel (`tcp_fin_timeout`).
const HALF_CLOSED: Duration = Duration::from_secs(2);
const HALF_CLOSED_WAITING: Duration = Duration::from_secs(60);
/// Connections idle for hours are kept, but not in a namespace that has nine tenths of its share:
/// then they count as joined midway when they go on.
const TCP_IDLE_CROWDED: Duration = Duration::from_secs(300);

/// A namespace may have so many times the flows that are left free (`bpf/refused.h`).
const SHARE: usize = capture_wire::SHARE_TIMES as usize;

/// Which round is under way, and what is to be let go of in it.
#[derive(Debug)]
pub struct Sampling {
    room: usize,
    /// Namespaces that are gone, with the time, and whether the round under way began after that was known.
    leaving: HashMap<Slot, Leaving>,
    under_way: bool,
    began: Ts,
    /// Of the processor's time, by the round under way.
    spent: Duration,
    next: Ts,
    /// Flows of the round under way that have ended, of which nothing else told.
    untold: usize,
    /// Flows of the round before.
    seen: Flows,
    seeing: Flows,
}

/// How many there were, of each namespace and of all.
#[derive(Debug, Default)]
struct Flows {
    all: usize,
    of: HashMap<Slot, usize>,
}

impl Flows {
    fn of(&self, slot: Slot) -> usize {
        self.of.get(&slot).copied().unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug)]
struct Leaving {
    at: Ts,
    in_round: bool,
    /// Whether flows were read after that was known: what the last ones of it have counted is in there.
    is_read: bool,
}

impl Sampling {
    /// `room` is how many flows the kernel's table holds.
    #[must_use]
    pub fn new(room: usize) -> Sampling {
        Sampling {
            room,
            leaving: HashMap::new(),
            under_way: false,
            began: Ts(0),
            spent: Duration::ZERO,
            next: Ts(0),
            untold: 0,
            seen: Flows::default(),
            seeing: Flows::default(),
        }
    }

    /// Its flows are read once more, and then settled.
    pub fn leaving(&mut self, slot: Slot, at: Ts) {
        self.leaving.insert(slot, Leaving { at, in_round: false, is_read: false });
    }

    /// How long its owner may sleep.
    #[must_use]
    pub fn sleep(&self, longest: Duration) -> Duration {
        if self.under_way { Duration::ZERO } else { longest }
    }

    /// Whether a round is under way, and flows are to be read now; begins one where it is due.
    pub fn begin(&mut self, now: Ts) -> bool {
        if !self.under_way && now >= self.next {
            self.under_way = true;
            self.began = now;
            self.spent = Duration::ZERO;
            self.untold = 0;
            self.seeing = Flows::default();
            self.leaving.values_mut().for_each(|leaving| leaving.in_round = true);
        }
        if self.under_way {
            self.leaving.values_mut().for_each(|leaving| leaving.is_read = true);
        }
        self.under_way
    }

    /// A flow of this namespace was read in this round.
    pub fn saw(&mut self, slot: Slot) {
        self.seeing.all += 1;
        *self.seeing.of.entry(slot).or_default() += 1;
    }

    /// One of them has ended, and nothing else told of it.
    pub fn untold(&mut self) {
        self.untold += 1;
    }

    /// The round under way took so much of the processor's time, too.
    pub fn spent(&mut self, time: Duration) {
        self.spent = self.spent.saturating_add(time);
    }

    /// The round is over; gives back the namespaces that it settled.
    pub fn end(&mut self) -> Vec<(Slot, Ts)> {
        self.under_way = false;
        self.seen = std::mem::take(&mut self.seeing);
        let pause = match self.untold > self.seen.all / MANY_UNTOLD {
            true => ROUND_UNTOLD,
            false => ROUND.max(self.spent.saturating_mul(ROUND_TIMES)),
        };
        self.next = self.began.plus(pause);
        let settled =
            self.leaving.iter().filter(|(_, leaving)| leaving.in_round).map(|(slot, l)| (*slot, l.at)).collect();
        self.leaving.retain(|_, leaving| !leaving.in_round);
        settled
    }

    /// Whether the flow of one of the node's own sockets has ended in a way that could not be seen.
    #[must_use]
    pub fn is_closed_unseen(sample: &Sample, now: Ts) -> bool {
        let waits = sample.role == Role::Client && sample.turns % 2 == 1;
        let longest = if waits { HALF_CLOSED_WAITING } else { HALF_CLOSED };
        sample.key.slot.is_of_node() && sample.half_closed && now.since(sample.at) > longest
    }

    /// Whether our end of it has closed, and its namespace is gone: what the other end says to that
    /// is seen by nobody, and nobody is left to answer.
    #[must_use]
    pub fn is_left_half_closed(&self, sample: &Sample) -> bool {
        sample.half_closed && sample.closed.is_none() && self.is_leaving(sample.key.slot)
    }

    /// Whether the namespace was gone when flows were read last.
    fn is_leaving(&self, slot: Slot) -> bool {
        self.leaving.get(&slot).is_some_and(|leaving| leaving.is_read)
    }

    /// Whether this flow's entry has done its duty.
    #[must_use]
    pub fn is_over(&self, sample: &Sample, now: Ts) -> bool {
        let idle = now.since(sample.at);
        let slot = sample.key.slot;
        self.is_leaving(slot)
            || match sample.key.tuple.transport {
                Transport::Udp => idle > UDP_IDLE || (idle > UDP_IDLE_CROWDED && self.has_of_its_share(slot, 75)),
                Transport::Tcp if !sample.established && idle > HALF_OPEN => true,
                Transport::Tcp => idle > TCP_IDLE_CROWDED && self.has_of_its_share(slot, 90),
            }
    }

    /// Whether the namespace has more than so many parts in a hundred of the flows that it may have.
    fn has_of_its_share(&self, slot: Slot, percent: usize) -> bool {
        let Sampling { room, seen, seeing, .. } = self;
        let left = room.saturating_sub(seen.all.max(seeing.all));
        seen.of(slot).max(seeing.of(slot)) > left * SHARE * percent / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Counters, FlowId, FlowKey};
    use flow_model::{Close, Endpoint, FiveTuple};
    use std::net::Ipv4Addr;

    fn sample(transport: Transport, slot: u32, at: Duration, established: bool) -> Sample {
        let end = |port| Endpoint { ip: Ipv4Addr::LOCALHOST.into(), port };
        let tuple = FiveTuple { transport, local: end(1), remote: end(2) };
        Sample {
            key: FlowKey { slot: Slot(slot), tuple },
            id: FlowId(1),
            at: Ts::default().plus(at),
            role: Role::Client,
            joined_midway: false,
            established,
            counters: Counters::default(),
            turns: 0,
            message: None,
            closed: None,
            half_closed: false,
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_connection_may_idle_for_hours_while_there_is_room() {
        let now = Ts::default().plus(10 * HOUR);
        let mut sampling = Sampling::new(1000);
        let idle = sample(Transport::Tcp, 1, HOUR, true);
        assert!(!sampling.is_over(&idle, now));
        assert!(sampling.is_over(&sample(Transport::Tcp, 1, HOUR, false), now), "half open");
        assert!(sampling.is_over(&sample(Transport::Udp, 1, HOUR, true), now));
        sampling.seen = Flows { all: 950, of: HashMap::from([(Slot(1), 900), (Slot(2), 50)]) };
        assert!(sampling.is_over(&idle, now), "others need the room");
        assert!(!sampling.is_over(&sample(Transport::Tcp, 2, HOUR, true), now), "it has little of it");
    }

    #[test]
    fn who_has_most_of_its_share_keeps_idle_flows_for_less_long() {
        let now = Ts::default().plus(10 * HOUR);
        let mut sampling = Sampling::new(1000);
        let mut round = now;
        let before = |seconds| 10 * HOUR - Duration::from_secs(seconds);
        // Alone a namespace may have 750 of 1000.
        for (flows, udp, tcp) in [(690, false, false), (700, true, false), (735, true, true), (750, true, true)] {
            round = round.plus(HOUR);
            assert!(sampling.begin(round));
            (0..flows).for_each(|_| sampling.saw(Slot(1)));
            assert_eq!(sampling.is_over(&sample(Transport::Udp, 1, before(6), true), now), udp, "{flows}");
            assert_eq!(sampling.is_over(&sample(Transport::Tcp, 1, before(301), true), now), tcp, "{flows}");
            assert!(!sampling.is_over(&sample(Transport::Udp, 1, before(5), true), now));
            assert!(!sampling.is_over(&sample(Transport::Tcp, 1, before(299), true), now));
            assert!(!sampling.is_over(&sample(Transport::Udp, 2, before(6), true), now), "another has few");
            assert!(sampling.is_over(&sample(Transport::Udp, 2, before(21), true), now));
            sampling.end();
        }
    }

    #[test]
    fn a_socket_of_the_node_that_closed_first_is_closed_though_the_answer_is_not_seen() {
        let now = Ts::default().plus(10 * HOUR);
        let idle = |slot, seconds, turns| Sample {
            half_closed: true,
            turns,
            ..sample(Transport::Tcp, slot, 10 * HOUR - Duration::from_secs(seconds), true)
        };
        let node = Slot::FIRST_OF_NODE.0;
        assert!(Sampling::is_closed_unseen(&idle(node, 3, 2), now));
        assert!(!Sampling::is_closed_unseen(&idle(node, 1, 2), now), "the answer may be on its way");
        assert!(!Sampling::is_closed_unseen(&idle(node, 3, 1), now), "a client that waits for its response");
        assert!(Sampling::is_closed_unseen(&idle(node, 61, 1), now));
        assert!(!Sampling::is_closed_unseen(&idle(1, 3, 2), now), "at a pod's interface the answer is seen");
    }

    #[test]
    fn what_its_own_end_closed_is_over_once_its_namespace_is_gone() {
        let now = Ts::default().plus(HOUR);
        let half = Sample { half_closed: true, ..sample(Transport::Tcp, 1, HOUR, true) };
        let mut sampling = Sampling::new(1000);
        assert!(!sampling.is_left_half_closed(&half), "its peer may still say something");
        sampling.leaving(Slot(1), now);
        assert!(!sampling.is_left_half_closed(&half), "it was read before its namespace was gone");
        assert!(sampling.begin(now));
        assert!(sampling.is_left_half_closed(&half));
        assert!(!sampling.is_left_half_closed(&Sample { closed: Some(Close::Fin), ..half }), "it is told");
        assert!(!sampling.is_left_half_closed(&sample(Transport::Tcp, 1, HOUR, true)), "who closed it is not known");
        assert!(!sampling.is_left_half_closed(&Sample { half_closed: true, ..sample(Transport::Tcp, 2, HOUR, true) }));
    }

    #[test]
    fn a_namespace_is_settled_by_a_whole_round_that_began_after_it_left() {
        let second = |n| Ts::default().plus(Duration::from_secs(n));
        let mut sampling = Sampling::new(1000);
        assert!(sampling.begin(second(10)));
        sampling.leaving(Slot(1), second(10));
        let open = sample(Transport::Tcp, 1, Duration::from_secs(10), true);
        assert!(!sampling.is_over(&open, second(10)), "what it has sent since is in no counter yet");
        assert!(sampling.begin(second(10)), "the same round");
        assert!(sampling.is_over(&open, second(10)));
        assert_eq!(sampling.end(), [], "some of its flows may have been read before");
        assert!(!sampling.begin(second(10)), "a second between rounds");
        assert!(sampling.begin(second(11)));
        assert_eq!(sampling.end(), [(Slot(1), second(10))]);
        assert!(sampling.begin(second(12)));
        assert_eq!(sampling.end(), []);
    }

    #[test]
    fn rounds_take_one_part_in_a_hundred() {
        let mut sampling = Sampling::new(1000);
        assert!(sampling.begin(Ts(0)));
        sampling.spent(Duration::from_millis(150));
        sampling.spent(Duration::from_millis(50));
        sampling.end();
        assert!(!sampling.begin(Ts::default().plus(Duration::from_secs(19))));
        assert!(sampling.begin(Ts::default().plus(Duration::from_secs(20))));
    }

    #[test]
    fn many_ends_that_nothing_else_tells_of_are_looked_for_soon() {
        let mut sampling = Sampling::new(1000);
        for (untold, pause) in [(100, ROUND_UNTOLD), (60, Duration::from_secs(20)), (0, Duration::from_secs(20))] {
            let began = sampling.next;
            assert!(sampling.begin(began));
            (0..1000).for_each(|_| sampling.saw(Slot(1)));
            (0..untold).for_each(|_| sampling.untold());
            sampling.spent(Duration::from_millis(200));
            sampling.end();
            assert_eq!(sampling.next, began.plus(pause), "{untold}");
        }
    }
}
