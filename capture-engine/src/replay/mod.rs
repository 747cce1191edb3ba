//! A capture file as a source of the same events that the kernel's programs make, so that
//! everything behind them is one code path.
//!
//! Reads pcap and pcapng, compressed or not; strips links, tags and IP tunnels; puts IP fragments
//! together; and keeps the kernel's flow table in software. Everything is streamed: memory does not
//! grow with the file. Knows nothing of what its events are for.

mod again;
mod decode;
mod end;
mod file;
mod flow;
mod fragments;
mod handshake;
mod link;
mod packet;
mod pcap;
mod pcapng;
mod places;
mod skip;
mod table;
mod tunnel;
mod window;

pub use file::CaptureReader;
pub use packet::{Damage, Packet};
pub use skip::{Skip, Skipped};
pub use tunnel::{Kind as TunnelKind, Tunnel};

use crate::event::Event;
use decode::Decoder;
use flow_model::Ts;
use places::{Place, Places};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use table::Table;
use thiserror::Error;
use tunnel::Tunnels;

/// Flows of the table; of each the pipeline has one, too. Together they take some 2 KB: 128 MB when full.
pub const MAX_FLOWS: usize = 1 << 16;
/// Packets are handled in shares of so many bytes at most: whoever bounds what they leave behind looks
/// in between.
const SHARE: u64 = 1 << 20;
/// A pcapng file that is broken in so many places is not a capture any more.
const MAX_DAMAGES: u64 = 10_000;

/// What was read and what was not. Monotonic while it runs.
#[derive(Debug, Default)]
pub struct Summary {
    /// Packets read, skipped ones included.
    pub packets: u64,
    /// Bytes that the packets had on the wire.
    pub wire_bytes: u64,
    /// TCP segments that went into the flow table.
    pub tcp_packets: u64,
    /// UDP datagrams that went into it.
    pub udp_packets: u64,
    /// Packets that belong to no flow.
    pub skipped: Skipped,
    /// Packets that were seen at another interface before, and counted there.
    pub seen_again: u64,
    /// What came in tunnels over UDP: the flows inside are counted as flows, the tunnels here.
    pub tunnels: Vec<Tunnel>,
    /// Packets of tunnels beyond the bound on their number.
    pub tunnels_beyond: u64,
    /// Packets of which the capture kept less than the wire had.
    pub cut_packets: u64,
    /// Connections and UDP 5-tuples.
    pub flows: u64,
    /// Flows reported early because the table was full.
    pub flows_evicted: u64,
    /// TCP segments out of order that were not put in order, because too many waited for it.
    pub unordered: u64,
    /// IP datagrams whose fragments never fitted.
    pub fragments_given_up: u64,
    /// Times of the earliest and the latest packet.
    pub first: Option<Ts>,
    /// As `first`: None before any packet. Since the Unix epoch.
    pub last: Option<Ts>,
    /// The first damage found, and how many there were; what was whole around it is in the figures above.
    pub damage: Option<Damage>,
    /// Damages found. After 10,000 the rest of the file is not read.
    pub damages: u64,
}

/// Why a capture cannot be replayed at all.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file system refused.
    #[error("cannot open {path}")]
    Open {
        /// As it was given.
        path: String,
        /// Its answer.
        #[source]
        source: std::io::Error,
    },
    /// The file is there, and its head is no capture's.
    #[error("cannot read {path}")]
    Read {
        /// As it was given.
        path: String,
        /// What is wrong with it.
        #[source]
        source: Damage,
    },
}

/// One run through a capture.
#[derive(Debug)]
pub struct Replay {
    reader: CaptureReader,
    decoder: Decoder,
    places: Places,
    tunnels: Tunnels,
    table: Table,
    summary: Summary,
}

impl Replay {
    /// Opens the capture at `path` and reads its head.
    ///
    /// # Errors
    /// The file cannot be opened, or is not a capture.
    pub fn open(path: &Path) -> Result<Replay, OpenError> {
        let name = || path.display().to_string();
        let file = File::open(path).map_err(|source| OpenError::Open { path: name(), source })?;
        Replay::new(file).map_err(|source| OpenError::Read { path: name(), source })
    }

