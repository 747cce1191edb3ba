//! One image as one file: an OCI image layout (image-spec v1.0, image-layout.md) in a tar.

use super::layer::header;
use anyhow::Result;
use flate2::{Compression, GzBuilder};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::io::Write;
use tar::{Builder, EntryType};

/// What is told of an image besides its files.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    /// In full, as the kubelet asks for it.
    pub name: &'a str,
    pub title: &'a str,
    pub version: &'a str,
    pub commit: &'a str,
    /// Go's name of it.
    pub architecture: &'a str,
    /// What runs where a pod says nothing else.
    pub command: &'a [&'a str],
    /// Number of user and group.
    pub user: u32,
    /// Seconds since 1970.
    pub date: u64,
}

struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn of(bytes: Vec<u8>) -> Blob {
        Blob { digest: sha256(&bytes), bytes }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len()})
    }
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The archive with an image of one layer.
pub(super) fn archive(layer: &[u8], about: &About) -> Result<Vec<u8>> {
    let About { name, title, version, commit, architecture, command, user, date } = *about;
    // Without a name and a time inside.
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(layer)?;
    let packed = Blob::of(gzip.finish()?);
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": format!("{user}:{user}"),
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": command,
            "Labels": {
                "org.opencontainers.image.title": title,
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.revision": commit,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer))]},
    });
    let config = Blob::of(config.to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [packed.descriptor("application/vnd.oci.image.layer.v1.tar+gzip")],
    });
    let manifest = Blob::of(manifest.to_string().into_bytes());
    let mut described = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
    described["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": version});
    let index = json!({"schemaVersion": 2, "manifests": [described]}).to_string();
    let layout = json!({"imageLayoutVersion": "1.0.0"}).to_string();
    let mut tar = Builder::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8]| {
        tar.append_data(&mut header(EntryType::Regular, 0o644, bytes.len() as u64, date), path, bytes)
    };
    add("oci-layout", layout.as_bytes())?;
    add("index.json", index.as_bytes())?;
    for blob in [&manifest, &config, &packed] {
        add(&format!("blobs/sha256/{}", blob.digest), &blob.bytes)?;
    }
    Ok(tar.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read;

    const ABOUT: About = About {
        name: "docker.io/library/x:1.2.3",
        title: "x",
        version: "1.2.3",
        commit: "abc",
        architecture: "amd64",
        command: &["x", "serve"],
        user: 65_532,
        date: 7,
    };

    /// By its path.
    fn files(archive: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries()? {
            let mut entry = entry?;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            files.insert(entry.path()?.to_string_lossy().into_owned(), bytes);
        }
        Ok(files)
    }

    #[test]
    fn each_part_points_to_the_next_by_its_digest() -> Result<()> {
        let archive = archive(b"the layer", &ABOUT)?;
        assert_eq!(archive, super::archive(b"the layer", &ABOUT)?, "the same bytes");
        let files = files(&archive)?;
        assert_eq!(files.len(), 5);
        let blob = |descriptor: &Value| -> Vec<u8> {
            let digest = descriptor["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
            let bytes = files[&format!("blobs/sha256/{digest}")].clone();
            assert_eq!((sha256(&bytes).as_str(), descriptor["size"].as_u64()), (digest, Some(bytes.len() as u64)));
            bytes
        };
        let index: Value = serde_json::from_slice(&files["index.json"])?;
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], ABOUT.name);
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0]))?;
        let config: Value = serde_json::from_slice(&blob(&manifest["config"]))?;
        assert_eq!(config["config"]["User"], "65532:65532");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(blob(&manifest["layers"][0]).as_slice()).read_to_end(&mut unpacked)?;
        assert_eq!(unpacked, b"the layer");
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(b"the layer")));
        Ok(())
    }

    #[test]
    fn a_digest_is_sha_256s() {
        // FIPS 180-4's first example.
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
