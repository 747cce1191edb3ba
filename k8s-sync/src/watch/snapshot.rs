//! The table between runs: one file, replaced as a whole.
//!
//! ```text
//! pilotfish-k8s 1\n           magic and version
//! {"nodes": {uid: hash}}\n    what the watches themselves keep
//! ...                         the table's own snapshot, to the end
//! ```

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const MAGIC: &[u8] = b"pilotfish-k8s 1\n";
/// 100,000 pods take about 10 MiB. What is larger was not written by the agent.
const LARGEST: u64 = 256 << 20;

/// What the watches keep beside the table: how many nodes there were, so that a restarted agent
/// knows how long to wait for its turn.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    #[serde(default)]
    pub(super) nodes: BTreeMap<u128, u64>,
}

/// Reads a snapshot. None where there is none; the reason where it cannot be used.
pub(super) fn read<'a, T, E: Error + 'static>(
    path: Option<&Path>,
    load: impl FnOnce(&[u8]) -> Result<T, E> + 'a,
) -> Result<Option<(T, Kept)>, String> {
    let Some(path) = path else { return Ok(None) };
    let bytes = match fs::metadata(path).map(|meta| meta.len()) {
        Ok(length) if length > LARGEST => return Err(format!("{} is too large", path.display())),
        Ok(_) => fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("read {}: {error}", path.display())),
    };
    let (kept, table) = split(&bytes).ok_or_else(|| format!("{} is no snapshot of this version", path.display()))?;
    let table = load(table).map_err(|error| super::transport::chain(&error))?;
    Ok(Some((table, kept)))
}

fn split(bytes: &[u8]) -> Option<(Kept, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (line, table) = rest.split_at_checked(end)?;
    Some((serde_json::from_slice(line).ok()?, table.get(1..)?))
}

/// The bytes of a snapshot.
pub(super) fn encode(kept: &Kept, save: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    serde_json::to_writer(&mut bytes, kept)?;
    bytes.push(b'\n');
    save(&mut bytes)?;
    Ok(bytes)
}

/// Replaces the file: whoever reads it sees the old one or the new one, also after a power cut.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::create(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&next, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("k8s");
        (directory, path)
    }

    fn load(path: &Path) -> Result<Option<(Vec<u8>, Kept)>, String> {
        read(Some(path), |bytes| Ok::<_, io::Error>(bytes.to_vec()))
    }

    #[test]
    fn what_was_saved_is_read() {
        let (_directory, path) = place();
        let kept = Kept { nodes: BTreeMap::from([(u128::MAX, 7)]) };
        let bytes = encode(&kept, |out| out.write_all(b"the\ntable\0")).expect("encode");
        write(&path, &bytes).expect("write");
        assert_eq!(load(&path), Ok(Some((b"the\ntable\0".to_vec(), kept))));
        assert!(!path.with_extension("next").exists());
    }

    #[test]
    fn no_file_is_no_snapshot() {
        let (_directory, path) = place();
        assert_eq!(load(&path), Ok(None));
    }

    #[test]
    fn a_file_of_anything_else_is_refused_with_a_reason() {
        let (_directory, path) = place();
        let good = encode(&Kept::default(), |out| out.write_all(b"x")).expect("encode");
        for end in 0..good.len() - 1 {
            fs::write(&path, &good[..end]).expect("write");
            assert!(load(&path).is_err(), "cut after {end} bytes");
        }
        for bytes in [&b"pilotfish-k8s 2\n{}\n"[..], b"pilotfish-k8s 1\n{\"nodes\": 3}\n", b"\0\0\0\0"] {
            fs::write(&path, bytes).expect("write");
            assert!(load(&path).is_err());
        }
    }
}
