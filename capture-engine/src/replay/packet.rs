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
    /// Number of the link type as tcpdump.org's registry has it.
    pub link: u16,
    /// Bytes that the packet had on the wire.
    pub wire_len: u32,
    pub data: &'a [u8],
}

/// What is wrong with a file, and where. Offsets count the decompressed bytes.
#[derive(Debug, Error)]
pub enum Damage {
    #[error("not a capture file: neither pcap nor pcapng")]
    NotACapture,
    #[error("pcap version {major}.{minor} is not known")]
    Version { major: u16, minor: u16 },
    #[error("ends in the middle of a packet or block at byte {offset}")]
    Truncated { offset: u64 },
    #[error("packet of {length} bytes at byte {offset}: no capture has such")]
    PacketLength { offset: u64, length: u64 },
    #[error("broken block at byte {offset}")]
    Block { offset: u64 },
    #[error("reading at byte {offset}")]
    Read {
        offset: u64,
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
