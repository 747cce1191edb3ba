//! What a series has counted: its durations or handshakes = 1, its cells from 2 on, bytes from 7, TCP's
//! other counts from 9, a total = 18, lost exchanges = 19. What is zero is left out.

use crate::families::Cell;
use crate::histogram::HistogramSnapshot;
use crate::proto::{Field, Fields, bytes, uint};
use crate::series::{ExchangeSeries, TcpSeries, UdpSeries};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const HISTOGRAM: u64 = 1;
const CELLS: u64 = 2;
const BYTES: u64 = 7;
const RETRANSMITS: u64 = 9;
const ZERO_WINDOWS: u64 = 11;
const OPENED: u64 = 13;
const CLOSED: u64 = 14;
const OPEN: u64 = 17;
const TOTAL: u64 = 18;
const LOST: u64 = 19;
const _: () = assert!(CELLS + Cell::ALL.len() as u64 <= BYTES, "another cell goes behind the total");

/// What a series of some agent has counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowValue {
    /// Durations of exchanges, or of TCP handshakes.
    pub(crate) histogram: HistogramSnapshot,
    pub(crate) numbers: Numbers,
}

/// All but the histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// In the order of `Cell::ALL`.
    pub(crate) cells: [u64; Cell::ALL.len()],
    pub(crate) bytes: [u64; 2],
    pub(crate) retransmits: [u64; 2],
    pub(crate) zero_windows: [u64; 2],
    pub(crate) opened: u64,
    pub(crate) closed: [u64; 3],
    /// Connections that are open: the one figure that may fall.
    pub(crate) open: u64,
    pub(crate) total: u64,
    /// Exchanges of the edge that are in no series.
    pub(crate) lost: u64,
}

fn histogram(out: &mut Vec<u8>, histogram: &HistogramSnapshot) {
    if histogram.count > 0 {
        let mut message = Vec::new();
        histogram.write(&mut message);
        bytes(out, HISTOGRAM, &message);
    }
}

pub(super) fn of_exchanges(out: &mut Vec<u8>, series: &ExchangeSeries) {
    histogram(out, &series.duration.snapshot());
    Numbers::of_exchanges(series).write(out);
}

pub(super) fn of_tcp(out: &mut Vec<u8>, series: &TcpSeries) {
    if let Some(rtt) = series.handshake_rtt.get() {
        histogram(out, &rtt.snapshot());
    }
    Numbers::of_tcp(series).write(out);
}

pub(super) fn of_udp(out: &mut Vec<u8>, series: &UdpSeries) {
    Numbers::of_udp(series).write(out);
}

pub(super) fn of_total(out: &mut Vec<u8>, total: u64) {
    Numbers { total, ..Numbers::default() }.write(out);
}

impl RowValue {
    /// `None` for what nobody wrote. Fields of a later version are passed over.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<RowValue> {
        let histogram = RowValue::read_histogram(message)?;
        Some(RowValue { histogram, numbers: Numbers::read(message)? })
    }

    pub(crate) fn read_histogram(message: &[u8]) -> Option<HistogramSnapshot> {
        let mut histogram = HistogramSnapshot::default();
        for field in Fields(message) {
            if let (HISTOGRAM, Field::Bytes(message)) = field? {
                histogram = HistogramSnapshot::read(message)?;
            }
        }
        Some(histogram)
    }

    /// What was counted since `earlier` of the same series. One that is below it has begun anew: all
    /// that it has is new.
    #[must_use]
    pub fn since(&self, earlier: &RowValue) -> RowValue {
        let (now, then) = (&self.numbers, &earlier.numbers);
        let counts = |value: &RowValue| {
            let [sent, received] = value.numbers.bytes;
            [value.histogram.count, value.numbers.value(Cell::OneWay), sent, received]
        };
        if counts(self).iter().zip(counts(earlier)).any(|(now, then)| *now < then) {
            return self.clone();
        }
        RowValue { histogram: self.histogram.since(&earlier.histogram), numbers: now.since(then) }
    }
}

impl Numbers {
    /// `None` for what nobody wrote. Fields of a later version are passed over.
    pub(crate) fn read(message: &[u8]) -> Option<Numbers> {
        let mut numbers = Numbers::default();
        for field in Fields(message) {
            if let (number, Field::Uint(count)) = field?
                && let Some(cell) = numbers.cell(number)
            {
                *cell = count;
            }
        }
        Some(numbers)
    }

