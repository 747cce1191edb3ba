//! What a series has counted: its durations or handshakes = 1, its cells from 2 on, bytes from 7, TCP's
//! other counts from 9, a total = 18. What is zero is left out.

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
const _: () = assert!(CELLS + Cell::ALL.len() as u64 <= BYTES, "another cell goes behind the total");

/// What a series of some agent has counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowValue {
    /// Durations of exchanges, or of TCP handshakes.
    pub(crate) histogram: HistogramSnapshot,
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
}

/// Numbers from a field on.
fn numbers<const N: usize>(out: &mut Vec<u8>, from: u64, cells: &[AtomicU64; N]) {
    for (field, cell) in (from..).zip(cells) {
        number(out, field, cell.load(Relaxed));
    }
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    if value > 0 {
        uint(out, field, value);
    }
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
    numbers(out, CELLS, &series.cells);
}

pub(super) fn of_tcp(out: &mut Vec<u8>, series: &TcpSeries) {
    let TcpSeries { edge, bytes, retransmits, zero_windows, opened, closed, handshake_rtt, life: _ } = series;
    if let Some(rtt) = handshake_rtt.get() {
        histogram(out, &rtt.snapshot());
    }
    numbers(out, BYTES, bytes);
    numbers(out, RETRANSMITS, retransmits);
    numbers(out, ZERO_WINDOWS, zero_windows);
    number(out, OPENED, opened.load(Relaxed));
    numbers(out, CLOSED, closed);
    number(out, OPEN, edge.open_connections());
}

pub(super) fn of_udp(out: &mut Vec<u8>, series: &UdpSeries) {
    numbers(out, BYTES, &series.bytes);
}

pub(super) fn of_total(out: &mut Vec<u8>, total: u64) {
    number(out, TOTAL, total);
}

impl RowValue {
    /// `None` for what nobody wrote. Fields of a later version are passed over.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<RowValue> {
        let mut value = RowValue::default();
        for field in Fields(message) {
            match field? {
                (HISTOGRAM, Field::Bytes(message)) => value.histogram = HistogramSnapshot::read(message)?,
                (number, Field::Uint(count)) => {
                    if let Some(cell) = value.cell(number) {
                        *cell = count;
                    }
                }
                _ => {}
            }
        }
        Some(value)
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
            _ => None,
        }
    }

    pub(crate) fn value(&self, cell: Cell) -> u64 {
        self.cells[cell.index()]
    }

    /// What was counted since `earlier` of the same series. One that is below it has begun anew: all
    /// that it has is new.
    #[must_use]
    pub fn since(&self, earlier: &RowValue) -> RowValue {
        let falls = |now: u64, then: u64| now < then;
        if falls(self.histogram.count, earlier.histogram.count)
            || falls(self.value(Cell::OneWay), earlier.value(Cell::OneWay))
            || self.bytes.iter().zip(earlier.bytes).any(|(now, then)| falls(*now, then))
        {
            return self.clone();
        }
        fn less<const N: usize>(now: &[u64; N], then: &[u64; N]) -> [u64; N] {
            std::array::from_fn(|i| now[i].saturating_sub(then[i]))
        }
        RowValue {
            histogram: self.histogram.since(&earlier.histogram),
            cells: less(&self.cells, &earlier.cells),
            bytes: less(&self.bytes, &earlier.bytes),
            retransmits: less(&self.retransmits, &earlier.retransmits),
            zero_windows: less(&self.zero_windows, &earlier.zero_windows),
            opened: self.opened.saturating_sub(earlier.opened),
            closed: less(&self.closed, &earlier.closed),
            open: self.open,
            total: self.total.saturating_sub(earlier.total),
        }
    }
}
