//! Docker's names. It gives containerd none: they stand in a file of its own beside each container,
//! which says what `docker ps` and `docker compose ps` say. Its API is never asked: that socket is
//! root's power.

use crate::container::ContainerRef;
use crate::name::Labels;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The only label that Docker gives its containers in containerd; nobody else has it.
const BUNDLE: &str = "com.docker/engine.bundle.path";
/// As Docker writes it the file has 3 KiB, and as much more as the container has labels and
/// variables. A larger one is not read.
const LARGEST: u64 = 256 << 10;
/// Of the container, or of the one whose network it shares.
const OF_THE_NETWORK: [(&str, &str); 3] =
    [("/etc/hostname", "hostname"), ("/etc/hosts", "hosts"), ("/etc/resolv.conf", "resolv.conf")];

/// What containerd has of a container.
#[derive(Clone, Debug)]
pub struct Described {
    pub labels: Labels,
    /// Where more stands of it.
    pub docker: Option<DockerFile>,
}

/// Where Docker keeps what it knows of a container, and what was read of it.
#[derive(Clone, Debug)]
pub struct DockerFile {
    path: PathBuf,
    /// What was read when. None: it could not be, or was not yet.
    pub read: Option<(Stamp, Labels)>,
}

/// Docker writes the file anew each time, so another content is another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Stamp {
        let modified = (file.mtime(), file.mtime_nsec());
        Stamp { dev: file.dev(), ino: file.ino(), size: file.size(), modified }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("it is no file of at most {LARGEST} bytes")]
    Kind,
    #[error("it is not what Docker writes")]
    Json(#[from] serde_json::Error),
    #[error("it is of another container")]
    Other,
}

impl DockerFile {
    /// None where the container is not Docker's. `spec` is its OCI specification in JSON.
    pub fn of(id: &str, labels: &HashMap<String, String>, spec: &[u8]) -> Option<DockerFile> {
        if !labels.contains_key(BUNDLE) || !is_id(id) {
            return None;
        }
        let Spec { mounts } = serde_json::from_slice(spec).ok()?;
        let root = mounts.iter().find_map(Mount::containers)?;
        Some(DockerFile { path: root.join(id).join("config.v2.json"), read: None })
    }

    /// Reads it, unless it is still what was read before. Blocks, as files do.
    pub fn refresh(&mut self, container: &ContainerRef) -> Result<Changed, Unread> {
        let before = self.read.take();
        // Asked before it is opened: to open what is no file may wait for ever.
        let found = std::fs::metadata(&self.path)?;
        if before.as_ref().is_some_and(|(stamp, _)| *stamp == Stamp::of(&found)) {
            self.read = before;
            return Ok(Changed(false));
        }
        if !found.is_file() || found.len() > LARGEST {
            return Err(Unread::Kind);
        }
        let mut file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        let mut text = Vec::new();
        file.by_ref().take(LARGEST).read_to_end(&mut text)?;
        self.read = Some((Stamp::of(&metadata), parse(&container.id, &text)?));
        Ok(Changed(true))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that is known of the container: what containerd has, and what Docker has.
    pub fn over(&self, containerd: &Labels) -> Labels {
        match &self.read {
            Some((_, docker)) => containerd.overlaid(docker),
            None => containerd.clone(),
        }
    }
}

/// Whether a file was read that is another than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed(pub bool);

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    mounts: Vec<Mount>,
}

#[derive(Deserialize)]
struct Mount {
    #[serde(default)]
    destination: String,
    #[serde(default)]
    source: String,
}

impl Mount {
    /// `<data-root>/containers`, from the mount of one of the three files that Docker makes for
    /// each network.
    fn containers(&self) -> Option<&Path> {
        let (_, name) = OF_THE_NETWORK.iter().find(|(destination, _)| *destination == self.destination)?;
        let of_container = Path::new(&self.source).strip_prefix("/").ok()?.parent()?;
        let is_one = is_id(of_container.file_name()?.to_str()?) && self.source.ends_with(&format!("/{name}"));
        let containers = Path::new(&self.source).parent()?.parent()?;
        (is_one && containers.file_name()? == "containers").then_some(containers)
    }
}

/// As Docker makes it: 64 hexadecimal digits.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    #[serde(default)]
    config: Option<Inner>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inner {
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
}

