//! One image for all pods, made of the machine's own programs: an OCI image layout (image-spec v1)
//! in a tar, which containerd imports.

use crate::network::run;
use crate::programs::{built_binary, installed};
use crate::rootfs;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// busybox, nginx, redis-server, dnsmasq, and the testbed's own `loadgen` and `api`, all in `/bin`.
/// Never pulled: `imagePullPolicy: Never`.
pub const IMAGE: &str = "docker.io/testbed/programs:1";

/// The pause container's: the same files, another command.
pub(super) const PAUSE: &str = "docker.io/testbed/pause:1";

/// Makes the tar in `dir` and returns its path.
pub(super) fn make(dir: &Path) -> Result<PathBuf> {
    let (root, layout) = (dir.join("rootfs"), dir.join("image"));
    let (loadgen, api) = (built_binary("loadgen")?, built_binary("api")?);
    rootfs::create(&root, &[&loadgen, &api]).context("make the root file system")?;
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = layout.join("layer");
    let tar = installed("tar")?;
    run(Command::new(&tar).arg("-cf").arg(&layer).arg("--numeric-owner").arg("-C").arg(&root).arg("."))?;
    let layer = Blob::keep(&blobs, &layer)?;
    let manifests =
        [(IMAGE, json!(["/bin/sh"])), (PAUSE, json!(["/bin/sleep", "2147483647"]))].map(|(name, command)| {
            let config = json!({
                "architecture": architecture(),
                "os": "linux",
                "config": {"Cmd": command, "Env": ["PATH=/bin:/usr/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
            });
            let config = Blob::write(&blobs, &config)?;
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
                "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
            });
            let mut descriptor =
                Blob::write(&blobs, &manifest)?.descriptor("application/vnd.oci.image.manifest.v1+json");
            descriptor["annotations"] = json!({"io.containerd.image.name": name});
            Ok(descriptor)
        });
    let manifests = manifests.into_iter().collect::<Result<Vec<Value>>>()?;
    fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": manifests}).to_string())?;
    fs::write(layout.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    let image = dir.join("image.tar");
    run(Command::new(&tar).arg("-cf").arg(&image).arg("-C").arg(&layout).arg("."))?;
    fs::remove_dir_all(&layout)?;
    fs::remove_dir_all(&root)?;
    Ok(image)
}

/// Go's names of what Rust calls otherwise.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A file named by its content's digest.
struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    /// Moves a file to where its digest says.
    fn keep(blobs: &Path, file: &Path) -> Result<Blob> {
        let said = run(Command::new("sha256sum").arg(file))?;
        let digest = said.split_ascii_whitespace().next().context("sha256sum says nothing")?.to_owned();
        let size = fs::metadata(file)?.len();
        fs::rename(file, blobs.join(&digest))?;
        Ok(Blob { digest, size })
    }

    fn write(blobs: &Path, content: &Value) -> Result<Blob> {
        let file = blobs.join("new");
        fs::write(&file, content.to_string())?;
        Blob::keep(blobs, &file)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.size})
    }
}
