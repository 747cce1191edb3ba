//! Which exposition format a scraper gets.

/// What `/metrics` can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics text 1.0; what everybody gets who does not ask for something else.
    Text,
    /// Prometheus' length-delimited protobuf: the only one that carries native histograms.
    Protobuf,
}

impl Format {
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// By the `Accept` header (RFC 9110 12.5.1), as Prometheus and its relatives send it. Of formats that the client likes
    /// equally the first wins. A header that asks for nothing that we have, or makes no sense, gets text.
    #[must_use]
    pub fn accepted(header: Option<&str>) -> Format {
        let mut best = (0.0, Format::Text);
        for part in header.unwrap_or_default().split(',') {
            let mut parameters = part.split(';').map(str::trim);
            let media_type = parameters.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<String> = parameters.map(|p| p.replace(' ', "").to_ascii_lowercase()).collect();
            let format = match media_type.as_str() {
                "application/vnd.google.protobuf" if delimited_families(&parameters) => Format::Protobuf,
                "application/openmetrics-text" | "text/plain" | "text/*" | "*/*" => Format::Text,
                _ => continue,
            };
            let weight =
                parameters.iter().find_map(|p| p.strip_prefix("q=")).and_then(|q| q.parse().ok()).unwrap_or(1.0);
            if weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }
}

fn delimited_families(parameters: &[String]) -> bool {
    let given =
        |name: &str| parameters.iter().find_map(|p| p.strip_prefix(name)).map(|v| v.trim_matches('"').to_owned());
    given("proto=").is_none_or(|proto| proto == "io.prometheus.client.metricfamily")
        && given("encoding=").is_none_or(|encoding| encoding == "delimited")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_what_they_like_best() {
        let check = |header: Option<&str>, expected| assert_eq!(Format::accepted(header), expected, "{header:?}");
        check(None, Format::Text);
        check(Some("*/*"), Format::Text);
        check(Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Format::Text);
        // Prometheus 3 with native histograms, and without.
        check(
            Some(
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                 application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
            ),
            Format::Protobuf,
        );
        check(
            Some("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"),
            Format::Text,
        );
        check(Some("application/vnd.google.protobuf; proto=\"io.prometheus.client.MetricFamily\""), Format::Protobuf);
        check(Some("application/vnd.google.protobuf;proto=other.Message;encoding=delimited"), Format::Text);
        check(Some("application/vnd.google.protobuf;q=0, text/plain"), Format::Text);
        check(Some(";;;q=,,\u{fffd}"), Format::Text);
    }
}
