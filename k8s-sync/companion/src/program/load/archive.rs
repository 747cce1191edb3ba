//! An image as one file: an OCI image layout (image-spec v1.0, image-layout.md) in a tar, as
//! `cargo xtask image` makes it and the package brings it.

use serde::Deserialize;
use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

/// Index, manifest and configuration have some KiB.
const LARGEST_TEXT: u64 = 1 << 20;
/// A layout of ours has six files.
const MOST_FILES: usize = 64;
/// By this annotation `ctr images import` knows what an image is called, too.
const NAME: &str = "io.containerd.image.name";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub media_type: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    pub size: u64,
    /// Where it begins in the archive.
    pub at: u64,
}

/// What is to be loaded. Whether each blob is what its digest says is for containerd to find out.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    pub name: String,
    pub manifest: Blob,
    pub config: Blob,
    pub layers: Vec<Blob>,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("read it: {0}")]
    Read(#[from] std::io::Error),
    #[error("is no OCI image archive: {0}")]
    Form(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Image {
    /// Reads what the archive says of itself, and no layer.
    ///
    /// # Errors
    /// It is no archive with exactly one image that has a name.
    pub fn of(archive: &mut (impl Read + Seek)) -> Result<Image, ArchiveError> {
        let files = files(archive)?;
        let index: Index = json(archive, "index.json", files.get("index.json").copied())?;
        let [manifest] = index.manifests.as_slice() else {
            return Err(ArchiveError::Form(format!("it has {} images, not one", index.manifests.len())));
        };
        let name = manifest.annotations.get(NAME).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| ArchiveError::Form(format!("its image has no name (annotation {NAME})")))?;
        if manifest.media_type != MANIFEST {
            return Err(ArchiveError::Form(format!("its image is of type {:?}", manifest.media_type)));
        }
        let blob = |descriptor: &Descriptor| blob(descriptor, &files);
        let of_manifest = blob(manifest)?;
        let Manifest { config, layers } = json(archive, "the manifest", Some((of_manifest.at, of_manifest.size)))?;
        Ok(Image {
            name: name.clone(),
            manifest: of_manifest,
            config: blob(&config)?,
            layers: layers.iter().map(blob).collect::<Result<_, _>>()?,
        })
    }

    /// In the order in which each has what it points to before it.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config, &self.manifest])
    }
}

/// Where each file begins, and its size.
fn files(archive: &mut (impl Read + Seek)) -> Result<HashMap<String, (u64, u64)>, ArchiveError> {
    archive.seek(SeekFrom::Start(0))?;
    let mut tar = tar::Archive::new(archive);
    let mut files = HashMap::new();
    let form = |error: std::io::Error| ArchiveError::Form(format!("as a tar: {error}"));
    for entry in tar.entries_with_seek().map_err(form)? {
        let entry = entry.map_err(form)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        if files.len() >= MOST_FILES {
            return Err(ArchiveError::Form(format!("it has more than {MOST_FILES} files")));
        }
        let path = entry.path().map_err(form)?.to_string_lossy().trim_start_matches("./").to_owned();
        files.insert(path, (entry.raw_file_position(), entry.size()));
    }
    Ok(files)
}

fn json<T: for<'a> Deserialize<'a>>(
    archive: &mut (impl Read + Seek),
    what: &str,
    place: Option<(u64, u64)>,
) -> Result<T, ArchiveError> {
    let (at, size) = place.ok_or_else(|| ArchiveError::Form(format!("it has no {what}")))?;
    if size > LARGEST_TEXT {
        return Err(ArchiveError::Form(format!("{what} has more than 1 MiB")));
    }
    archive.seek(SeekFrom::Start(at))?;
    let mut text = Vec::new();
    archive.take(size).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(|error| ArchiveError::Form(format!("{what}: {error}")))
}

