//! What the readers of both formats give out, and what may be wrong with a file.

use flow_model::Ts;
use std::io;
use thiserror::Error;

/// Longest packet that is believed: above any snaplen in use (tcpdump's is 256 KiB), below what a
/// wrong length would claim.
pub(super) const MAX_PACKET: usize = 1 << 20;

/// One packet of a capture file.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Since the Unix epoch.
    pub at: Ts,
    /// The interface that it was seen at: 0 where the file knows of only one.
    pub interface: u32,
    /// Number of the link type as tcpdump.org's registry has it.
    pub link: u16,
    /// Bytes that the packet had on the wire.
    pub wire_len: u32,
    /// What the capture kept, from the link header on; may be shorter than `wire_len`.
    pub data: &'a [u8],
}

/// What is wrong with a file, and where. Offsets count the decompressed bytes.
#[derive(Debug, Error)]
pub enum Damage {
    /// The first bytes are of no format that is read.
    #[error("not a capture file: neither pcap nor pcapng")]
    NotACapture,
    /// Compressed, and not by gzip.
    #[error("compressed by {by}: unpack it first (`{by} -dc FILE | pilotfish replay -`)")]
    Compressed {
        /// The program that made it, and unpacks it.
        by: &'static str,
    },
    /// A pcap file of a version that is not read.
    #[error("pcap version {major}.{minor} is not known")]
    Version {
        /// As in the file's header.
        major: u16,
        /// As in the file's header.
        minor: u16,
    },
    /// The file ends too early, as that of a writer that was killed.
    #[error("ends in the middle of a packet or block at byte {offset}")]
    Truncated {
        /// Where the packet or block begins; in a file's head, where the file ends.
        offset: u64,
    },
    /// A length that no packet has: the file is broken here, or before.
    #[error("packet of {length} bytes at byte {offset}: no capture has such")]
    PacketLength {
        /// Where the packet begins.
        offset: u64,
        /// What the file says, in bytes.
        length: u64,
    },
    /// A pcapng block that contradicts itself.
    #[error("broken block at byte {offset}")]
    Block {
        /// Where it begins.
        offset: u64,
    },
    /// The stream failed, or its compressed data is broken.
    #[error("reading at byte {offset}")]
    Read {
        /// Where the packet or block begins that was being read; 0 in the file's head.
        offset: u64,
        /// What the stream said.
        #[source]
        source: io::Error,
    },
}

/// Byte order of a file or section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ByteOrder {
    #[default]
    Little,
    Big,
}

impl ByteOrder {
    pub fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == ByteOrder::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    pub fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == ByteOrder::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    pub fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == ByteOrder::Little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }
}