    pub(crate) fn of_exchanges(series: &ExchangeSeries) -> Numbers {
        Numbers { cells: Cell::ALL.map(|cell| series.value(cell)), ..Numbers::default() }
    }

    pub(crate) fn of_tcp(series: &TcpSeries) -> Numbers {
        let TcpSeries { edge, bytes, retransmits, zero_windows, opened, closed, lost, handshake_rtt: _, life: _ } =
            series;
        Numbers {
            bytes: values(bytes),
            retransmits: values(retransmits),
            zero_windows: values(zero_windows),
            opened: opened.load(Relaxed),
            closed: values(closed),
            open: edge.open_connections(),
            lost: lost.load(Relaxed),
            ..Numbers::default()
        }
    }

    pub(crate) fn of_udp(series: &UdpSeries) -> Numbers {
        Numbers { bytes: values(&series.bytes), lost: series.lost.load(Relaxed), ..Numbers::default() }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let Numbers { cells, bytes, retransmits, zero_windows, opened, closed, open, total, lost } = self;
        let groups: [(u64, &[u64]); 9] = [
            (CELLS, cells),
            (BYTES, bytes),
            (RETRANSMITS, retransmits),
            (ZERO_WINDOWS, zero_windows),
            (OPENED, std::slice::from_ref(opened)),
            (CLOSED, closed),
            (OPEN, std::slice::from_ref(open)),
            (TOTAL, std::slice::from_ref(total)),
            (LOST, std::slice::from_ref(lost)),
        ];
        for (from, values) in groups {
            for (field, value) in (from..).zip(values).filter(|(_, value)| **value > 0) {
                uint(out, field, *value);
            }
        }
    }

    fn cell(&mut self, field: u64) -> Option<&mut u64> {
        let at = |from: u64| usize::try_from(field - from).ok();
        match field {
            CELLS..BYTES => self.cells.get_mut(at(CELLS)?),
            BYTES..RETRANSMITS => self.bytes.get_mut(at(BYTES)?),
            RETRANSMITS..ZERO_WINDOWS => self.retransmits.get_mut(at(RETRANSMITS)?),
            ZERO_WINDOWS..OPENED => self.zero_windows.get_mut(at(ZERO_WINDOWS)?),
            OPENED => Some(&mut self.opened),
            CLOSED..OPEN => self.closed.get_mut(at(CLOSED)?),
            OPEN => Some(&mut self.open),
            TOTAL => Some(&mut self.total),
            LOST => Some(&mut self.lost),
            _ => None,
        }
    }

    pub(crate) fn value(&self, cell: Cell) -> u64 {
        self.cells[cell.index()]
    }

    pub(crate) fn add(&mut self, more: &Numbers) {
        fn sum<const N: usize>(a: &mut [u64; N], b: &[u64; N]) {
            a.iter_mut().zip(b).for_each(|(a, b)| *a = a.saturating_add(*b));
        }
        let Numbers { cells, bytes, retransmits, zero_windows, opened, closed, open, total, lost } = more;
        sum(&mut self.cells, cells);
        sum(&mut self.bytes, bytes);
        sum(&mut self.retransmits, retransmits);
        sum(&mut self.zero_windows, zero_windows);
        sum(&mut self.closed, closed);
        for (mine, more) in
            [(&mut self.opened, opened), (&mut self.open, open), (&mut self.total, total), (&mut self.lost, lost)]
        {
            *mine = mine.saturating_add(*more);
        }
    }

    fn since(&self, then: &Numbers) -> Numbers {
        fn less<const N: usize>(now: &[u64; N], then: &[u64; N]) -> [u64; N] {
            std::array::from_fn(|i| now[i].saturating_sub(then[i]))
        }
        Numbers {
            cells: less(&self.cells, &then.cells),
            bytes: less(&self.bytes, &then.bytes),
            retransmits: less(&self.retransmits, &then.retransmits),
            zero_windows: less(&self.zero_windows, &then.zero_windows),
            opened: self.opened.saturating_sub(then.opened),
            closed: less(&self.closed, &then.closed),
            open: self.open,
            total: self.total.saturating_sub(then.total),
            lost: self.lost.saturating_sub(then.lost),
        }
    }
}

fn values<const N: usize>(cells: &[AtomicU64; N]) -> [u64; N] {
    cells.each_ref().map(|cell| cell.load(Relaxed))
}
