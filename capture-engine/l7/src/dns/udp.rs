use super::{Exchanges, looks_like_message};
use crate::{Interest, Limits, Out, Wire};
use flow_model::{Direction, LossReason, Role, Ts};

const DNS_PORT: u16 = 53;
/// Services whose messages have DNS's form and not its meaning: NetBIOS names and datagrams, multicast DNS, LLMNR.
const LOOKALIKE_PORTS: [u16; 4] = [137, 138, 5353, 5355];

/// Datagrams that may be something else before the flow is left alone: junk comes first at times,
/// and on port 53 a tunnel may run.
const PATIENCE: u32 = 8;
/// The same once DNS was seen on the flow.
const PATIENCE_WITH_DNS: u32 = 64;

/// Captured payload of one UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// As the local end sees it.
    pub dir: Direction,
    /// When it passed the interface.
    pub at: Ts,
    /// The datagram's number in its flow, both directions in one sequence, from 1; what is skipped
    /// was not captured. 0 where unknown.
    pub turn: u32,
    /// Payload bytes on the wire; more than `payload.len()` when the rest was not copied.
    pub wire_len: u32,
    /// The first bytes of the payload, without the UDP header.
    pub payload: &'a [u8],
}

/// One UDP flow that may be DNS. Told by the bytes; port 53 at either end only lowers what is asked
/// of them, and does not say who is the client: the way of the queries does.
#[derive(Debug)]
pub struct Udp {
    exchanges: Exchanges,
    state: State,
    on_dns_port: bool,
    left_out: bool,
    strangers: u32,
    turn: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Undecided,
    Dns,
    Other,
}

impl Udp {
    /// A flow between these ports. What speaks on a port of DNS's lookalikes (NetBIOS, multicast
    /// DNS, LLMNR) is left alone from the start.
    #[must_use]
    pub fn new(limits: &Limits, local_port: u16, remote_port: u16) -> Udp {
        let lookalike = |port| LOOKALIKE_PORTS.contains(&port);
        let is_read = limits.wires.contains(Wire::Dns);
        let alone = !is_read || lookalike(local_port) || lookalike(remote_port);
        let on_dns_port = local_port == DNS_PORT || remote_port == DNS_PORT;
        Udp {
            exchanges: Exchanges::new(limits),
            state: if alone { State::Other } else { State::Undecided },
            on_dns_port,
            left_out: on_dns_port && !is_read,
            strangers: 0,
            turn: 0,
        }
    }

    /// Takes the next datagram, in the order in which they were observed.
    pub fn datagram(&mut self, datagram: Datagram<'_>, out: &mut impl Out) {
        let Datagram { dir, at, turn, wire_len, payload } = datagram;
        let skipped = turn.wrapping_sub(self.turn).wrapping_sub(1);
        let first = self.turn == 0;
        // A number from before is a datagram out of order: nothing was skipped.
        if turn != 0 && (first || skipped < u32::MAX / 2) {
            self.turn = turn;
            // Before the first one seen, whether the missing were DNS can only be told by the ones that came.
            let missed = if first { turn - 1 } else { skipped };
            if self.state != State::Other && (!first || self.on_dns_port) {
                self.exchanges.missed(u64::from(missed), LossReason::RingFull, at);
            }
        }
        if self.state == State::Other {
            return;
        }
        let wire_len = wire_len as usize;
        let candidate = self.state == State::Dns || self.on_dns_port || looks_like_message(payload);
        if candidate && self.exchanges.captured(dir, at, false, wire_len, payload, out) {
            self.state = State::Dns;
            self.strangers = 0;
            return;
        }
        self.strangers += 1;
        let patience = if self.state == State::Dns { PATIENCE_WITH_DNS } else { PATIENCE };
        if self.strangers >= patience {
            self.leave(at, out);
        }
    }

    /// DNS away from port 53 has to be asked for.
    #[must_use]
    pub fn interest(&self) -> Interest {
        match self.state {
            State::Undecided => Interest::Heads,
            State::Dns => Interest::Everything,
            State::Other => Interest::Nothing,
        }
    }

    /// Whether DNS was seen, and the flow was not left alone since.
    #[must_use]
    pub fn recognised(&self) -> bool {
        self.state == State::Dns
    }

    /// Whether it is to port 53, and DNS is not to be read ([`Limits::wires`]).
    #[must_use]
    pub fn is_left_out(&self) -> bool {
        self.left_out
    }

    /// What the local end is, by the way that queries and responses went.
    #[must_use]
    pub fn role(&self) -> Role {
        self.exchanges.role()
    }

    /// The flow has had `turns` datagrams so far: what was not handed in was not captured.
    pub fn sampled(&mut self, turns: u32, at: Ts) {
        if self.state == State::Dns && turns > self.turn {
            self.exchanges.missed(u64::from(turns - self.turn), LossReason::RingFull, at);
            self.turn = turns;
        }
    }

    /// When [`expire`](Self::expire) has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Ts> {
        if self.state == State::Dns { self.exchanges.next_deadline() } else { None }
    }

    /// Gives up on queries that have waited for [`ANSWER_TIMEOUT`](super::ANSWER_TIMEOUT) at `now`.
    pub fn expire(&mut self, now: Ts, out: &mut impl Out) {
        if self.state == State::Dns {
            self.exchanges.expire(now, out);
        }
    }

    /// Bytes that it holds on to.
    #[must_use]
    pub fn held(&self) -> usize {
        self.exchanges.held()
    }

    /// Lets go of what is held: lookups that wait for their answers are lost to a limit.
    pub fn shed(&mut self, out: &mut impl Out) {
        self.exchanges.shed(out);
    }

    /// The flow is over. What is handed in afterwards is not read.
    pub fn closed(&mut self, at: Ts, out: &mut impl Out) {
        self.leave(at, out);
    }

    fn leave(&mut self, at: Ts, out: &mut impl Out) {
        if self.state == State::Dns {
            self.exchanges.closed(at, out);
        }
        self.state = State::Other;
    }
}
