//! Capture files as they come: both formats, both byte orders, every clock, compressed, damaged.
//! The pcap-file crate writes and reads along as an oracle.

use capture_engine::replay::{CaptureReader, Damage};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, TsResolution};
use proptest::prelude::*;
use std::borrow::Cow;
use std::io::{Cursor, Write};
use std::time::Duration;

/// (nanoseconds, link, wire length, bytes)
type Seen = (u64, u16, u32, Vec<u8>);

/// Every packet, and the damages in between.
fn read(bytes: Vec<u8>) -> (Vec<Seen>, Vec<String>) {
    let (mut packets, mut damages) = (Vec::new(), Vec::new());
    let mut reader = match CaptureReader::new(Cursor::new(bytes)) {
        Ok(reader) => reader,
        Err(damage) => return (packets, vec![damage.to_string()]),
    };
    loop {
        match reader.next() {
            Ok(Some(packet)) => packets.push((packet.at.0, packet.link, packet.wire_len, packet.data.to_vec())),
            Ok(None) => return (packets, damages),
            Err(damage) => damages.push(damage.to_string()),
        }
        assert!(damages.len() < 100_000, "a file ends");
    }
}

fn pcap(order: Endianness, resolution: TsResolution, packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let header = PcapHeader {
        endianness: order,
        ts_resolution: resolution,
        datalink: DataLink::ETHERNET,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for (nanos, data) in packets {
        let packet = PcapPacket::new(Duration::from_nanos(*nanos), data.len() as u32 + 7, data);
        writer.write_packet(&packet).unwrap();
    }
    writer.into_writer()
}

fn pcapng(order: Endianness, packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut writer = PcapNgWriter::with_endianness(Vec::new(), order).unwrap();
    for (link, resolution) in [(DataLink::ETHERNET, 6), (DataLink::RAW, 9), (DataLink::LINUX_SLL, 0x80 | 20)] {
        let options = vec![InterfaceDescriptionOption::IfTsResol(resolution)];
        let block = InterfaceDescriptionBlock { linktype: link, snaplen: 0xffff, options };
        writer.write_block(&block.into_block()).unwrap();
    }
    for (nanos, data) in packets {
        // The crate writes the count of nanoseconds as it is: right for the interface that counts them.
        let block = EnhancedPacketBlock {
            interface_id: 1,
            timestamp: Duration::from_nanos(*nanos),
            original_len: data.len() as u32 + 7,
            data: Cow::Borrowed(data),
            options: vec![],
        };
        writer.write_block(&block.into_block()).unwrap();
    }
    writer.into_inner()
}

fn some_packets() -> Vec<(u64, Vec<u8>)> {
    (1..=20u8).map(|n| (u64::from(n) * 1_000_001_000, vec![n; usize::from(n) * 3])).collect()
}

fn contents(packets: &[Seen]) -> Vec<(u64, Vec<u8>)> {
    packets.iter().map(|(nanos, _, _, data)| (*nanos, data.clone())).collect()
}

#[test]
fn classic_files_of_either_order_and_clock_are_read() {
    for order in [Endianness::Little, Endianness::Big] {
        for resolution in [TsResolution::MicroSecond, TsResolution::NanoSecond] {
            let (packets, damages) = read(pcap(order, resolution, &some_packets()));
            assert_eq!(contents(&packets), some_packets());
            assert!(packets.iter().all(|(_, link, wire, data)| *link == 1 && *wire == data.len() as u32 + 7));
            assert!(damages.is_empty());
        }
    }
}

#[test]
fn blocks_of_either_order_and_their_interfaces_are_read() {
    for order in [Endianness::Little, Endianness::Big] {
        let (packets, damages) = read(pcapng(order, &some_packets()));
        assert_eq!(contents(&packets), some_packets());
        assert!(packets.iter().all(|(_, link, wire, data)| *link == 101 && *wire == data.len() as u32 + 7));
        assert!(damages.is_empty());
    }
}

/// A little-endian block.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = 12 + body.len() as u32;
    [&kind.to_le_bytes(), &length.to_le_bytes(), body, &length.to_le_bytes()].concat()
}

fn section() -> Vec<u8> {
    let body = [0x1a2b_3c4d_u32.to_le_bytes().as_slice(), &[1, 0, 0, 0], &[0xff; 8]].concat();
    block(0x0a0d_0d0a, &body)
}

