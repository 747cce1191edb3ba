use super::packet::{ByteOrder, Damage, MAX_PACKET, Packet};
use super::window::Window;
use flow_model::Ts;
use std::io::Read;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// Longest block that is believed; a packet and generous options.
const MAX_BLOCK: usize = MAX_PACKET + (1 << 18);
/// Interfaces of a section; a capture on all links of a large node has some hundreds.
const MAX_INTERFACES: usize = 65_536;

const OPTION_TSRESOL: u16 = 9;
const OPTION_TSOFFSET: u16 = 14;

/// The newer format (draft-ietf-opsawg-pcapng): sections of blocks, several interfaces, each with
/// its own link type and clock.
#[derive(Debug, Default)]
pub(super) struct Pcapng {
    order: ByteOrder,
    interfaces: Vec<Interface>,
    /// Interfaces of the sections before this one.
    earlier: u32,
    lent: usize,
    /// Of the packet before: simple packets have no time of their own.
    last: Ts,
    seeking: bool,
    ended: bool,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u16,
    snaplen: u32,
    clock: Clock,
}

/// How an interface counts time.
#[derive(Clone, Copy, Debug)]
struct Clock {
    ticks_per_second: u64,
    offset_s: i64,
}

/// Where a packet lies in its block.
struct Found {
    at: Ts,
    /// Its number in its section.
    interface: u32,
    link: u16,
    wire_len: u32,
    start: usize,
    length: usize,
}

impl Pcapng {
    pub fn is_start(head: &[u8]) -> bool {
        head.starts_with(&SECTION.to_be_bytes())
    }

    pub fn next<'w, R: Read>(&mut self, window: &'w mut Window<R>) -> Result<Option<Packet<'w>>, Damage> {
        loop {
            window.take(std::mem::take(&mut self.lent));
            if self.ended {
                return Ok(None);
            }
            if std::mem::take(&mut self.seeking) && !self.seek(window)? {
                self.ended = true;
                return Ok(None);
            }
            let offset = window.offset();
            let length = match self.block_length(window, offset) {
                Ok(Some(length)) => length,
                Ok(None) => {
                    self.ended = true;
                    return Ok(None);
                }
                Err(damage) => {
                    self.ended |= matches!(damage, Damage::Read { .. });
                    self.seeking = true;
                    return Err(damage);
                }
            };
            self.lent = length;
            match self.block(window.held().get(..length).unwrap_or_default()) {
                Some(Some(found)) => {
                    self.last = found.at;
                    let data = window.held().get(found.start..found.start + found.length).unwrap_or_default();
                    let Found { at, link, wire_len, .. } = found;
                    let several = self.earlier > 0 || self.interfaces.len() > 1;
                    let interface =
                        if several { self.earlier.wrapping_add(found.interface).wrapping_add(1) } else { 0 };
                    return Ok(Some(Packet { at, interface, link, wire_len, data }));
                }
                Some(None) => {}
                // Its length was right, so the next one begins behind it.
                None => return Err(Damage::Block { offset }),
            }
        }
    }

    /// Length of the whole block at the window's start, once all of it is held. `None` at the end of the file.
    fn block_length<R: Read>(&mut self, window: &mut Window<R>, offset: u64) -> Result<Option<usize>, Damage> {
        let read = |source| Damage::Read { offset, source };
        let head = window.fill(12).map_err(read)?;
        if head.is_empty() {
            return Ok(None);
        }
        if head.len() < 12 {
            return Err(Damage::Truncated { offset });
        }
        if head.starts_with(&SECTION.to_be_bytes()) {
            self.order = section_order(head).ok_or(Damage::Block { offset })?;
        }
        let length = self.order.u32(head, 4).unwrap_or_default() as usize;
        if !plausible(length) {
            return Err(Damage::Block { offset });
        }
        let held = window.fill(length).map_err(read)?;
        if held.len() < length {
            return Err(Damage::Truncated { offset });
        }
        if self.order.u32(held, length - 4) != Some(length as u32) {
            return Err(Damage::Block { offset });
        }
        Ok(Some(length))
    }

    /// `Some(None)`: a block without a packet. `None`: its content is broken.
    fn block(&mut self, block: &[u8]) -> Option<Option<Found>> {
        let order = self.order;
        let body_end = block.len() - 4;
        match order.u32(block, 0)? {
            SECTION => {
                self.earlier = self.earlier.wrapping_add(self.interfaces.len() as u32);
                self.interfaces.clear();
                Some(None)
            }
            INTERFACE => {
                if self.interfaces.len() >= MAX_INTERFACES {
                    return None;
                }
                let clock = clock(block.get(16..body_end)?, order);
                let interface = Interface { link: order.u16(block, 8)?, snaplen: order.u32(block, 12)?, clock };
                self.interfaces.push(interface);
                Some(None)
            }
            ENHANCED_PACKET => {
                let interface = self.interface(order.u32(block, 8)?)?;
                let ticks = u64::from(order.u32(block, 12)?) << 32 | u64::from(order.u32(block, 16)?);
                found(interface, Some(ticks), self.last, order.u32(block, 20)?, order.u32(block, 24)?, 28, body_end)
            }
            OLD_PACKET => {
                let interface = self.interface(order.u16(block, 8)?.into())?;
                let ticks = u64::from(order.u32(block, 12)?) << 32 | u64::from(order.u32(block, 16)?);
                found(interface, Some(ticks), self.last, order.u32(block, 20)?, order.u32(block, 24)?, 28, body_end)
            }
            SIMPLE_PACKET => {
                let interface = self.interface(0)?;
                let wire_len = order.u32(block, 8)?;
                let snaplen = if interface.1.snaplen == 0 { u32::MAX } else { interface.1.snaplen };
                let captured = wire_len.min(snaplen).min(body_end.checked_sub(12)? as u32);
                found(interface, None, self.last, captured, wire_len, 12, body_end)
            }
            _ => Some(None),
        }
    }

    fn interface(&self, number: u32) -> Option<(u32, &Interface)> {
        Some((number, self.interfaces.get(number as usize)?))
    }

    /// Moves to the next thing that looks like a block in every respect. False when the file has no more.
    fn seek<R: Read>(&mut self, window: &mut Window<R>) -> Result<bool, Damage> {
        window.take(1);
        loop {
            let offset = window.offset();
            let held = window.fill(12).map_err(|source| Damage::Read { offset, source })?;
            if held.len() < 12 {
                return Ok(false);
            }
            let order = section_order(held).unwrap_or(self.order);
            let kind = order.u32(held, 0).unwrap_or_default();
            let length = order.u32(held, 4).unwrap_or_default() as usize;
            let known = matches!(kind, SECTION | INTERFACE..=SIMPLE_PACKET | STATISTICS | ENHANCED_PACKET);
            if known && plausible(length) {
                let held = window.fill(length).map_err(|source| Damage::Read { offset, source })?;
                if order.u32(held, length - 4) == Some(length as u32) {
                    return Ok(true);
                }
            }
            // To the next byte that could begin a type: all known ones have a zero or a line feed first.
            let skip = window.held().iter().skip(1).position(|byte| matches!(byte, 0..=6 | 10)).unwrap_or(0) + 1;
            window.take(skip);
        }
    }
}

