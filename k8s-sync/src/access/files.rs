//! Small files that somebody else replaces while the agent runs.

use super::error::{NoAccess, read_error};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Kubeconfigs and certificates have some KiB.
pub(super) const LARGEST_FILE: u64 = 1 << 20;

/// Tells whether one of the files is another one now: size, inode and times of what the path leads
/// to, through all links. The kubelet replaces a pod's files by turning a link to another
/// directory, everything else by writing or renaming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    files: Vec<(PathBuf, Option<[i64; 5]>)>,
}

impl Fingerprint {
    /// Reads the state of each path now; one that is missing counts as a state, too.
    #[must_use]
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Fingerprint {
        Fingerprint { files: paths.into_iter().map(|path| (path.clone(), state(&path))).collect() }
    }

    /// False as soon as one file was replaced, changed, removed or has appeared.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.files.iter().all(|(path, then)| state(path) == *then)
    }
}

fn state(path: &Path) -> Option<[i64; 5]> {
    let meta = std::fs::metadata(path).ok()?;
    let signed = |number: u64| number.cast_signed();
    Some([signed(meta.ino()), signed(meta.size()), meta.mtime(), meta.mtime_nsec(), meta.ctime_nsec()])
}

/// What nobody may look at is there, as far as anybody can tell: reading it says what is wrong.
pub(super) fn is_there(path: &Path) -> bool {
    !std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

pub(super) fn check_size(path: &Path) -> Result<(), NoAccess> {
    let meta = std::fs::metadata(path).map_err(|source| read_error(path, source))?;
    if meta.len() > LARGEST_FILE {
        return Err(NoAccess::TooLarge { path: path.to_owned() });
    }
    Ok(())
}

/// A token without the line's end that editors leave.
pub(super) fn token(path: &Path) -> Result<String, NoAccess> {
    check_size(path)?;
    let text = std::fs::read_to_string(path).map_err(|source| read_error(path, source))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(NoAccess::Refused { place: path.display().to_string(), reason: "the token is empty".to_owned() });
    }
    Ok(token.to_owned())
}

/// The certificates of a PEM file, in DER.
pub(super) fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, NoAccess> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    check_size(path)?;
    let bytes = std::fs::read(path).map_err(|source| read_error(path, source))?;
    let refused = |reason: String| NoAccess::Refused { place: path.display().to_string(), reason };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| refused(error.to_string()))?;
    if all.is_empty() {
        return Err(refused("it holds no certificate".to_owned()));
    }
    Ok(all.into_iter().map(|certificate| certificate.to_vec()).collect())
}
