//! Captures made of dialogues: TCP and UDP packets with times, in pcap files. Three of four are
//! then treated as a bad network and a bad capture would: packets lost, repeated, swapped, cut, the
//! beginning missing, the file damaged.

use super::dialogue::{self, Dice, Said};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

const SYN: u8 = 2;
const ACK: u8 = 16;
const PUSH: u8 = 8;
const FIN: u8 = 1;
const RST: u8 = 4;
const CLIENT: usize = 0;
const SERVER: usize = 1;

/// A packet and when it was seen, in microseconds.
#[derive(Clone, Debug)]
struct Packet {
    at: u64,
    bytes: Vec<u8>,
}

/// Writes captures number 0 to `count` into `dir`; the same number gives the same bytes everywhere.
pub fn write(dir: &Path, count: u32) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let mut files = Vec::new();
    for number in 0..count {
        let file = dir.join(format!("made-{number:04}.pcap"));
        fs::write(&file, capture(number)).with_context(|| format!("write {}", file.display()))?;
        files.push(file);
    }
    Ok(files)
}

fn capture(number: u32) -> Vec<u8> {
    let dice = &mut Dice::new(number);
    let mut packets = Vec::new();
    for flow in 0..1 + dice.roll(6) {
        packets.extend(flow_of(dice, flow));
    }
    packets.sort_by_key(|packet| packet.at);
    if !number.is_multiple_of(4) {
        spoil(dice, &mut packets);
    }
    let mut file = pcap(dice, number, &packets);
    if number % 16 == 7 {
        damage(dice, &mut file);
    }
    file
}

fn flow_of(dice: &mut Dice, flow: usize) -> Vec<Packet> {
    let (said, port) = match dice.roll(10) {
        0..=5 => (dialogue::http(dice), *dice.one_of(&[&80, &8080, &3000])),
        6 | 7 => {
            let ends = ends(flow, 53);
            let mut at = 1_000 + dice.roll(100_000) as u64;
            let said = dialogue::dns(dice);
            return said.iter().map(|said| datagram(dice, &ends, said, &mut at)).collect();
        }
        8 => (dialogue::dns_stream(dice), 53),
        _ => (dialogue::other(dice), 6379),
    };
    connection(dice, &ends(flow, port), &said)
}

/// Address and port of client and server.
type Ends = [([u8; 4], u16); 2];

fn ends(flow: usize, port: u16) -> Ends {
    let low = u8::try_from(flow % 200).unwrap_or(0);
    [([10, 0, 0, 10 + low], 40_000 + u16::from(low)), ([10, 0, 1, 1 + low / 2], port)]
}

fn datagram(dice: &mut Dice, ends: &Ends, said: &Said, at: &mut u64) -> Packet {
    *at += 100 + dice.roll(20_000) as u64;
    let from = if said.by_client { CLIENT } else { SERVER };
    let length = u16::try_from(said.bytes.len() + 8).unwrap_or(u16::MAX);
    let ports = [ends[from].1.to_be_bytes(), ends[1 - from].1.to_be_bytes()].concat();
    let udp = [ports.as_slice(), &length.to_be_bytes(), &[0, 0], &said.bytes].concat();
    Packet { at: *at, bytes: ethernet(ends, from, 17, &udp) }
}

/// A connection from its handshake to its end, which not every one has.
fn connection(dice: &mut Dice, ends: &Ends, said: &[Said]) -> Vec<Packet> {
    let mut at = 1_000 + dice.roll(100_000) as u64;
    // Near the end of the numbers now and then, so that they wrap.
    let first = |dice: &mut Dice| if dice.chance(10) { u32::MAX - 700 } else { dice.roll(1 << 30) as u32 };
    let mut sequence = [first(dice), first(dice)];
    let mut packets = Vec::new();
    let mut send = |dice: &mut Dice, sequence: &mut [u32; 2], from: usize, flags: u8, payload: &[u8]| {
        at += 20 + dice.roll(3_000) as u64;
        let acknowledged = if flags & ACK == 0 { 0 } else { sequence[1 - from] };
        let head = [ends[from].1.to_be_bytes(), ends[1 - from].1.to_be_bytes()].concat();
        let window = if dice.chance(1) { 0_u16 } else { 64_000 };
        let rest = [sequence[from].to_be_bytes(), acknowledged.to_be_bytes()].concat();
        let tail = [&[5 << 4, flags], &window.to_be_bytes()[..], &[0; 4], payload].concat();
        packets.push(Packet { at, bytes: ethernet(ends, from, 6, &[head, rest, tail].concat()) });
        let occupied = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        sequence[from] = sequence[from].wrapping_add(occupied);
    };
    send(dice, &mut sequence, CLIENT, SYN, b"");
    send(dice, &mut sequence, SERVER, SYN | ACK, b"");
    send(dice, &mut sequence, CLIENT, ACK, b"");
    for Said { by_client, bytes } in said {
        let from = if *by_client { CLIENT } else { SERVER };
        send(dice, &mut sequence, from, ACK | PUSH, bytes);
        if dice.chance(30) {
            send(dice, &mut sequence, 1 - from, ACK, b"");
        }
    }
    match dice.roll(4) {
        0 => send(dice, &mut sequence, SERVER, RST, b""),
        1 => {}
        _ => {
            send(dice, &mut sequence, SERVER, FIN | ACK, b"");
            send(dice, &mut sequence, CLIENT, FIN | ACK, b"");
        }
    }
    packets
}

