//! The agent's end of a stream to one replica of the companion: when to dial, what to send, when to
//! give up. Told the time; its caller has the connection.
//!
//! At most one push is under way. What changes meanwhile goes with the next one, so a companion that
//! is slow or away makes nothing grow here.

use crate::counts::PushCounts;
use crate::hello::Me;
use crate::jitter::Jitter;
use crate::limits::{LONGEST_WAIT, MISSING, PATIENCE, PERIOD, PERIODS, REPLICAS, SOON, SPREAD};
use crate::message::{Ack, Answers, Bye, FromAgent, FromCompanion, Part, Period, Resync, Says, Welcome};
use crate::refusal::{Reason, Refusal};
use crate::source::Source;
use crate::token::TokenHash;
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// What the caller is to do. Times are since some moment that the caller has chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Connect, then say so by `connected`, or by `cut`.
    Dial,
    /// Send this, once the stream takes it; then ask for the next action.
    Send(FromAgent),
    /// Let go of the connection. The link dials again by itself.
    Hang(Cut),
}

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Broken(String),
    /// Nothing came in time.
    #[error("the companion does not answer")]
    Silent,
    /// The companion does not take it.
    #[error("the companion refuses: {0}")]
    Refused(#[from] Refusal),
}

#[derive(Debug)]
enum State {
    Waiting { until: Duration },
    Dialing { until: Duration },
    Greeting { said: bool, until: Duration },
    Open(Open),
}

#[derive(Debug)]
struct Open {
    /// Generation that the companion has; 0: nothing.
    held: u64,
    /// Version of the findings that this stream was told; 0: none.
    told: u64,
    /// Of the push under way, with the time by which it must be answered.
    under_way: Option<(u64, Duration)>,
    parts: VecDeque<Part>,
    next: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    me: Me,
    node: String,
    state: State,
    /// Attempts since a push was last answered.
    attempts: u32,
    period: Duration,
    jitter: Jitter,
    /// Why the stream is not open.
    cut: Option<Cut>,
    companion: Option<(u64, String)>,
    /// Of other replicas, as the companion told last.
    replicas: Vec<SocketAddr>,
    tells_names: bool,
    takes_findings: bool,
    /// Hash of the credential that the greeting asks for.
    asks: Option<TokenHash>,
    /// The companion keeps it.
    has_credential: bool,
    refused: u64,
    counts: PushCounts,
}

impl Link {
    /// For a node. The first attempt is made at once; `seed` spreads the others.
    #[must_use]
    pub fn new(me: Me, node: impl Into<String>, seed: u64) -> Link {
        Link {
            me,
            node: node.into(),
            state: State::Waiting { until: Duration::ZERO },
            attempts: 0,
            period: PERIOD,
            jitter: Jitter::seeded(seed),
            cut: None,
            companion: None,
            replicas: Vec::new(),
            tells_names: false,
            takes_findings: false,
            asks: None,
            has_credential: false,
            refused: 0,
            counts: PushCounts::default(),
        }
    }

    /// With another connection, and another ticket: times begin anew, and the first attempt is made
    /// at once.
    pub fn restart(&mut self) {
        self.counts.cut += u64::from(self.is_under_way());
        self.attempts = 0;
        self.state = State::Waiting { until: Duration::ZERO };
    }

    fn is_under_way(&self) -> bool {
        matches!(&self.state, State::Open(Open { under_way: Some(_), .. }))
    }

