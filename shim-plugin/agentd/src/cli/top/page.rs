//! One picture of the operations: Linkerd's columns of `top`, with the protocol before them.

use super::table::{Key, Operations, Sum};
use crate::cli::args::Sort;
use crate::cli::moment::{clock_time, rfc3339_millis};
use crate::cli::table::{Align, latency, share, table};
use crate::cli::tap;
use agent_api::{Party, TapLoss};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Characters of a path or a name that is looked up: the columns behind it stay in sight.
const TARGET: usize = 60;

/// What is shown at one moment; in JSON, an object.
#[derive(Debug, Serialize)]
pub(super) struct Picture {
    at: String,
    #[serde(skip)]
    clock: String,
    /// All that were told since the beginning, each once.
    exchanges: u64,
    /// All of them, shown or not.
    operations: u64,
    /// That had to make room for others, and are no longer told apart.
    operations_gone: u64,
    exchanges_gone: u64,
    /// By reason.
    lost: BTreeMap<String, u64>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    src: Party,
    dst: Party,
    protocol: String,
    operation: String,
    target: String,
    count: u64,
    failed: u64,
    best_ns: Option<u64>,
    worst_ns: Option<u64>,
    last_ns: Option<u64>,
    success: Option<f64>,
}

impl Picture {
    pub fn of(operations: &Operations, sort: Sort, most: usize, now: SystemTime) -> Picture {
        let mut rows: Vec<(&Key, &Sum)> = operations.rows().collect();
        // By name where nothing else tells them apart, so that rows do not dance.
        rows.sort_by_cached_key(|(key, sum)| {
            let (count, failed, worst) = (Reverse(sum.count), Reverse(sum.failed), Reverse(sum.worst));
            let order = match sort {
                Sort::Busiest => (count.0, failed.0, worst.0.unwrap_or(0)),
                Sort::Slowest => (worst.0.unwrap_or(0), count.0, failed.0),
                Sort::Failing => (failed.0, count.0, worst.0.unwrap_or(0)),
            };
            (Reverse(order), (*key).clone())
        });
        Picture {
            at: rfc3339_millis(now),
            clock: clock_time(now),
            exchanges: operations.exchanges(),
            operations: operations.len() as u64,
            operations_gone: operations.gone,
            exchanges_gone: operations.gone_exchanges,
            lost: operations.lost.clone(),
            rows: rows.into_iter().take(most).map(|(key, sum)| Row::new(key, sum)).collect(),
        }
    }

    /// For people: a line that sums it up, and the table.
    pub fn page(&self) -> String {
        let Picture { clock, exchanges, operations, operations_gone, exchanges_gone, lost, rows, .. } = self;
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let mut head = format!(
            "{clock}  {exchanges} exchange{}, {operations} operation{}",
            plural(*exchanges),
            plural(*operations)
        );
        if *operations_gone > 0 {
            head.push_str(&format!("; {exchanges_gone} exchanges of {operations_gone} more operations"));
        }
        for (reason, count) in lost {
            head.push_str(&format!("; {}", tap::lost(&TapLoss { reason: reason.clone(), count: *count })));
        }
        if rows.is_empty() {
            return format!("{head}\nNothing was seen yet.\n");
        }
        let left = ["SRC", "DST", "PROTOCOL", "METHOD", "PATH"].map(|title| (title, Align::Left));
        let right = ["COUNT", "BEST", "WORST", "LAST", "SUCCESS"].map(|title| (title, Align::Right));
        let columns = [&left[..], &right[..]].concat();
        format!("{head}\n{}", table(&columns, &rows.iter().map(Row::cells).collect::<Vec<_>>()))
    }
}

impl Row {
    fn new(key: &Key, sum: &Sum) -> Row {
        let Key { src, dst, protocol, operation, target } = key.clone();
        let Sum { count, failed, best, worst, last, .. } = *sum;
        let success = sum.success();
        Row {
            src,
            dst,
            protocol,
            operation,
            target,
            count,
            failed,
            best_ns: best,
            worst_ns: worst,
            last_ns: last,
            success,
        }
    }

    fn cells(&self) -> Vec<String> {
        let Row { src, dst, protocol, operation, target, count, failed: _, best_ns, worst_ns, last_ns, success } = self;
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let target = match target.char_indices().nth(TARGET) {
            Some((end, _)) => format!("{}..", target.get(..end).unwrap_or_default()),
            None => or_dash(target),
        };
        let mut cells = vec![name(src), name(dst), protocol.clone(), or_dash(operation), target, count.to_string()];
        cells.extend([best_ns, worst_ns, last_ns].map(|time| latency(*time)));
        cells.push(share(*success));
        cells
    }
}

fn name(Party { name, namespace, .. }: &Party) -> String {
    if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") }
}