    /// The same for a stream, which is read from its beginning.
    ///
    /// # Errors
    /// As [`CaptureReader::new`].
    pub fn new(stream: impl Read + 'static) -> Result<Replay, Damage> {
        Ok(Replay {
            reader: CaptureReader::new(stream)?,
            decoder: Decoder::default(),
            places: Places::default(),
            tunnels: Tunnels::default(),
            table: Table::new(MAX_FLOWS),
            summary: Summary::default(),
        })
    }

    /// Holds at most `flows` at once.
    #[must_use]
    pub fn with_flows(mut self, flows: usize) -> Replay {
        self.table = Table::new(flows);
        self
    }

    /// Handles up to `packets` packets, fewer where they are large. False when the capture is
    /// over: then every flow's final state has been told.
    pub fn advance(&mut self, packets: u64, mut tell: impl FnMut(Event<'_>)) -> bool {
        let until = self.reader.offset() + SHARE;
        for _ in 0..packets {
            if self.reader.offset() >= until {
                return true;
            }
            let packet = match self.reader.next() {
                Ok(Some(packet)) => packet,
                Ok(None) => {
                    self.end(&mut tell);
                    return false;
                }
                Err(damage) => {
                    self.summary.damages += 1;
                    self.summary.damage.get_or_insert(damage);
                    if self.summary.damages >= MAX_DAMAGES {
                        self.end(&mut tell);
                        return false;
                    }
                    continue;
                }
            };
            let summary = &mut self.summary;
            summary.packets += 1;
            summary.wire_bytes += u64::from(packet.wire_len);
            summary.cut_packets += u64::from((packet.data.len() as u64) < u64::from(packet.wire_len));
            summary.first = Some(summary.first.map_or(packet.at, |first| first.min(packet.at)));
            summary.last = Some(summary.last.map_or(packet.at, |last| last.max(packet.at)));
            let mut outer = None;
            let decoded = self.decoder.decode(&packet, &mut outer);
            let side = link::side(packet.link, packet.data);
            let several = packet.interface > 0 || side.is_some();
            let mut place = Place { interface: packet.interface, side: side.unwrap_or_default(), tunnel: false };
            if let Some((kind, outer)) = outer {
                if !(several && self.places.again(&outer, place, packet.at)) {
                    let ends = [outer.source.0, outer.destination.0];
                    self.tunnels.count(kind, ends, outer.ip_bytes, packet.at);
                }
                place.tunnel = true;
            }
            match &decoded {
                Ok(decoded) if several && self.places.again(decoded, place, packet.at) => {}
                Ok(decoded) => {
                    let count = if decoded.tcp { &mut summary.tcp_packets } else { &mut summary.udp_packets };
                    *count += 1;
                    self.table.packet(decoded, packet.at, &mut tell);
                }
                Err(skip) => summary.skipped.count(*skip),
            }
        }
        true
    }

    /// The whole capture.
    pub fn run(mut self, mut tell: impl FnMut(Event<'_>)) -> Summary {
        while self.advance(u64::MAX, &mut tell) {}
        self.into_summary()
    }

    /// Time of the latest packet so far.
    #[must_use]
    pub fn now(&self) -> Ts {
        self.summary.last.unwrap_or_default()
    }

    /// Decompressed bytes read so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// The figures, with those of the flow table. Flows that are still open are not told any more.
    #[must_use]
    pub fn into_summary(self) -> Summary {
        Summary {
            flows: self.table.opened,
            flows_evicted: self.table.evicted,
            unordered: self.table.unordered,
            fragments_given_up: self.decoder.fragments.given_up,
            seen_again: self.places.again,
            tunnels_beyond: self.tunnels.beyond,
            tunnels: self.tunnels.into_seen(),
            ..self.summary
        }
    }

    fn end(&mut self, tell: &mut impl FnMut(Event<'_>)) {
        self.table.finish(self.summary.last.unwrap_or_default(), tell);
    }
}
