//! The files of an image, as one layer: a tar that is the same for the same files.

use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Paths in the image without the leading slash, what is there, and whether it can be run.
#[derive(Debug, Default)]
pub(super) struct Files(BTreeMap<PathBuf, (Vec<u8>, bool)>);

impl Files {
    pub fn add(&mut self, path: &str, content: &[u8]) {
        self.0.insert(relative(Path::new(path)), (content.to_owned(), false));
    }

    /// A file of this machine; where that is a link, what it leads to.
    pub fn copy(&mut self, from: &Path, path: &Path, runs: bool) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        self.0.insert(relative(path), (content, runs));
        Ok(())
    }

    /// `date` is seconds since 1970, of all of them.
    pub fn tar(&self, date: u64) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        let ancestors = self.0.keys().flat_map(|path| path.ancestors().skip(1));
        let directories: BTreeSet<&Path> = ancestors.filter(|path| !path.as_os_str().is_empty()).collect();
        for directory in directories {
            tar.append_data(&mut header(EntryType::Directory, 0o755, 0, date), directory, std::io::empty())?;
        }
        for (path, (content, runs)) in &self.0 {
            let mode = if *runs { 0o755 } else { 0o644 };
            let mut header = header(EntryType::Regular, mode, content.len() as u64, date);
            tar.append_data(&mut header, path, content.as_slice())?;
        }
        Ok(tar.into_inner()?)
    }
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

/// Root's, and nothing else of this machine.
pub(super) fn header(kind: EntryType, mode: u32, size: u64, date: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(date);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_are_the_same_bytes_and_each_directory_is_there_once() -> Result<()> {
        let mut files = Files::default();
        files.copy(Path::new("/proc/self/cmdline"), Path::new("/usr/bin/program"), true)?;
        files.add("/usr/share/doc/text", b"text");
        files.add("etc/passwd", b"root");
        let bytes = files.tar(7)?;
        assert_eq!(bytes, files.tar(7)?);
        let mut listed = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries()? {
            let entry = entry?;
            let header = entry.header();
            assert_eq!((header.uid()?, header.gid()?, header.mtime()?), (0, 0, 7));
            listed.push((entry.path()?.to_string_lossy().into_owned(), header.mode()?));
        }
        let names: Vec<&str> = listed.iter().map(|(path, _)| path.trim_end_matches('/')).collect();
        let expected = [
            "etc",
            "usr",
            "usr/bin",
            "usr/share",
            "usr/share/doc",
            "etc/passwd",
            "usr/bin/program",
            "usr/share/doc/text",
        ];
        assert_eq!(names, expected);
        assert_eq!(listed[6].1, 0o755);
        assert_eq!(listed[7].1, 0o644);
        Ok(())
    }
}
