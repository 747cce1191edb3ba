use std::collections::BTreeMap;

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// A scrape of `/metrics` in its text form (OpenMetrics or Prometheus), read without any help from
/// the code that wrote it.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    pub samples: Vec<Sample>,
}

impl Exposition {
    #[must_use]
    pub fn parse(text: &str) -> Exposition {
        Exposition { samples: text.lines().filter_map(sample).collect() }
    }

    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// Sum of the samples called `name` whose labels have all of `wanted`.
    #[must_use]
    pub fn sum(&self, name: &str, wanted: &[(&str, &str)]) -> f64 {
        self.named(name)
            .filter(|sample| wanted.iter().all(|(k, v)| sample.label(k) == *v))
            .map(|sample| sample.value)
            .sum()
    }

    /// As [`Exposition::sum`], for counters: counts are exact in a double up to 2^53.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn count(&self, name: &str, wanted: &[(&str, &str)]) -> u64 {
        self.sum(name, wanted).round() as u64
    }

    /// The `q`-quantile in seconds of the classic histogram `name`, all its series that have
    /// `wanted` added up, interpolated inside its bucket as Prometheus does. `None` when nothing
    /// was observed.
    #[must_use]
    pub fn quantile(&self, name: &str, wanted: &[(&str, &str)], q: f64) -> Option<f64> {
        let bucket = format!("{name}_bucket");
        let mut cumulative: Vec<(f64, f64)> = Vec::new();
        for sample in self.named(&bucket).filter(|sample| wanted.iter().all(|(k, v)| sample.label(k) == *v)) {
            let le = sample.label("le").parse().unwrap_or(f64::INFINITY);
            match cumulative.iter_mut().find(|(bound, _)| *bound == le) {
                Some((_, count)) => *count += sample.value,
                None => cumulative.push((le, sample.value)),
            }
        }
        cumulative.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total = cumulative.last()?.1;
        let rank = q * total;
        let index = cumulative.iter().position(|(_, count)| *count >= rank && *count > 0.0)?;
        let (upper, count) = cumulative[index];
        let (lower, before) = if index == 0 { (0.0, 0.0) } else { cumulative[index - 1] };
        if upper.is_infinite() {
            return Some(lower);
        }
        Some(lower + (upper - lower) * ((rank - before) / (count - before)))
    }
}

fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') || line.trim().is_empty() {
        return None;
    }
    let (name, labels, rest) = match line.find('{') {
        Some(open) => {
            let (labels, rest) = labels(&line[open + 1..])?;
            (&line[..open], labels, rest)
        }
        None => {
            let space = line.find(' ')?;
            (&line[..space], BTreeMap::new(), &line[space..])
        }
    };
    let value = rest.split_ascii_whitespace().next()?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().ok()?,
    };
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The label set up to its closing brace, and what follows it.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let equals = rest.find("=\"")?;
        let name = rest[..equals].to_owned();
        let mut value = String::new();
        let mut chars = rest[equals + 2..].char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name, value);
        rest = &rest[equals + 2 + end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE d histogram\nd_bucket{r=\"client\",le=\"0.001\"} 50\nd_bucket{r=\"client\",le=\"0.002\"} 100\n\
        d_bucket{r=\"client\",le=\"+Inf\"} 100\nd_count{r=\"client\"} 100\nup 1\nesc{a=\"x\\\"},y\\\\\"} 2 1700000000\n# EOF\n";

    #[test]
    fn labels_with_quotes_and_braces_are_read() {
        let text = Exposition::parse(TEXT);
        assert_eq!(text.sum("esc", &[("a", "x\"},y\\")]), 2.0);
        assert_eq!(text.count("up", &[]), 1);
    }

    #[test]
    fn quantiles_are_interpolated_inside_their_bucket() {
        let text = Exposition::parse(TEXT);
        assert_eq!(text.quantile("d", &[("r", "client")], 0.25), Some(0.0005));
        assert_eq!(text.quantile("d", &[("r", "client")], 0.75), Some(0.0015));
        assert_eq!(text.quantile("d", &[("r", "server")], 0.5), None);
    }
}
