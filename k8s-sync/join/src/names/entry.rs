//! One name on the wire, and in which shard it is.

use crate::pack::{deflated, inflated};
use bytes::{Bytes, BytesMut};
use prost::Message;
use ring::digest::{SHA256, digest};

/// Each has some 400 names of 100,000.
pub const SHARDS: usize = 256;
/// A kind and a UUID take 17 bytes.
pub const NAME_KEY: usize = 64;
/// An EndpointSlice with 1,000 endpoints, the most that the API takes, has 100 KiB.
pub const NAME_VALUE: usize = 160 << 10;
/// Bytes of entries after which a part is closed: one more fits into `limits::PART`.
const FULL: usize = crate::limits::PART - NAME_KEY - NAME_VALUE - 64;

/// A name, or that it is no more.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Named {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
    #[prost(bool, tag = "3")]
    pub(super) gone: bool,
}

/// The same in every process and version: digests are compared over the wire.
pub(super) fn shard(key: &[u8]) -> usize {
    // FNV-1a, 64 bit; then mixed, since short keys leave its upper half alike (MurmurHash3, fmix64).
    let hash = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed >> 33) as usize % SHARDS
}

/// Of one entry; those of a shard are added up, so that an edit costs one sum.
pub(super) fn digest_of(key: &[u8], value: &[u8]) -> u64 {
    let mut bytes = Vec::with_capacity(4 + key.len() + value.len());
    bytes.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    let hash = digest(&SHA256, &bytes);
    hash.as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Deflated parts, none of which inflates to more than `limits::PART`.
pub(super) fn packed(names: impl Iterator<Item = Named>) -> Vec<Bytes> {
    let (mut parts, mut open) = (Vec::new(), BytesMut::new());
    for name in names {
        open.extend_from_slice(&name.encode_length_delimited_to_vec());
        if open.len() >= FULL {
            parts.push(deflated(&open));
            open.clear();
        }
    }
    if !open.is_empty() || parts.is_empty() {
        parts.push(deflated(&open));
    }
    parts
}

/// `None` where a part is damaged.
pub(super) fn unpacked(part: &Bytes) -> Option<Vec<Named>> {
    let mut plain = inflated(part).ok()?;
    let mut names = Vec::new();
    while !plain.is_empty() {
        let name = Named::decode_length_delimited(&mut plain).ok()?;
        if name.key.len() > NAME_KEY || name.value.len() > NAME_VALUE {
            return None;
        }
        names.push(name);
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_and_digests_are_those_of_every_version() {
        assert_eq!((shard(b""), shard(b"a"), shard(b"pods/1")), (249, 111, 236));
        assert_eq!(digest_of(b"", b""), 0xdf3f_6198_04a9_2fdb);
        assert_ne!(digest_of(b"a", b"bc"), digest_of(b"ab", b"c"));
    }
}
