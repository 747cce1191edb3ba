//! The credential by which this node joins its companion, in the state directory: made here, once, and
//! read by nobody else.

use join::Kept;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const FILE: &str = "companion-credential";
/// A name and 64 digits.
const LARGEST: u64 = 4 << 10;
const OWN: u32 = 0o600;

/// Where it is kept.
#[derive(Clone, Debug)]
pub struct Credential(PathBuf);

impl Credential {
    #[must_use]
    pub fn within(directory: &Path) -> Credential {
        Credential(directory.join(FILE))
    }

    /// That of `node`, made and written down where there is none.
    ///
    /// # Errors
    /// It cannot be read, or not be written: then none is used.
    pub fn of(&self, node: &str) -> Result<Kept, String> {
        let shown = self.0.display();
        if let Some(text) = self.read().map_err(|error| format!("cannot read {shown}: {error}"))? {
            match Kept::read(&text) {
                Some(kept) if kept.node == node => return Ok(kept),
                Some(kept) => tracing::info!(was = kept.node, node, "the node has another name: another credential"),
                None => tracing::warn!(file = %shown, "the node's credential is damaged; another one takes its place"),
            }
        }
        let kept = Kept::new(node).ok_or("the system has no random numbers")?;
        self.keep(&kept)?;
        Ok(kept)
    }

    fn read(&self) -> io::Result<Option<String>> {
        let file = match File::open(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(OWN))?;
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The whole of it or nothing.
    ///
    /// # Errors
    /// With what the disk said.
    pub fn keep(&self, kept: &Kept) -> Result<(), String> {
        self.write(kept).map_err(|error| format!("cannot write {}: {error}", self.0.display()))
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        let part = self.0.with_extension("part");
        let written = (|| {
            // One that was left behind may have another mode.
            match fs::remove_file(&part) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(OWN).open(&part)?;
            file.write_all(kept.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&part, &self.0)?;
            // The companion is told of it next: after a crash it must be there.
            match self.0.parent() {
                Some(directory) => File::open(directory)?.sync_all(),
                None => Ok(()),
            }
        })();
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn it_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let credential = Credential::within(directory.path());
        fs::write(directory.path().join("companion-credential.part"), "left behind").expect("write");
        let made = credential.of("n1").expect("made");
        assert!(!made.joined && mode(&credential.0) == OWN);
        credential.keep(&Kept { joined: true, ..made.clone() }).expect("kept");
        let read = credential.of("n1").expect("read");
        assert!(read.joined && read.credential.hash() == made.credential.hash());
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);
        // Whoever copied it there did not look.
        fs::set_permissions(&credential.0, Permissions::from_mode(0o644)).expect("chmod");
        credential.of("n1").expect("read");
        assert_eq!(mode(&credential.0), OWN);
    }

    #[test]
    fn another_node_and_a_damaged_file_get_another_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let credential = Credential::within(directory.path());
        let first = credential.of("n1").expect("made").credential.hash();
        let second = credential.of("n2").expect("made").credential.hash();
        fs::write(&credential.0, vec![0xff; 10_000]).expect("write");
        let third = credential.of("n2").expect("made").credential.hash();
        assert!(first != second && second != third && first != third);
    }

    #[test]
    fn where_nothing_can_be_written_there_is_none() {
        let credential = Credential::within(Path::new("/proc/self"));
        assert!(credential.of("n1").is_err_and(|error| error.starts_with("cannot write /proc/self/companion-cred")));
    }
}