/// Ethernet and IPv4 around `payload`. Nobody checks sums: a capture at the sender has none.
fn ethernet(ends: &Ends, from: usize, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 20).unwrap_or(u16::MAX).to_be_bytes();
    let ip = [0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
    [&[2_u8; 6][..], &[4; 6], &[8, 0], &ip[..], &ends[from].0, &ends[1 - from].0, payload].concat()
}

fn spoil(dice: &mut Dice, packets: &mut Vec<Packet>) {
    match dice.roll(5) {
        0 => packets.retain(|_| !dice.chance(5)),
        1 => {
            let mut again = Vec::new();
            for packet in packets.iter().filter(|_| dice.chance(10)) {
                again.push(Packet { at: packet.at + 250, bytes: packet.bytes.clone() });
            }
            packets.extend(again);
            packets.sort_by_key(|packet| packet.at);
        }
        2 => {
            for place in 1..packets.len() {
                if dice.chance(15) {
                    let (before, at) = (packets[place - 1].at, packets[place].at);
                    packets.swap(place - 1, place);
                    (packets[place - 1].at, packets[place].at) = (before, at);
                }
            }
        }
        3 => {
            packets.drain(..dice.roll(packets.len().max(1)));
        }
        _ => {
            packets.retain(|_| !dice.chance(2));
            packets.truncate(1 + dice.roll(packets.len().max(1)));
        }
    }
}

/// A file of one of four kinds: microseconds or nanoseconds, either byte order. A quarter keep the
/// first 200 bytes of a packet.
fn pcap(dice: &mut Dice, number: u32, packets: &[Packet]) -> Vec<u8> {
    let (nanoseconds, big_endian) = (number & 1 != 0, number & 2 != 0);
    let word = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let half = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let kept = if dice.chance(25) { 200 } else { 65_535 };
    let mut file = word(if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }).to_vec();
    file.extend([half(2), half(4)].concat());
    file.extend([word(0), word(0), word(kept), word(1)].concat());
    for Packet { at, bytes } in packets {
        let fraction = (at % 1_000_000) as u32 * if nanoseconds { 1_000 } else { 1 };
        let seconds = 1_790_000_000 + (at / 1_000_000) as u32;
        let stored = bytes.len().min(kept as usize);
        file.extend([word(seconds), word(fraction), word(stored as u32), word(bytes.len() as u32)].concat());
        file.extend(&bytes[..stored]);
    }
    file
}

/// Cut off, another beginning, or a length that cannot be.
fn damage(dice: &mut Dice, file: &mut Vec<u8>) {
    match dice.roll(3) {
        0 => file.truncate(dice.roll(file.len())),
        1 => file.splice(..4, *b"#!/b").for_each(drop),
        _ => {
            let at = 24 + dice.roll(file.len().saturating_sub(28).max(1));
            file.splice(at..(at + 4).min(file.len()), [0xff; 4]).for_each(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_gives_the_same_capture_every_time_and_another_number_another() {
        for number in 0..64 {
            assert_eq!(capture(number), capture(number));
        }
        assert_ne!(capture(0), capture(4));
    }

    #[test]
    fn an_undamaged_file_has_a_whole_number_of_packets() {
        let file = capture(0);
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes")) as usize;
        let (mut at, mut packets) = (24, 0);
        while at < file.len() {
            at += 16 + word(at + 8);
            packets += 1;
        }
        assert_eq!(at, file.len());
        assert!(packets > 5, "{packets}");
    }
}