fn blob(descriptor: &Descriptor, files: &HashMap<String, (u64, u64)>) -> Result<Blob, ArchiveError> {
    let Descriptor { media_type, digest, size, .. } = descriptor;
    let form = |fault: &str| ArchiveError::Form(format!("blob {digest:?}: {fault}"));
    let hex =
        digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let hex = hex.ok_or_else(|| form("no SHA-256"))?;
    let (at, there) = *files.get(&format!("blobs/sha256/{hex}")).ok_or_else(|| form("not in the archive"))?;
    if there != *size {
        return Err(form(&format!("{there} bytes, and it should have {size}")));
    }
    Ok(Blob { media_type: media_type.clone(), digest: digest.clone(), size: *size, at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::io::Cursor;

    fn hex(of: u8) -> String {
        char::from(of).to_string().repeat(64)
    }

    fn descriptor(of: u8, content: &str) -> Value {
        json!({"mediaType": MANIFEST, "digest": format!("sha256:{}", hex(of)), "size": content.len()})
    }

    fn tar(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, content.as_bytes()).expect("in memory");
        }
        tar.into_inner().expect("in memory")
    }

    /// Of one layer, with what a story changes.
    fn archive(change: impl Fn(&mut Value, &mut Value)) -> Vec<u8> {
        let (layer, config) = ("a layer", "{}");
        let mut manifest = json!({"config": descriptor(b'c', config), "layers": [descriptor(b'1', layer)]});
        let mut index = json!({"manifests": [{"annotations": {NAME: "docker.io/library/x:1"}}]});
        change(&mut index, &mut manifest);
        let manifest = manifest.to_string();
        if let Some(first) = index["manifests"].get_mut(0).and_then(Value::as_object_mut) {
            for (key, value) in descriptor(b'a', &manifest).as_object().cloned().unwrap_or_default() {
                first.entry(key).or_insert(value);
            }
        }
        let path = |of: u8| format!("blobs/sha256/{}", hex(of));
        tar(&[
            ("oci-layout", "{}"),
            (&path(b'1'), layer),
            (&path(b'c'), config),
            (&path(b'a'), &manifest),
            ("index.json", &index.to_string()),
        ])
    }

    fn read(archive: Vec<u8>) -> Result<Image, String> {
        Image::of(&mut Cursor::new(archive)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_archive_says_what_is_to_be_loaded_and_where_it_is() {
        let bytes = archive(|_, _| {});
        let image = read(bytes.clone()).expect("an archive");
        assert_eq!(image.name, "docker.io/library/x:1");
        let contents: Vec<&[u8]> =
            image.blobs().take(2).map(|blob| &bytes[blob.at as usize..(blob.at + blob.size) as usize]).collect();
        assert_eq!(contents, [b"a layer".as_slice(), b"{}"]);
        assert_eq!(image.blobs().last(), Some(&image.manifest));
    }

    #[test]
    fn what_is_none_is_refused_with_what_is_wrong() {
        let wrong = |change: fn(&mut Value, &mut Value)| read(archive(change)).expect_err("refused");
        assert!(wrong(|index, _| index["manifests"] = json!([])).contains("it has 0 images, not one"));
        assert!(wrong(|index, _| index["manifests"][0]["annotations"] = json!({})).contains("no name"));
        assert!(wrong(|index, _| index["manifests"][0]["mediaType"] = json!("x")).contains("of type \"x\""));
        assert!(wrong(|_, manifest| manifest["config"]["digest"] = json!("sha256:../../x")).contains("no SHA-256"));
        assert!(
            wrong(|_, manifest| manifest["layers"][0]["size"] = json!(1)).contains("7 bytes, and it should have 1")
        );
        let other = format!("sha256:{}", hex(b'f'));
        assert!(read(archive(|_, manifest| manifest["layers"][0]["digest"] = json!(other))).is_err());
        assert!(read(tar(&[("oci-layout", "{}")])).is_err_and(|error| error.contains("it has no index.json")));
        assert!(read(b"#!/bin/sh".to_vec()).is_err());
        assert!(read(Vec::new()).is_err());
        let many: Vec<String> = (0..100).map(|n| format!("f{n}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|path| (path.as_str(), "")).collect();
        assert!(read(tar(&many)).is_err_and(|error| error.contains("more than 64 files")));
    }

    proptest! {
        /// Whatever is in the file: an image or a word, and no panic.
        #[test]
        fn a_damaged_archive_is_an_error_or_an_image(at in 0usize..8192, byte: u8, cut in 0usize..8192) {
            let mut bytes = archive(|_, _| {});
            let (length, at) = (bytes.len(), at % bytes.len());
            bytes[at] = byte;
            bytes.truncate(length - cut % length);
            let _ = read(bytes);
        }
    }
}
