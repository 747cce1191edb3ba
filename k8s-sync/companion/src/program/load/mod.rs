//! `pilotfish-companion load`: the image from the package into this node's containerd, where the
//! kubelet finds it without a registry.

mod archive;
mod containerd;

use super::args::LoadArgs;
use super::exit::Failure;
use archive::{ArchiveError, Image};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whose containerd runs a node's pods: k3s brings its own, also where the system has one.
const SOCKETS: [&str; 2] = ["/run/k3s/containerd/containerd.sock", "/run/containerd/containerd.sock"];

/// What was loaded, and where to.
///
/// # Errors
/// There is no such archive, or no containerd; or it refuses.
pub fn load(args: &LoadArgs) -> Result<String, Failure> {
    let LoadArgs { archive, containerd, namespace } = args;
    let into = namespace.parse().ok().filter(|_| !namespace.is_empty());
    let into = into.ok_or_else(|| Failure::usage(format!("--namespace: {namespace:?} is none of containerd's")))?;
    let what = archive.display();
    let mut file = File::open(archive).map_err(|error| Failure::of_system(&what.to_string(), &error))?;
    let image = Image::of(&mut file).map_err(|error| match &error {
        ArchiveError::Read(source) => Failure::of_system(&what.to_string(), source),
        ArchiveError::Form(_) => Failure::usage(format!("{what} {error}")),
    })?;
    let socket = socket(containerd.as_deref(), &SOCKETS.map(PathBuf::from))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::software(format!("start: {error}")))?;
    let loaded = runtime.block_on(containerd::load(&socket, into, &image, &Arc::new(file)));
    loaded.map_err(|error| Failure::software(format!("containerd at {}: {error}", socket.display())))?;
    Ok(format!("{} is in namespace {namespace} of the containerd at {}\n", image.name, socket.display()))
}

/// The one that was asked for, or the first at which somebody listens.
fn socket(wanted: Option<&Path>, usual: &[PathBuf]) -> Result<PathBuf, Failure> {
    if let Some(wanted) = wanted {
        let what = format!("--containerd: {}", wanted.display());
        UnixStream::connect(wanted).map_err(|error| Failure::of_system(&what, &error))?;
        return Ok(wanted.to_owned());
    }
    for path in usual {
        match UnixStream::connect(path) {
            Ok(_) => return Ok(path.clone()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(Failure::of_system(&path.display().to_string(), &error));
            }
            // Nobody is there, or nobody any more.
            Err(_) => {}
        }
    }
    let usual: Vec<_> = usual.iter().map(|path| path.display().to_string()).collect();
    Err(Failure::usage(format!(
        "no containerd answers at {}: name its socket with --containerd, on a node that runs pods",
        usual.join(" or ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::exit::Exit;
    use std::os::unix::net::UnixListener;

    fn args(archive: &Path, containerd: &Path) -> LoadArgs {
        LoadArgs { archive: archive.into(), containerd: Some(containerd.into()), namespace: "k8s.io".to_owned() }
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("missing");
        let failure = load(&args(&missing, &missing)).expect_err("no archive");
        assert!(failure.exit == Exit::Usage && failure.to_string().contains("No such file"), "{failure}");
        let text = dir.path().join("text");
        std::fs::write(&text, "hello").expect("write");
        let failure = load(&args(&text, &missing)).expect_err("no archive");
        assert!(failure.exit == Exit::Usage && failure.to_string().contains("is no OCI image archive"), "{failure}");
        let namespace = "two\nlines".to_owned();
        let failure = load(&LoadArgs { namespace, ..args(&text, &missing) }).expect_err("no namespace");
        assert!(failure.to_string().starts_with("--namespace"), "{failure}");
        let failure = socket(None, &[missing]).expect_err("nobody");
        assert!(failure.exit == Exit::Usage && failure.to_string().contains("--containerd"), "{failure}");
    }

    #[test]
    fn the_first_that_answers_is_taken_unless_one_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let [gone, second, third] = ["gone", "second", "third"].map(|name| dir.path().join(name));
        drop(UnixListener::bind(&gone).expect("bind"));
        let _listening = [&second, &third].map(|path| UnixListener::bind(path).expect("bind"));
        let usual = [gone.clone(), second.clone(), third.clone()];
        assert_eq!(socket(None, &usual).ok(), Some(second));
        assert_eq!(socket(Some(&third), &usual).ok(), Some(third));
        let failure = socket(Some(&gone), &usual).expect_err("nobody listens");
        assert!(failure.to_string().contains("refused"), "{failure}");
    }
}
