//! Reads native histograms out of a scrape in Prometheus' protobuf form
//! (`io.prometheus.client.MetricFamily`, each with its length before it), without any help from the
//! code that wrote it.

use std::collections::BTreeMap;

pub(crate) const MEDIA_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Series of one schema added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NativeHistogram {
    schema: i64,
    zero: u64,
    /// Count by bucket index: bucket i ends at 2^(i / 2^schema).
    buckets: BTreeMap<i64, u64>,
}

impl NativeHistogram {
    pub(crate) fn read(scrape: &[u8], name: &str, wanted: &[(&str, &str)]) -> NativeHistogram {
        let mut all = NativeHistogram::default();
        let mut rest = scrape;
        while let Some(length) = varint(&mut rest) {
            let Some((family, after)) = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length))
            else {
                break;
            };
            rest = after;
            let fields: Vec<Field<'_>> = Fields(family).collect();
            if !fields.iter().any(|field| field.number == 1 && field.bytes == name.as_bytes()) {
                continue;
            }
            for metric in fields.iter().filter(|field| field.number == 4) {
                all.add_metric(metric.bytes, wanted);
            }
        }
        all
    }

    fn add_metric(&mut self, metric: &[u8], wanted: &[(&str, &str)]) {
        let labels: Vec<(Vec<u8>, Vec<u8>)> = Fields(metric)
            .filter(|field| field.number == 1)
            .map(|pair| {
                let part =
                    |n| Fields(pair.bytes).find(|field| field.number == n).map_or(Vec::new(), |f| f.bytes.to_vec());
                (part(1), part(2))
            })
            .collect();
        let has =
            |(k, v): &(&str, &str)| labels.iter().any(|(name, value)| name == k.as_bytes() && value == v.as_bytes());
        if wanted.iter().all(has) {
            Fields(metric).filter(|field| field.number == 7).for_each(|histogram| self.add_histogram(histogram.bytes));
        }
    }

    fn add_histogram(&mut self, histogram: &[u8]) {
        let (mut spans, mut deltas) = (Vec::new(), Vec::new());
        for field in Fields(histogram) {
            match field.number {
                5 => self.schema = zigzag(field.value),
                7 => self.zero += field.value,
                12 => {
                    let part = |n| Fields(field.bytes).find(|field| field.number == n).map_or(0, |field| field.value);
                    spans.push((zigzag(part(1)), part(2)));
                }
                13 if field.bytes.is_empty() => deltas.push(zigzag(field.value)),
                13 => {
                    let mut packed = field.bytes;
                    deltas.extend(std::iter::from_fn(|| varint(&mut packed)).map(zigzag));
                }
                _ => {}
            }
        }
        let (mut index, mut count, mut deltas) = (0, 0, deltas.into_iter());
        for (offset, length) in spans {
            index += offset;
            for delta in deltas.by_ref().take(usize::try_from(length).unwrap_or(0)) {
                count += delta;
                *self.buckets.entry(index).or_default() += u64::try_from(count).unwrap_or(0);
                index += 1;
            }
        }
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.zero + self.buckets.values().sum::<u64>()
    }

    /// The `q`-quantile, interpolated on the logarithmic scale as Prometheus does for these
    /// buckets. `None` when nothing was observed.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q * self.count() as f64;
        let mut below = self.zero as f64;
        for (index, count) in self.buckets.iter().filter(|(_, count)| **count > 0) {
            if below + *count as f64 >= rank {
                let within = ((rank - below) / *count as f64).clamp(0.0, 1.0);
                return Some(((*index as f64 - 1.0 + within) / f64::from(1 << self.schema)).exp2());
            }
            below += *count as f64;
        }
        None
    }
}

struct Field<'a> {
    number: u64,
    /// Of a varint field.
    value: u64,
    /// Of a length-delimited field.
    bytes: &'a [u8],
}

/// Fields of a protobuf message, up to the first that is damaged.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let key = varint(&mut self.0)?;
        let mut field = Field { number: key >> 3, value: 0, bytes: &[] };
        let length = match key & 7 {
            0 => {
                field.value = varint(&mut self.0)?;
                return Some(field);
            }
            1 => 8,
            2 => usize::try_from(varint(&mut self.0)?).ok()?,
            5 => 4,
            _ => return None,
        };
        (field.bytes, self.0) = self.0.split_at_checked(length)?;
        Some(field)
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[allow(clippy::cast_possible_wrap, reason = "the encoding's own wrap-around")]
fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8, inner: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(inner.len()).unwrap_or(0)], inner].concat()
    }

    #[test]
    fn spans_and_deltas_become_counts() {
        // Schema 0; buckets 1 and 2 hold 3 and 1, bucket 4 holds 2.
        let spans = [message(12, &[1 << 3, 2, 2 << 3, 2]), message(12, &[1 << 3, 2, 2 << 3, 1])].concat();
        let histogram = [vec![5 << 3, 0], spans, message(13, &[6, 3, 2])].concat();
        let label = message(1, &[message(1, b"r"), message(2, b"client")].concat());
        let metric = [label, message(7, &histogram)].concat();
        let family = [message(1, b"d"), message(4, &metric)].concat();
        let scrape = [vec![u8::try_from(family.len()).unwrap_or(0)], family].concat();
        let read = NativeHistogram::read(&scrape, "d", &[("r", "client")]);
        assert_eq!(read.buckets, BTreeMap::from([(1, 3), (2, 1), (4, 2)]));
        assert_eq!(read.quantile(0.5), Some(2.0), "the upper end of bucket 1 is 2");
        assert_eq!(NativeHistogram::read(&scrape, "d", &[("r", "server")]).count(), 0);
    }
}