/// Over the picture before: each line erases what is left of an older one, and none is broken.
pub(super) fn on_screen(page: &str, width: Option<usize>) -> String {
    let fits = |line: &str| line.chars().take(width.unwrap_or(usize::MAX)).collect::<String>();
    let lines: String = page.lines().map(|line| format!("{}\x1b[K\n", fits(line))).collect();
    format!("\x1b[H{lines}\x1b[J")
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::exchange;
    use super::*;
    use agent_api::TapExchange;
    use expect_test::expect;
    use std::time::Duration;

    fn story() -> Operations {
        let mut operations = Operations::default();
        for (target, took, failed) in [
            ("/items", 250_000, false),
            ("/items", 80_000, false),
            ("/slow", 2_500_000_000, false),
            ("/bad", 1_000, true),
        ] {
            operations.exchange(exchange("client", target, Some(took), failed));
            operations.exchange(exchange("server", target, Some(took), failed));
        }
        let outside = Party { name: "example.com".into(), namespace: String::new(), kind: "External".into() };
        let handshake = TapExchange {
            dst: outside,
            protocol: "tls".into(),
            operation: "handshake".into(),
            target: String::new(),
            ..exchange("client", "", None, true)
        };
        operations.exchange(handshake);
        operations
    }

    fn page(operations: &Operations, sort: Sort, most: usize) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_242_600_338);
        Picture::of(operations, sort, most, now).page()
    }

    #[test]
    fn a_page_has_linkerds_columns_and_what_was_asked_for_first() {
        expect![[r#"
            06:30:00.3  5 exchanges, 4 operations
            SRC       DST          PROTOCOL  METHOD     PATH    COUNT    BEST   WORST    LAST  SUCCESS
            shop/web  shop/api     http1     GET        /items      2  80.0us   250us  80.0us  100.00%
            shop/web  shop/api     http1     GET        /bad        1  1.00us  1.00us  1.00us    0.00%
            shop/web  example.com  tls       handshake  -           1       -       -       -    0.00%
            shop/web  shop/api     http1     GET        /slow       1   2.50s   2.50s   2.50s  100.00%
        "#]]
        .assert_eq(&page(&story(), Sort::Busiest, 9));
        let first = |sort| page(&story(), sort, 1).lines().nth(2).unwrap_or_default().to_owned();
        assert!(first(Sort::Slowest).contains("/slow"), "{}", first(Sort::Slowest));
        assert!(first(Sort::Failing).contains("/bad"), "{}", first(Sort::Failing));
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut operations = story();
        (operations.gone, operations.gone_exchanges) = (7, 9);
        operations.lost(TapLoss { reason: "slow_reader".into(), count: 3 });
        operations.lost(TapLoss { reason: "ring_full".into(), count: 1 });
        let page = page(&operations, Sort::Busiest, 1);
        expect![[r#"
            06:30:00.3  14 exchanges, 4 operations; 9 exchanges of 7 more operations; 1 exchange of these workloads not seen whole: ring_full; 3 records lost: this reader was too slow
            SRC       DST       PROTOCOL  METHOD  PATH    COUNT    BEST  WORST    LAST  SUCCESS
            shop/web  shop/api  http1     GET     /items      2  80.0us  250us  80.0us  100.00%
        "#]]
        .assert_eq(&page);
        let empty = Picture::of(&Operations::default(), Sort::Busiest, 5, SystemTime::UNIX_EPOCH).page();
        assert_eq!(empty, "00:00:00.0  0 exchanges, 0 operations\nNothing was seen yet.\n");
    }

    #[test]
    fn a_long_path_leaves_room_for_what_is_behind_it() {
        let mut operations = Operations::default();
        operations.exchange(exchange("server", &format!("/{}", "\u{e9}".repeat(500)), Some(1_000), false));
        let page = page(&operations, Sort::Busiest, 1);
        assert!(page.lines().all(|line| line.chars().count() < 150) && page.contains("\u{e9}..      1"), "{page}");
    }

    #[test]
    fn what_others_wrote_is_shown_as_what_it_is() {
        let mut operations = Operations::default();
        operations.exchange(exchange("server", "/\x1b[2J\n", Some(1_000), false));
        operations.lost(TapLoss { reason: "\x1b]0;x\x07".into(), count: 1 });
        let page = page(&operations, Sort::Busiest, 1);
        assert!(page.lines().count() == 3 && page.chars().all(|c| c == '\n' || flow_model::is_plain(c)), "{page:?}");
    }

    #[test]
    fn a_screen_is_written_over_and_no_line_is_broken() {
        assert_eq!(on_screen("abcdef\ng\n", Some(4)), "\x1b[Habcd\x1b[K\ng\x1b[K\n\x1b[J");
        assert_eq!(on_screen("abcdef\n", None), "\x1b[Habcdef\x1b[K\n\x1b[J");
    }
}
