//! Reads one configured value, from a TOML file or from text (environment, flags), into what a key
//! wants. Errors are sentences that say what to write instead.

use std::net::SocketAddr;
use std::time::Duration;
use toml::de::DeValue;

/// A value as it was given.
#[derive(Debug)]
pub enum Given<'a> {
    Toml(&'a DeValue<'a>),
    Text(&'a str),
}

impl Given<'_> {
    pub fn boolean(&self) -> Result<bool, String> {
        match self {
            Given::Toml(DeValue::Boolean(value)) => Ok(*value),
            Given::Text("true" | "1" | "yes" | "on") => Ok(true),
            Given::Text("false" | "0" | "no" | "off") => Ok(false),
            other => Err(format!("{} is not a switch; write true or false", other.shown())),
        }
    }

    pub fn integer(&self, from: u64, to: u64) -> Result<u64, String> {
        let wanted = || format!("{} is not a number from {from} to {to}; write one, like {from}", self.shown());
        let number = match self {
            Given::Toml(DeValue::Integer(digits)) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            Given::Text(text) => text.trim().replace('_', "").parse().ok(),
            Given::Toml(_) => None,
        };
        number.filter(|n| (from..=to).contains(n)).ok_or_else(wanted)
    }

    /// A number of bytes, plain or with a binary unit ("4KiB", "16MiB", "1GiB").
    pub fn bytes(&self, from: u64, to: u64) -> Result<u64, String> {
        let wanted = || {
            format!(
                "{} is not a size from {} to {}; write bytes or a text like \"4MiB\"",
                self.shown(),
                size(from),
                size(to)
            )
        };
        let number = match self.text_or_none() {
            Some(text) => with_unit(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("", 1)]),
            None => self.integer(0, u64::MAX).ok(),
        };
        number.filter(|n| (from..=to).contains(n)).ok_or_else(wanted)
    }

    /// A time, in seconds when plain, or with a unit ("500ms", "30s", "5m", "1h").
    pub fn duration(&self, from: Duration, to: Duration) -> Result<Duration, String> {
        let wanted = || {
            format!(
                "{} is not a time from {from:?} to {to:?}; write seconds or a text like \"30s\", \"5m\"",
                self.shown()
            )
        };
        let millis = match self.text_or_none() {
            Some(text) => with_unit(text, &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("", 1000)]),
            None => self.integer(0, u64::MAX / 1000).ok().map(|s| s * 1000),
        };
        millis.map(Duration::from_millis).filter(|d| (from..=to).contains(d)).ok_or_else(wanted)
    }

    pub fn text(&self) -> Result<String, String> {
        match self.text_or_none() {
            Some(text) => Ok(text.to_owned()),
            None => Err(format!("{} is not a text; put it in quotes", self.shown())),
        }
    }

    /// An absolute path.
    pub fn path(&self) -> Result<String, String> {
        let text = self.text()?;
        if text.starts_with('/') {
            Ok(text)
        } else {
            Err(format!("{} is not an absolute path; write one that begins with /", self.shown()))
        }
    }

    pub fn address(&self) -> Result<SocketAddr, String> {
        let text = self.text()?;
        let bad = || {
            format!(
                "{} is not an address with a port; write one like \"127.0.0.1:9464\" or \"[::1]:9464\"",
                self.shown()
            )
        };
        text.parse().map_err(|_| bad())
    }

    /// Texts: a TOML array, or text separated by commas.
    pub fn list(&self) -> Result<Vec<String>, String> {
        match self {
            Given::Text(text) => {
                Ok(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect())
            }
            Given::Toml(DeValue::Array(items)) => items.iter().map(|item| Given::Toml(item.get_ref()).text()).collect(),
            other => Err(format!("{} is not a list; write one like [\"a\", \"b\"]", other.shown())),
        }
    }

    /// Ports: numbers and ranges, as `[80, "8000-8100"]` or `80,8000-8100`.
    pub fn ports(&self) -> Result<Vec<(u16, u16)>, String> {
        let items: Vec<String> = match self {
            Given::Text(_) => self.list()?,
            Given::Toml(DeValue::Array(items)) => items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::Integer(digits) => Ok(digits.as_str().to_owned()),
                    other => Given::Toml(other).text(),
                })
                .collect::<Result<_, _>>()?,
            other => {
                return Err(format!("{} is not a list of ports; write one like [80, \"8000-8100\"]", other.shown()));
            }
        };
        items.iter().map(|item| port_range(item)).collect()
    }

    pub fn one_of(&self, names: &[&'static str]) -> Result<&'static str, String> {
        let text = self.text()?;
        names.iter().copied().find(|name| *name == text).ok_or_else(|| {
            let near =
                nearest(&text, names.iter().copied()).unwrap_or_else(|| names.first().copied().unwrap_or_default());
            format!("{} is none of {}; write \"{near}\"", self.shown(), names.join(", "))
        })
    }

    fn text_or_none(&self) -> Option<&str> {
        match self {
            Given::Text(text) => Some(text),
            Given::Toml(value) => value.as_str(),
        }
    }

    fn shown(&self) -> String {
        match self {
            Given::Text(text) => format!("{text:?}"),
            Given::Toml(DeValue::String(text)) => format!("{text:?}"),
            Given::Toml(DeValue::Integer(digits)) => digits.as_str().to_owned(),
            Given::Toml(DeValue::Float(digits)) => digits.as_str().to_owned(),
            Given::Toml(DeValue::Boolean(value)) => value.to_string(),
            Given::Toml(other) => format!("this {}", other.type_str()),
        }
    }
}

fn port_range(item: &str) -> Result<(u16, u16), String> {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if first > 0 && first <= last => Ok((first, last)),
        _ => Err(format!("{item:?} is not a port or a range of ports; write one like 80 or \"8000-8100\"")),
    }
}

/// `units` are tried in order; the empty one last.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (number, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    number.trim().replace('_', "").parse::<u64>().ok()?.checked_mul(factor)
}

/// 65536 as "64KiB", 100 as "100".
#[must_use]
pub fn size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// The candidate that `typed` was most likely meant to be, if any is near.
#[must_use]
pub fn nearest<'a>(typed: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (edits(typed, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        let mut left = i + 1;
        for (y, cell) in b.chars().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_take_units() {
        assert_eq!(Given::Text("64KiB").bytes(1, 1 << 30), Ok(65_536));
        assert_eq!(Given::Text("65_536").bytes(1, 1 << 30), Ok(65_536));
        assert_eq!(Given::Text("5m").duration(Duration::ZERO, Duration::MAX), Ok(Duration::from_secs(300)));
        assert_eq!(Given::Text("20ms").duration(Duration::ZERO, Duration::MAX), Ok(Duration::from_millis(20)));
        assert!(Given::Text("18446744073709551615GiB").bytes(1, 1 << 30).is_err());
    }

    #[test]
    fn a_near_miss_is_recognised_and_a_stranger_is_not() {
        let known = ["sockets", "namespaces"];
        assert_eq!(nearest("socket", known.into_iter()), Some("sockets"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }
}
