use super::packet::{ByteOrder, Damage, MAX_PACKET, Packet};
use super::window::Window;
use flow_model::Ts;
use std::io::Read;

const RECORD_HEADER: usize = 16;

/// The classic format (draft-ietf-opsawg-pcap): one link type, microseconds or nanoseconds, either byte order.
#[derive(Debug)]
pub(super) struct Pcap {
    order: ByteOrder,
    nanos_per_tick: u64,
    link: u16,
    /// The packet lent out last, taken from the window with the next call.
    lent: usize,
    broken: bool,
}

impl Pcap {
    pub fn from_header(head: &[u8]) -> Result<Pcap, Damage> {
        let magic: [u8; 4] = *head.first_chunk().ok_or(Damage::NotACapture)?;
        let (order, nanos_per_tick) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (ByteOrder::Little, 1000),
            [0xa1, 0xb2, 0xc3, 0xd4] => (ByteOrder::Big, 1000),
            [0x4d, 0x3c, 0xb2, 0xa1] => (ByteOrder::Little, 1),
            [0xa1, 0xb2, 0x3c, 0x4d] => (ByteOrder::Big, 1),
            _ => return Err(Damage::NotACapture),
        };
        let fields = || Some((order.u16(head, 4)?, order.u16(head, 6)?, order.u32(head, 20)?));
        let (major, minor, network) = fields().ok_or(Damage::Truncated { offset: head.len() as u64 })?;
        if major != 2 {
            return Err(Damage::Version { major, minor });
        }
        // The upper bits tell of frame check sequences; IP's own length leaves them out.
        Ok(Pcap { order, nanos_per_tick, link: network as u16, lent: 0, broken: false })
    }

    pub fn next<'w, R: Read>(&mut self, window: &'w mut Window<R>) -> Result<Option<Packet<'w>>, Damage> {
        window.take(std::mem::take(&mut self.lent));
        if self.broken {
            return Ok(None);
        }
        let offset = window.offset();
        // Nothing can be told to be a packet's beginning behind a damage: whatever stops us stops us for good.
        self.broken = true;
        let unread = |source| Damage::Read { offset, source };
        let held = window.fill(RECORD_HEADER).map_err(unread)?;
        if held.is_empty() {
            return Ok(None);
        }
        let order = self.order;
        let header = || Some([order.u32(held, 0)?, order.u32(held, 4)?, order.u32(held, 8)?, order.u32(held, 12)?]);
        let Some([seconds, ticks, captured, wire_len]) = header() else {
            return Err(Damage::Truncated { offset });
        };
        let length = captured as usize;
        if length > MAX_PACKET {
            return Err(Damage::PacketLength { offset, length: captured.into() });
        }
        let held = window.fill(RECORD_HEADER + length).map_err(unread)?.len();
        if held < RECORD_HEADER + length {
            return Err(Damage::Truncated { offset });
        }
        self.broken = false;
        self.lent = RECORD_HEADER + length;
        let at = Ts(u64::from(seconds) * 1_000_000_000 + u64::from(ticks) * self.nanos_per_tick);
        let data = window.held().get(RECORD_HEADER..self.lent).unwrap_or_default();
        Ok(Some(Packet { at, interface: 0, link: self.link, wire_len: wire_len.max(captured), data }))
    }
}