fn parse(id: &str, text: &[u8]) -> Result<Labels, Unread> {
    let Config { id: of, name, config } = serde_json::from_slice(text)?;
    if of != id {
        return Err(Unread::Other);
    }
    let labels = config.and_then(|Inner { labels }| labels).unwrap_or_default();
    Ok(Labels::of_docker(name.strip_prefix('/').unwrap_or(&name), &labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::LinkId;
    use crate::name::LocalName;
    use proptest::prelude::*;
    use std::fs;

    fn id(digit: &str) -> String {
        digit.repeat(64)
    }

    fn container() -> ContainerRef {
        ContainerRef::new(LinkId(0), "moby", id("a"))
    }

    /// What Docker writes, shortened to what surrounds the two that are read.
    fn written(name: &str, labels: &str) -> String {
        format!(
            r#"{{"StreamConfig":{{}},"State":{{"Running":true,"Paused":false,"Pid":4711,"Health":null}},"ID":"{}",
"Created":"2025-11-28T10:00:00.123456789Z","Managed":false,"Path":"nginx","Args":["-g","daemon off;"],
"Config":{{"Hostname":"aaaaaaaaaaaa","User":"","ExposedPorts":{{"80/tcp":{{}}}},"Env":["Name=/not/this"],
"Image":"nginx","Volumes":null,"Entrypoint":null,"OnBuild":null,"Labels":{labels}}},
"NetworkSettings":{{"Networks":{{"bridge":{{"Aliases":null,"IPAddress":"172.17.0.2"}}}},"Ports":{{"80/tcp":null}}}},
"LogPath":"","Name":"{name}","Driver":"overlay2","OS":"linux","RestartCount":0,"HasBeenStartedBefore":true,
"MountPoints":{{}},"SecretReferences":null,"NoNewPrivileges":false,"LocalLogCacheMeta":{{"HaveNotifyEnabled":false}}}}"#,
            id("a")
        )
    }

    fn spec(mounts: &[(&str, &str)]) -> Vec<u8> {
        let mounts: Vec<_> = mounts
            .iter()
            .map(|(to, from)| serde_json::json!({"destination": to, "type": "bind", "source": from, "options": ["rbind"]}))
            .collect();
        serde_json::json!({"ociVersion": "1.0.2-dev", "process": {"args": ["nginx"]}, "mounts": mounts})
            .to_string()
            .into_bytes()
    }

    fn path(id: &str, label: &str, mounts: &[(&str, &str)]) -> Option<String> {
        let labels = HashMap::from([(label.to_owned(), String::new())]);
        DockerFile::of(id, &labels, &spec(mounts)).map(|file| file.path.display().to_string())
    }

    #[test]
    fn the_data_root_is_where_the_files_of_the_network_come_from() {
        let own = format!("/var/lib/docker/containers/{}", id("a"));
        let (hostname, hosts) = (format!("{own}/hostname"), format!("{own}/hosts"));
        let proc = ("/proc", "proc");
        let expected = Some(format!("{own}/config.v2.json"));
        assert_eq!(path(&id("a"), BUNDLE, &[proc, ("/etc/hostname", &hostname)]), expected);
        // Somebody gives the container a hostname of his own.
        assert_eq!(path(&id("a"), BUNDLE, &[("/etc/hostname", "/srv/name"), ("/etc/hosts", &hosts)]), expected);
        // With `--network container:` these files are the other one's.
        let other = format!("/srv/docker/100000.100000/containers/{}/hostname", id("b"));
        assert_eq!(
            path(&id("a"), BUNDLE, &[("/etc/hostname", &other)]),
            Some(format!("/srv/docker/100000.100000/containers/{}/config.v2.json", id("a")))
        );
    }

    #[test]
    fn what_is_not_dockers_has_no_file() {
        let own = format!("/var/lib/docker/containers/{}/hostname", id("a"));
        let mount = ("/etc/hostname", own.as_str());
        assert_eq!(path(&id("a"), "nerdctl/name", &[mount]), None);
        assert_eq!(path("web", BUNDLE, &[mount]), None);
        assert_eq!(path(&id("a"), BUNDLE, &[]), None);
        for source in ["containers/x/hostname", "/hostname", "", "/", "/containers/web/hostname"] {
            assert_eq!(path(&id("a"), BUNDLE, &[("/etc/hostname", source)]), None, "{source}");
        }
        let elsewhere = format!("/var/lib/docker/sandboxes/{}/hostname", id("a"));
        assert_eq!(path(&id("a"), BUNDLE, &[("/etc/hostname", &elsewhere)]), None);
        let labels = HashMap::from([(BUNDLE.to_owned(), String::new())]);
        assert!(DockerFile::of(&id("a"), &labels, b"not json").is_none());
    }

    fn name(text: &str) -> Result<String, Unread> {
        let labels = parse(&id("a"), text.as_bytes())?;
        let LocalName { workload, source, .. } = LocalName::of(&container(), &labels);
        Ok(format!("{} {}/{} {source:?}", workload.kind.as_str(), workload.namespace, workload.name))
    }

    #[test]
    fn a_container_is_called_as_docker_ps_calls_it() {
        let of = |name_, labels| name(&written(name_, labels)).expect("Docker wrote it");
        assert_eq!(of("/web", "{}"), "Container moby/web Docker");
        assert_eq!(of("/web", "null"), "Container moby/web Docker");
        assert_eq!(of("", "{}"), "Container moby/aaaaaaaaaaaa ContainerId");
        // What an image says of itself is no name.
        assert_eq!(of("/web", r#"{"nerdctl/name":"x","maintainer":"y"}"#), "Container moby/web Docker");
        let compose = r#"{"com.docker.compose.project":"shop","com.docker.compose.service":"web"}"#;
        assert_eq!(of("/shop-web-1", compose), "Container moby/shop-web Compose");
        // Of cri-dockerd.
        let pod = r#"{"io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.name":"web-0",
            "io.kubernetes.container.name":"POD","io.kubernetes.docker.type":"podsandbox"}"#;
        assert_eq!(of("/k8s_POD_web-0_shop_u_0", pod), "Pod shop/web-0 PodContainer");
    }

    #[test]
    fn what_docker_did_not_write_is_no_name() {
        assert!(matches!(name(&written("/web", "{}").replace(&id("a"), &id("b"))), Err(Unread::Other)));
        for text in ["", "{}", "[]", "null", r#"{"ID":1}"#, r#"{"Name":"/web"}"#] {
            assert!(matches!(name(text), Err(Unread::Json(_))), "{text}");
        }
        let whole = written("/web", "{}");
        assert!(matches!(name(&whole[..whole.len() - 1]), Err(Unread::Json(_))));
        let deep = whole.replace("null", &format!("{}{}", "[".repeat(9000), "]".repeat(9000)));
        let _ = name(&deep);
    }

    proptest! {
        #[test]
        fn no_file_is_a_danger(bytes in proptest::collection::vec(any::<u8>(), 0..2000), cut in any::<prop::sample::Index>()) {
            let _ = parse(&id("a"), &bytes);
            let mut text = written("/web", "{}").into_bytes();
            let at = cut.index(text.len());
            let end = (at + bytes.len()).min(text.len());
            text.splice(at..end, bytes);
            let _ = parse(&id("a"), &text);
        }
    }

    #[test]
    fn a_file_is_read_when_it_is_new_and_again_when_it_was_written_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.v2.json");
        let mut file = DockerFile { path: path.clone(), read: None };
        let mut look = || {
            let changed = file.refresh(&container());
            let name = LocalName::of(&container(), &file.over(&Labels::default())).workload.name.to_string();
            (changed.map(|Changed(changed)| changed).map_err(|unread| unread.to_string()), name)
        };
        let write = |text: &str| {
            fs::write(dir.path().join("new"), text).expect("a file");
            fs::rename(dir.path().join("new"), &path).expect("a file");
        };
        let short = || "aaaaaaaaaaaa".to_owned();
        let (missing, none) = look();
        assert!(missing.is_err() && none == short());
        write(&written("/web", "{}"));
        assert_eq!(look(), (Ok(true), "web".to_owned()));
        assert_eq!(look(), (Ok(false), "web".to_owned()));
        write(&written("/bew", "{}"));
        assert_eq!(look(), (Ok(true), "bew".to_owned()));
        write(&" ".repeat(LARGEST as usize + 1));
        assert_eq!(look(), (Err(Unread::Kind.to_string()), short()));
        write(&format!("{}{}", written("/web", "{}"), " ".repeat(100_000)));
        assert_eq!(look(), (Ok(true), "web".to_owned()));
        fs::remove_file(&path).expect("it is there");
        fs::create_dir(&path).expect("a directory");
        assert_eq!(look(), (Err(Unread::Kind.to_string()), short()));
    }
}