    /// What became of pushes.
    #[must_use]
    pub fn counts(&self) -> PushCounts {
        self.counts
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self, now: Duration, source: &Source) -> Option<Action> {
        match &mut self.state {
            State::Waiting { until } if now >= *until => {
                self.state = State::Dialing { until: now + PATIENCE };
                self.counts.dials += 1;
                return Some(Action::Dial);
            }
            State::Greeting { said, .. } if !*said => {
                *said = true;
                let mut hello = self.me.hello(self.node.clone());
                hello.credential = self.asks.map(|hash| Bytes::copy_from_slice(&hash.bytes())).unwrap_or_default();
                return Some(Action::Send(Says::Hello(hello).into()));
            }
            State::Dialing { until } | State::Greeting { until, .. } if now >= *until => {}
            State::Open(open) => match open.under_way {
                Some((_, until)) if now >= until => {}
                Some(_) => return open.parts.pop_front().map(|part| Action::Send(Says::Part(part).into())),
                // A push of nothing would say that all series ended.
                None if now >= open.next && source.generation() == 0 => {
                    open.next = now + PERIODS.0;
                    return None;
                }
                None if now >= open.next => {
                    open.parts = source.push(open.held);
                    let patience = (self.period * MISSING).max(PATIENCE);
                    open.under_way = Some((source.generation(), now + patience));
                    self.counts.begun += 1;
                    // A tenth to each side, so that agents that began together do not stay together.
                    open.next = now + self.period.mul_f64(0.9 + 0.2 * self.jitter.draw());
                    // They go before the parts: a stream that does not take them is cut with its push.
                    if self.takes_findings && source.findings().version() != open.told {
                        open.told = source.findings().version();
                        return Some(Action::Send(Says::Findings(source.findings().message()).into()));
                    }
                    return open.parts.pop_front().map(|part| Action::Send(Says::Part(part).into()));
                }
                None => return None,
            },
            State::Waiting { .. } | State::Dialing { .. } | State::Greeting { .. } => return None,
        }
        self.wait(now, Cut::Silent);
        Some(Action::Hang(Cut::Silent))
    }

