//! Exchanges folded by operation: pure, bounded, and with what no longer fits counted.

use agent_api::{Party, TapExchange, TapLoss};
use std::collections::{BTreeMap, HashMap};

/// Operations that are told apart: some 2 MB. A screen has room for fifty.
const MOST: usize = 4096;
/// Those that stay when there were more: making room is rare then.
const KEPT: usize = MOST / 4 * 3;

/// Reasons of losses that are told apart.
const MOST_REASONS: usize = 16;

/// What is one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub src: Party,
    pub dst: Party,
    pub protocol: String,
    pub operation: String,
    /// HTTP's route, where it is known, not its path.
    pub target: String,
}

/// What was seen of an operation from one end. Times are those of answers, as in golden metrics:
/// of what nobody answered, or was to wait, there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub count: u64,
    pub failed: u64,
    /// Nanoseconds; `None` before the first.
    pub best: Option<u64>,
    pub worst: Option<u64>,
    pub last: Option<u64>,
    /// Place of its latest exchange among all.
    touched: u64,
}

/// By the end that saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    client: Sum,
    server: Sum,
}

#[derive(Debug, Default)]
pub(super) struct Operations {
    rows: HashMap<Key, Row>,
    /// Exchanges that were told, each as often as it was seen.
    told: u64,
    /// Operations, and their exchanges, that had to make room.
    pub gone: u64,
    pub gone_exchanges: u64,
    /// By the tap's word for the reason.
    pub lost: BTreeMap<String, u64>,
}

impl Row {
    /// What the server saw where it was seen there, as `pilotfish edges` has it: the client's end of the
    /// same exchanges would count them again.
    fn shown(&self) -> &Sum {
        if self.server.count > 0 { &self.server } else { &self.client }
    }

    fn touched(&self) -> u64 {
        self.client.touched.max(self.server.touched)
    }
}

impl Sum {
    fn add(&mut self, exchange: &TapExchange, told: u64) {
        let TapExchange { duration_ns, outcome, failed, notes, .. } = exchange;
        self.count += 1;
        self.failed += u64::from(*failed);
        self.touched = told;
        let is_time = outcome == "answered" && !notes.iter().any(|note| note == "waited");
        let Some(took) = duration_ns.filter(|_| is_time) else { return };
        self.best = Some(self.best.map_or(took, |best| best.min(took)));
        self.worst = Some(self.worst.map_or(took, |worst| worst.max(took)));
        self.last = Some(took);
    }

    /// Share that did not fail.
    pub fn success(&self) -> Option<f64> {
        (self.count > 0).then(|| self.count.saturating_sub(self.failed) as f64 / self.count as f64)
    }
}

impl Operations {
    pub fn exchange(&mut self, exchange: TapExchange) {
        self.told += 1;
        let told = self.told;
        let is_server = exchange.reporter == "server";
        let sum = |row: &mut Row, exchange: &TapExchange| {
            if is_server { row.server.add(exchange, told) } else { row.client.add(exchange, told) }
        };
        let key = Key {
            src: exchange.src.clone(),
            dst: exchange.dst.clone(),
            protocol: exchange.protocol.clone(),
            operation: exchange.operation.clone(),
            target: if exchange.route.is_empty() { &exchange.target } else { &exchange.route }.clone(),
        };
        if let Some(row) = self.rows.get_mut(&key) {
            return sum(row, &exchange);
        }
        if self.rows.len() >= MOST {
            self.make_room();
        }
        sum(self.rows.entry(key).or_default(), &exchange);
    }

    pub fn lost(&mut self, TapLoss { reason, count }: TapLoss) {
        // The agent has six.
        let reason =
            if self.lost.len() < MOST_REASONS || self.lost.contains_key(&reason) { reason } else { "other".into() };
        let lost = self.lost.entry(reason).or_default();
        *lost = lost.saturating_add(count);
    }

    /// Those go that were asked for least lately.
    fn make_room(&mut self) {
        let mut touched: Vec<u64> = self.rows.values().map(Row::touched).collect();
        let first = touched.len().saturating_sub(KEPT);
        let (_, oldest_kept, _) = touched.select_nth_unstable(first);
        let oldest_kept = *oldest_kept;
        let Operations { rows, gone, gone_exchanges, .. } = self;
        rows.retain(|_, row| {
            let stays = row.touched() >= oldest_kept;
            if !stays {
                *gone += 1;
                *gone_exchanges += row.shown().count;
            }
            stays
        });
    }

