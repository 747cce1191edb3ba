//! Text tables and units for people.

use flow_model::shown;
use std::borrow::Cow;

/// Characters of a cell that are shown. What others wrote may be of any length, and the widest cell
/// sets the width of all lines. A failure with all its causes fits.
const CELL: usize = 320;

/// Columns that hold numbers are set flush right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A cell on one line and of bounded width; what was cut is said.
fn cell(text: &str) -> Cow<'_, str> {
    let text = shown(text);
    let Some((end, _)) = text.char_indices().nth(CELL) else { return text };
    let (kept, cut) = text.split_at(end);
    Cow::Owned(format!("{kept}.. ({} more characters)", cut.chars().count()))
}

/// The first of them, and how many more there are.
#[must_use]
pub fn list(all: &[String], most: usize) -> String {
    let kept = all.get(..most).unwrap_or(all).join(",");
    match all.len().saturating_sub(most) {
        0 => kept,
        more => format!("{kept} and {more} more"),
    }
}

/// An aligned table with two spaces between columns and none at the end of a line.
#[must_use]
pub fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> = rows.iter().map(|row| row.iter().map(|text| cell(text)).collect()).collect();
    let mut widths: Vec<usize> = columns.iter().map(|(title, _)| title.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let titles: Vec<Cow<'_, str>> = columns.iter().map(|(title, _)| Cow::Borrowed(*title)).collect();
    let mut out = String::new();
    for row in std::iter::once(&titles).chain(&rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(columns.iter().zip(&widths))
            .map(|(cell, ((_, align), width))| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// 1234 ns as "1.23us": three digits that count, in the unit that fits.
#[must_use]
pub fn latency(nanos: Option<u64>) -> String {
    let Some(nanos) = nanos else { return "-".to_owned() };
    // The bound is where three digits round up into the next unit.
    for (limit, unit, size) in
        [(1_000.0, "ns", 1.0), (999_500.0, "us", 1e3), (999_500_000.0, "ms", 1e6), (f64::MAX, "s", 1e9)]
    {
        if (nanos as f64) < limit {
            let value = nanos as f64 / size;
            let digits = if size == 1.0 || value >= 99.95 {
                0
            } else if value >= 9.995 {
                1
            } else {
                2
            };
            return format!("{value:.digits$}{unit}");
        }
    }
    format!("{nanos}ns")
}

/// 0.98765 as "98.77%". What is not whole is never shown as 100.00%.
#[must_use]
pub fn share(share: Option<f64>) -> String {
    match share {
        None => "-".to_owned(),
        Some(share) if share < 1.0 => format!("{:.2}%", (share * 100.0).min(99.99)),
        Some(_) => "100.00%".to_owned(),
    }
}

/// Per second: "0.3rps", "1250rps".
#[must_use]
pub fn rate(per_second: f64) -> String {
    if per_second < 99.95 { format!("{per_second:.1}rps") } else { format!("{per_second:.0}rps") }
}

/// 93784 s as "1d2h".
#[must_use]
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Binary units: "11.2MiB".
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1023.5 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{value:.1}{unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1}GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["frontend".into(), "100.00%".into(), "1.2rps".into()],
            vec!["db".into(), "-".into(), "1250rps".into()],
        ];
        let columns = [("NAME", Align::Left), ("SUCCESS", Align::Right), ("RPS", Align::Right)];
        expect![[r#"
            NAME      SUCCESS      RPS
            frontend  100.00%   1.2rps
            db              -  1250rps
        "#]]
        .assert_eq(&table(&columns, &rows));
    }

    #[test]
    fn a_cell_of_any_length_and_any_characters_is_one_line_of_bounded_width() {
        let columns = [("NAME", Align::Left), ("N", Align::Right)];
        let long = "x".repeat(70_000);
        let page = table(&columns, &[vec![long, "1".into()], vec!["\x1b[2J\nroot\u{202e}".into(), "2".into()]]);
        let lines: Vec<&str> = page.split('\n').collect();
        assert_eq!(lines.len(), 4, "{page}");
        assert!(lines[1].ends_with(&format!("xx.. ({} more characters)  1", 70_000 - CELL)), "{page}");
        assert!(lines[2].starts_with(r"\u{1b}[2J\nroot\u{202e} "), "{page}");
        assert!(lines.iter().all(|line| line.len() < CELL + 40), "{page}");
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let all: Vec<String> = (0..5).map(|i| i.to_string()).collect();
        assert_eq!([list(&all, 5), list(&all, 2), list(&[], 2)], ["0,1,2,3,4", "0,1 and 3 more", ""]);
    }

    #[test]
    fn units_fit_the_size() {
        let shown: Vec<String> = [0, 999, 1_000, 1_234, 12_345, 123_456, 999_600, 1_500_000, 10_500_000_000]
            .map(|nanos| latency(Some(nanos)))
            .into();
        assert_eq!(shown, ["0ns", "999ns", "1.00us", "1.23us", "12.3us", "123us", "1.00ms", "1.50ms", "10.5s"]);
        assert_eq!(latency(None), "-");
        assert_eq!([share(Some(1.0)), share(Some(0.999_999)), share(Some(0.5))], ["100.00%", "99.99%", "50.00%"]);
        assert_eq!([bytes(0), bytes(1536), bytes(5 << 20)], ["0B", "1.5KiB", "5.0MiB"]);
    }
}