    /// When to ask `poll` again at the latest, once it has nothing to do. It is to be asked after each
    /// message that was sent or came, too.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        match &self.state {
            State::Waiting { until } | State::Dialing { until } => *until,
            State::Greeting { said, until } => {
                if *said {
                    *until
                } else {
                    Duration::ZERO
                }
            }
            State::Open(open) => match open.under_way {
                Some((_, until)) => until,
                None => open.next,
            },
        }
    }

    /// The connection that was asked for is there.
    pub fn connected(&mut self, now: Duration) {
        if matches!(self.state, State::Dialing { .. }) {
            self.state = State::Greeting { said: false, until: now + PATIENCE };
        }
    }

    /// The next greeting asks that this hash be kept.
    pub fn ask(&mut self, credential: Option<TokenHash>) {
        self.asks = credential;
    }

    /// The hash that greetings ask for.
    #[must_use]
    pub fn asked(&self) -> Option<TokenHash> {
        self.asks
    }

    /// The next attempt shows something else, so it is made soon, whatever the last one came to.
    pub fn hurry(&mut self, now: Duration) {
        let share = self.jitter.draw();
        if let State::Waiting { until } = &mut self.state {
            *until = (*until).min(now + SOON.mul_f64(share));
        }
    }

    /// The connection could not be made, or broke.
    pub fn cut(&mut self, now: Duration, why: Cut) {
        if !matches!(self.state, State::Waiting { .. }) {
            self.wait(now, why);
        }
    }

    /// What the companion says. Returns what to do about it, if anything.
    pub fn received(&mut self, now: Duration, message: FromCompanion) -> Option<Action> {
        // Of another version: it has agreed to one that does without.
        let answer = message.answers?;
        match (&mut self.state, answer) {
            // Whoever keeps names has them.
            (State::Open(_), Answers::Shard(_) | Answers::Delta(_) | Answers::Again(_)) => None,
            // What was on its way when the stream was given up.
            (State::Waiting { .. } | State::Dialing { .. }, _) => None,
            (_, Answers::Period(Period { period_ms })) => {
                self.set_period(period_ms);
                // A shorter one counts from now on, not after a longer one has passed.
                if let State::Open(open) = &mut self.state {
                    open.next = open.next.min(now + self.period);
                }
                None
            }
            (State::Greeting { .. }, Answers::Welcome(welcome)) => self.welcome(now, welcome),
            (State::Open(open), Answers::Ack(Ack { generation, refused, replicas })) => match open.under_way {
                Some((under_way, _)) if under_way == generation && open.parts.is_empty() => {
                    open.under_way = None;
                    open.held = generation;
                    self.refused = refused;
                    self.replicas = addresses(&replicas);
                    self.counts.answered += 1;
                    self.attempts = 0;
                    self.cut = None;
                    None
                }
                _ => self.hang(now, Refusal::new(Reason::Protocol, "it answers to a push that is none")),
            },
            (State::Open(open), Answers::Resync(Resync {})) => {
                // With the next push, not at once: a companion that always asks gets one a period.
                self.counts.resyncs += u64::from(open.under_way.take().is_some());
                open.held = 0;
                open.parts.clear();
                None
            }
            (State::Greeting { .. } | State::Open(_), _) => {
                self.hang(now, Refusal::new(Reason::Protocol, "it does not say what the protocol has"))
            }
        }
    }

    fn welcome(&mut self, now: Duration, welcome: Welcome) -> Option<Action> {
        let Welcome { protocol, version, instance, generation, period_ms, replicas, names, credential, findings } =
            welcome;
        let (oldest, newest) = self.me.protocols;
        if !(oldest..=newest).contains(&protocol) {
            let text = format!(
                "companion {version} answers in protocol {protocol}, agent {} speaks {oldest} to {newest}: upgrade one of them",
                self.me.version,
            );
            return self.hang(now, Refusal::new(Reason::Version, text));
        }
        if instance == self.me.instance {
            return self.hang(now, Refusal::new(Reason::Loop, "the companion is this agent"));
        }
        self.companion = Some((instance, version));
        self.replicas = addresses(&replicas);
        self.tells_names = names;
        self.takes_findings = findings;
        self.has_credential = credential;
        self.set_period(period_ms);
        self.state =
            State::Open(Open { held: generation, told: 0, under_way: None, parts: VecDeque::new(), next: now });
        None
    }

    fn set_period(&mut self, period_ms: u32) {
        let (shortest, longest) = PERIODS;
        self.period = match period_ms {
            0 => PERIOD,
            asked => Duration::from_millis(asked.into()).clamp(shortest, longest),
        };
    }

    fn hang(&mut self, now: Duration, refusal: Refusal) -> Option<Action> {
        let cut = Cut::Refused(refusal);
        self.wait(now, cut.clone());
        Some(Action::Hang(cut))
    }

    /// Somewhere in a span that doubles ("full jitter"): those that were cut together come back apart.
    fn wait(&mut self, now: Duration, why: Cut) {
        let span = SPREAD.saturating_mul(1 << self.attempts.min(8)).min(LONGEST_WAIT);
        let for_people = matches!(&why, Cut::Refused(refusal) if refusal.reason.is_for_people());
        let share = self.jitter.draw();
        // Nothing changes before somebody has done something.
        let wait = if for_people { LONGEST_WAIT.mul_f64(0.5 + share / 2.0) } else { span.mul_f64(share) };
        self.attempts = self.attempts.saturating_add(1);
        self.counts.cut += u64::from(self.is_under_way());
        self.counts.refused += u64::from(matches!(why, Cut::Refused(_)));
        self.cut = Some(why);
        self.state = State::Waiting { until: now + wait };
    }

    /// What to send before the agent ends. `None` where the stream is not open.
    #[must_use]
    pub fn bye(&self, code: u8, text: impl Into<String>) -> Option<FromAgent> {
        let is_open = matches!(self.state, State::Open(_));
        is_open.then(|| Says::Bye(Bye { code: code.into(), text: text.into() }).into())
    }

    /// Whether the next `poll` makes a push: then it is time to refresh the source.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        matches!(&self.state, State::Open(open) if open.under_way.is_none() && now >= open.next)
    }

    /// Whether pushes are taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Generation that the companion has, where the stream is open.
    #[must_use]
    pub fn held(&self) -> Option<u64> {
        if let State::Open(open) = &self.state { Some(open.held) } else { None }
    }

    /// Why pushes are not taken, or were not until the latest answer.
    #[must_use]
    pub fn why(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// Instance and version of the companion that answered last.
    #[must_use]
    pub fn companion(&self) -> Option<(u64, &str)> {
        self.companion.as_ref().map(|(instance, version)| (*instance, &**version))
    }

    /// Where other replicas are, as the companion told last.
    #[must_use]
    pub fn replicas(&self) -> &[SocketAddr] {
        &self.replicas
    }

    /// Whether findings go up the stream.
    #[must_use]
    pub fn takes_findings(&self) -> bool {
        self.is_open() && self.takes_findings
    }

    /// Whether names come down the stream, if they are asked for.
    #[must_use]
    pub fn tells_names(&self) -> bool {
        self.is_open() && self.tells_names
    }

    /// Whether the node joins by a credential of its own.
    #[must_use]
    pub fn has_credential(&self) -> bool {
        self.is_open() && self.has_credential
    }

    /// Values that the companion has not taken for want of room, as it says.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// What is no address is of another version.
fn addresses(told: &[String]) -> Vec<SocketAddr> {
    told.iter().filter_map(|address| address.parse().ok()).take(REPLICAS).collect()
}