    /// Each operation with what is shown of it, in no order.
    pub fn rows(&self) -> impl Iterator<Item = (&Key, &Sum)> {
        self.rows.iter().map(|(key, row)| (key, row.shown()))
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Of all operations, those included that had to make room.
    pub fn exchanges(&self) -> u64 {
        self.gone_exchanges + self.rows().map(|(_, sum)| sum.count).sum::<u64>()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn exchange(reporter: &str, target: &str, took: Option<u64>, failed: bool) -> TapExchange {
        let party = |name: &str| Party { name: name.into(), namespace: "shop".into(), kind: "Deployment".into() };
        TapExchange {
            src: party("web"),
            dst: party("api"),
            reporter: reporter.into(),
            protocol: "http1".into(),
            operation: "GET".into(),
            target: target.into(),
            outcome: if took.is_some() { "answered" } else { "unanswered" }.into(),
            duration_ns: Some(took.unwrap_or(9_999_999)),
            failed,
            ..TapExchange::default()
        }
    }

    fn one(operations: &Operations) -> Sum {
        let all: Vec<&Sum> = operations.rows().map(|(_, sum)| sum).collect();
        assert_eq!(all.len(), 1);
        *all[0]
    }

    #[test]
    fn an_operation_has_its_best_worst_and_last_time() {
        let mut operations = Operations::default();
        for (took, failed) in [(Some(30), false), (Some(10), true), (Some(20), false), (None, true)] {
            operations.exchange(exchange("server", "/", took, failed));
        }
        let sum = one(&operations);
        assert_eq!((sum.count, sum.failed, sum.best, sum.worst, sum.last), (4, 2, Some(10), Some(30), Some(20)));
        assert_eq!(sum.success(), Some(0.5));
    }

    #[test]
    fn who_was_asked_to_wait_is_not_slow() {
        let mut operations = Operations::default();
        let waited = TapExchange { notes: vec!["waited".into()], ..exchange("server", "/", Some(50), false) };
        operations.exchange(waited);
        operations.exchange(TapExchange { duration_ns: None, ..exchange("server", "/", Some(0), false) });
        let sum = one(&operations);
        assert_eq!((sum.count, sum.best, sum.last, sum.success()), (2, None, None, Some(1.0)));
    }

    #[test]
    fn what_both_ends_saw_is_counted_once() {
        let mut operations = Operations::default();
        for reporter in ["client", "server", "client", "server", "client"] {
            operations.exchange(exchange(reporter, "/both", Some(1), false));
        }
        operations.exchange(exchange("client", "/outside", Some(1), false));
        assert_eq!((operations.len(), operations.exchanges()), (2, 3));
    }

    #[test]
    fn paths_of_one_route_are_one_operation() {
        let mut operations = Operations::default();
        for path in ["/users/1", "/users/2"] {
            let asked = exchange("server", path, Some(1), false);
            operations.exchange(TapExchange { route: "/users/{id}".into(), ..asked });
        }
        assert_eq!(
            operations.rows().map(|(key, sum)| (&*key.target, sum.count)).collect::<Vec<_>>(),
            [("/users/{id}", 2)]
        );
    }

    #[test]
    fn operations_that_were_not_asked_for_lately_make_room_and_are_counted() {
        let mut operations = Operations::default();
        for number in 0..MOST {
            operations.exchange(exchange("server", &format!("/{number}"), Some(1), false));
        }
        operations.exchange(exchange("server", "/0", Some(1), false));
        operations.exchange(exchange("server", "/new", Some(1), false));
        assert_eq!(operations.len(), KEPT + 1);
        let has = |target: &str| operations.rows().any(|(key, _)| key.target == target);
        assert!(has("/0") && has("/new") && !has("/1") && has(&format!("/{}", MOST - 1)));
        assert_eq!((operations.gone, operations.gone_exchanges), ((MOST - KEPT) as u64, (MOST - KEPT) as u64));
        assert_eq!(operations.exchanges(), MOST as u64 + 2);
    }

    fn exchanges() -> impl Strategy<Value = Vec<TapExchange>> {
        let one = (any::<bool>(), 0_u32..6, prop::option::of(0_u64..1_000), any::<bool>());
        let one = one.prop_map(|(server, target, took, failed)| {
            exchange(if server { "server" } else { "client" }, &format!("/{target}"), took, failed)
        });
        prop::collection::vec(one, 0..200)
    }

    proptest! {
        /// Each row is what a fold over all exchanges of its operation at its end makes.
        #[test]
        fn a_row_is_the_fold_of_its_exchanges(all in exchanges()) {
            let mut operations = Operations::default();
            all.iter().cloned().for_each(|exchange| operations.exchange(exchange));
            for (key, sum) in operations.rows() {
                let of = |reporter: &str| {
                    let is_it = |one: &&TapExchange| one.target == key.target && one.reporter == reporter;
                    all.iter().filter(is_it).collect::<Vec<_>>()
                };
                let server = of("server");
                let its = if server.is_empty() { of("client") } else { server };
                let times: Vec<u64> =
                    its.iter().filter(|one| one.outcome == "answered").filter_map(|one| one.duration_ns).collect();
                prop_assert_eq!(sum.count, its.len() as u64);
                prop_assert_eq!(sum.failed, its.iter().filter(|one| one.failed).count() as u64);
                prop_assert_eq!(sum.best, times.iter().min().copied());
                prop_assert_eq!(sum.worst, times.iter().max().copied());
                prop_assert_eq!(sum.last, times.last().copied());
            }
            let targets: std::collections::BTreeSet<&str> = all.iter().map(|one| one.target.as_str()).collect();
            prop_assert_eq!(operations.len(), targets.len());
        }

        #[test]
        fn nothing_is_forgotten_uncounted_and_the_table_is_bounded(targets in prop::collection::vec(0_u32..20_000, 0..12_000)) {
            let mut operations = Operations::default();
            for target in &targets {
                operations.exchange(exchange("server", &target.to_string(), Some(1), false));
                prop_assert!(operations.len() <= MOST);
            }
            prop_assert_eq!(operations.exchanges(), targets.len() as u64);
        }
    }
}
