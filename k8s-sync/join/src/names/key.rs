//! The key of a name, as an agent keeps one for each name of the cluster.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A kind and a UUID take 17 bytes.
const SHORT: usize = 22;

/// Short ones are in place: a handle and an allocation for each would double what the names take.
#[derive(Clone)]
pub(super) enum Key {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Key {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Key::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Key::Long(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Key {
        let mut short = [0; SHORT];
        match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(bytes);
                Key::Short(length, short)
            }
            _ => Key::Long(bytes.into()),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.bytes()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashbrown::HashMap;

    #[test]
    fn a_key_is_found_by_its_bytes_however_long_it_is() {
        // With its digest, and the map's byte for it.
        assert_eq!(size_of::<(Key, u64)>(), 32);
        let bytes: Vec<u8> = (0..=255).collect();
        let mut keys: HashMap<Key, usize, foldhash::fast::RandomState> = HashMap::default();
        for length in 0..=bytes.len() {
            keys.insert(Key::from(&bytes[..length]), length);
        }
        assert_eq!(keys.len(), 257);
        for length in 0..=bytes.len() {
            assert_eq!(keys.get(&bytes[..length]), Some(&length));
        }
    }
}