fn plausible(length: usize) -> bool {
    (12..=MAX_BLOCK).contains(&length) && length.is_multiple_of(4)
}

/// Byte order of the section that begins here.
fn section_order(head: &[u8]) -> Option<ByteOrder> {
    match head.get(..12)? {
        [0x0a, 0x0d, 0x0d, 0x0a, _, _, _, _, 0x4d, 0x3c, 0x2b, 0x1a] => Some(ByteOrder::Little),
        [0x0a, 0x0d, 0x0d, 0x0a, _, _, _, _, 0x1a, 0x2b, 0x3c, 0x4d] => Some(ByteOrder::Big),
        _ => None,
    }
}

fn found(
    (number, interface): (u32, &Interface),
    ticks: Option<u64>,
    last: Ts,
    captured: u32,
    wire_len: u32,
    start: usize,
    body_end: usize,
) -> Option<Option<Found>> {
    let length = captured as usize;
    if start + length > body_end {
        return None;
    }
    let at = ticks.map_or(last, |ticks| interface.clock.at(ticks));
    Some(Some(Found { at, interface: number, link: interface.link, wire_len: wire_len.max(captured), start, length }))
}

impl Clock {
    fn at(self, ticks: u64) -> Ts {
        let Clock { ticks_per_second, offset_s } = self;
        let seconds = (ticks / ticks_per_second).saturating_add_signed(offset_s);
        let rest = u128::from(ticks % ticks_per_second) * 1_000_000_000 / u128::from(ticks_per_second);
        Ts(seconds.saturating_mul(1_000_000_000).saturating_add(rest as u64))
    }
}

fn clock(mut options: &[u8], order: ByteOrder) -> Clock {
    let mut clock = Clock { ticks_per_second: 1_000_000, offset_s: 0 };
    while let (Some(code), Some(length)) = (order.u16(options, 0), order.u16(options, 2)) {
        let length = usize::from(length);
        let Some(value) = options.get(4..4 + length) else { break };
        match (code, value) {
            (0, _) => break,
            (OPTION_TSRESOL, &[exponent]) => {
                let base: u64 = if exponent & 0x80 == 0 { 10 } else { 2 };
                // Finer than 10^-19 or 2^-63 no clock counts.
                clock.ticks_per_second = base.checked_pow(u32::from(exponent & 0x7f)).unwrap_or(1_000_000);
            }
            (OPTION_TSOFFSET, _) => clock.offset_s = order.u64(value, 0).unwrap_or_default().cast_signed(),
            _ => {}
        }
        options = options.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
    }
    clock
}