fn interface(link: u16, snaplen: u32, options: &[u8]) -> Vec<u8> {
    block(1, &[&link.to_le_bytes(), [0, 0].as_slice(), &snaplen.to_le_bytes(), options].concat())
}

#[test]
fn clocks_with_a_resolution_and_an_offset_of_their_own_are_followed() {
    let ticks = |kind: u32, interface: u32, ticks: u64, data: &[u8; 4]| {
        let body = [interface, (ticks >> 32) as u32, ticks as u32, 4, 4].map(u32::to_le_bytes).concat();
        block(kind, &[&body, data.as_slice()].concat())
    };
    let two_to_the_10 = [9, 0, 1, 0, 0x8a, 0, 0, 0, 14, 0, 8, 0, 100, 0, 0, 0, 0, 0, 0, 0];
    let file = [
        section(),
        interface(1, 0, &[]),
        interface(113, 0, &two_to_the_10),
        ticks(6, 1, 1024 + 512, b"abcd"),
        ticks(2, 0, 2_500_000, b"efgh"),
        block(3, &[2u32.to_le_bytes().as_slice(), b"ij\0\0"].concat()),
    ]
    .concat();
    let (packets, damages) = read(file);
    assert_eq!(damages, Vec::<String>::new());
    let seen: Vec<_> = packets.iter().map(|(nanos, link, _, data)| (*nanos, *link, data.as_slice())).collect();
    assert_eq!(
        seen,
        [
            (101_500_000_000, 113, b"abcd".as_slice()),
            (2_500_000_000, 1, b"efgh"),
            // A simple packet has no clock: the time of the one before.
            (2_500_000_000, 1, b"ij"),
        ]
    );
}

#[test]
fn compression_is_told_by_the_content() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&pcap(Endianness::Little, TsResolution::NanoSecond, &some_packets())).unwrap();
    let (packets, damages) = read(gzip.finish().unwrap());
    assert_eq!((contents(&packets), damages.len()), (some_packets(), 0));
}

#[test]
fn cut_file_gives_what_came_before_and_the_offset() {
    for whole in
        [pcap(Endianness::Little, TsResolution::NanoSecond, &some_packets()), pcapng(Endianness::Big, &some_packets())]
    {
        let (packets, damages) = read(whole[..whole.len() - 5].to_vec());
        assert_eq!(contents(&packets), some_packets()[..19]);
        assert_eq!(damages.len(), 1);
        assert!(damages[0].contains("ends in the middle"), "{damages:?}");
    }
}

#[test]
fn cut_gzip_gives_what_came_before() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&pcap(Endianness::Little, TsResolution::NanoSecond, &some_packets())).unwrap();
    let mut bytes = gzip.finish().unwrap();
    bytes.truncate(bytes.len() - 60);
    let (packets, damages) = read(bytes);
    assert!(packets.len() >= 15, "{}", packets.len());
    assert_eq!(damages.len(), 1);
}

#[test]
fn packets_behind_a_broken_block_are_found_again() {
    let mut bytes = pcapng(Endianness::Little, &some_packets());
    let ninth = bytes.windows(27).position(|window| window == [9; 27]).unwrap();
    // Its length field, 24 bytes before the data.
    bytes[ninth - 24] ^= 0x7c;
    let (packets, damages) = read(bytes);
    let mut expected = some_packets();
    expected.remove(8);
    assert_eq!(contents(&packets), expected);
    assert_eq!(damages.len(), 1);
}

#[test]
fn other_files_are_refused() {
    for bytes in [b"".as_slice(), b"GET / HTTP/1.1\r\n\r\n with more than a header", &[0; 100]] {
        assert!(matches!(CaptureReader::new(Cursor::new(bytes.to_vec())), Err(Damage::NotACapture)));
    }
}

proptest! {
    #[test]
    fn damage_anywhere_ends_in_an_error_or_in_packets(
        ng: bool, big: bool,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let order = if big { Endianness::Big } else { Endianness::Little };
        let mut bytes = if ng { pcapng(order, &some_packets()) } else { pcap(order, TsResolution::MicroSecond, &some_packets()) };
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let (packets, _) = read(bytes);
        prop_assert!(packets.len() <= 40);
    }
}
