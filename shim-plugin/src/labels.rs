//! Reads what containers are called, beside the loop that takes in events: names may come late,
//! attaching may not. A containerd that is slow to answer delays the names of its own containers only.

use crate::client::Client;
use crate::container::{ContainerRef, LinkId};
use crate::docker::{Changed, Described};
use crate::name::Labels;
use flow_model::Pace;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

/// Label requests to one containerd at a time, so that containerd's own work is not queued behind ours.
const LABEL_CALLS: usize = 4;
/// More waiting containers of one namespace than this are read by one streamed list (0.5 ms for each single call).
const SINGLE_LABEL_CALLS: usize = 32;
/// Files of Docker's take some 30 us each. Where its directory hangs, names come from containerd.
const FILES: Duration = Duration::from_secs(1);
/// Files read by one thread within that time.
const FILES_AT_ONCE: usize = 64;
/// Threads that read them: one that hangs cannot be ended.
const FILE_READERS: usize = 4;

/// What came of asking after a container.
#[derive(Debug)]
pub enum Named {
    As(Labels),
    /// Docker's file could not be read: this is what containerd alone says.
    Half(Labels),
    /// containerd did not say.
    Unread,
}

pub type LabelsRead = Vec<(ContainerRef, Named)>;

#[derive(Debug)]
pub struct LabelReader {
    of_link: BTreeMap<LinkId, LinkLabels>,
    calls: JoinSet<Asked>,
    /// Whose containerd each call asks.
    under_way: HashMap<tokio::task::Id, LinkId>,
    /// Docker's containers, to see when one is renamed.
    docker: HashMap<ContainerRef, Described>,
    readers: Arc<Semaphore>,
    /// Of lists of many.
    pace: Option<Arc<dyn Pace>>,
}

#[derive(Debug)]
struct LinkLabels {
    client: Client,
    /// At most one entry for each admission and list, so bounded by the registry.
    waiting: VecDeque<ContainerRef>,
}

/// What one call brought. Without a description: containerd did not say.
type Asked = Vec<(ContainerRef, Option<Described>, Filed)>;

/// How Docker's file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filed {
    /// There is none, or it was read.
    Read,
    /// It is what it was before.
    Same,
    Unread,
}

impl LabelReader {
    pub fn new(pace: Option<Arc<dyn Pace>>) -> LabelReader {
        LabelReader {
            of_link: BTreeMap::new(),
            calls: JoinSet::new(),
            under_way: HashMap::new(),
            docker: HashMap::new(),
            readers: Arc::new(Semaphore::new(FILE_READERS)),
            pace,
        }
    }

    pub fn connected(&mut self, link: LinkId, client: Client) {
        self.of_link.insert(link, LinkLabels { client, waiting: VecDeque::new() });
    }

    /// Gives back those that wait for nobody now.
    pub fn disconnected(&mut self, link: LinkId) -> LabelsRead {
        let waiting = self.of_link.remove(&link).map(|labels| labels.waiting).unwrap_or_default();
        waiting.into_iter().map(|container| (container, Named::Unread)).collect()
    }

    /// Gives the container back when its containerd is not there to be asked.
    pub fn want(&mut self, container: ContainerRef) -> Result<(), ContainerRef> {
        match self.of_link.get_mut(&container.link) {
            Some(labels) => labels.waiting.push_back(container),
            None => return Err(container),
        }
        Ok(())
    }

    /// What containerd has was changed: together with what Docker says it is the name.
    pub fn updated(&mut self, container: &ContainerRef, labels: Labels) -> Labels {
        let Some(Described { labels: known, docker: Some(file) }) = self.docker.get_mut(container) else {
            return labels;
        };
        *known = labels;
        file.over(known)
    }

    /// A call that asks is under way.
    pub fn is_asking(&self) -> bool {
        !self.calls.is_empty()
    }

    /// What the next call brings that ends. `lives` tells whose file is worth remembering.
    pub async fn next(&mut self, lives: impl Fn(&ContainerRef) -> bool) -> LabelsRead {
        let ended = self.calls.join_next_with_id().await;
        ended.map(|ended| self.read(ended, lives)).unwrap_or_default()
    }

    fn read(
        &mut self,
        ended: Result<(tokio::task::Id, Asked), JoinError>,
        lives: impl Fn(&ContainerRef) -> bool,
    ) -> LabelsRead {
        let (id, asked) = ended.unwrap_or_else(|error| (error.id(), Asked::new()));
        self.under_way.remove(&id);
        let mut read = LabelsRead::new();
        for (container, described, filed) in asked {
            let named = match (&described, filed) {
                (None, _) => Named::Unread,
                (Some(_), Filed::Same) => continue,
                (Some(Described { labels, docker }), _) => {
                    let all = docker.as_ref().map_or_else(|| labels.clone(), |file| file.over(labels));
                    if filed == Filed::Unread { Named::Half(all) } else { Named::As(all) }
                }
            };
            match described {
                Some(described) if described.docker.is_some() && lives(&container) => {
                    self.docker.insert(container.clone(), described);
                }
                _ => {}
            }
            read.push((container, named));
        }
        read
    }

    /// A list was made of what runs: Docker's files are looked at again, for it tells nobody of a
    /// new name. A look at one that is as before is one system call.
    pub fn look_again(&mut self, link: LinkId, lives: impl Fn(&ContainerRef) -> bool) {
        self.docker.retain(|container, _| lives(container));
        let of_link = self.docker.iter().filter(|(container, _)| container.link == link);
        let mut all: Vec<_> = of_link.map(|(of, described)| (of.clone(), Some(described.clone()))).collect();
        while !all.is_empty() {
            let some = all.split_off(all.len().saturating_sub(FILES_AT_ONCE));
            let call = self.calls.spawn(with_files(self.readers.clone(), some));
            self.under_way.insert(call.id(), link);
        }
    }

    pub fn call(&mut self) {
        let LabelReader { of_link, calls, under_way, docker: _, readers, pace } = self;
        for (link, LinkLabels { client, waiting }) in of_link {
            while under_way.values().filter(|of| *of == link).count() < LABEL_CALLS
                && let Some(container) = waiting.pop_front()
            {
                let (client, readers) = (client.clone(), readers.clone());
                let call = if waiting.len() < SINGLE_LABEL_CALLS {
                    calls.spawn(async move {
                        let described = client.describe(&container).await.ok();
                        with_files(readers, vec![(container, described)]).await
                    })
                } else {
                    let same = |other: &ContainerRef| other.namespace == container.namespace;
                    let mut wanted: Vec<ContainerRef> = waiting.iter().filter(|other| same(other)).cloned().collect();
                    waiting.retain(|other| !same(other));
                    wanted.push(container);
                    let pace = pace.clone();
                    calls.spawn(async move { with_files(readers, all_of(&client, wanted, pace.as_ref()).await).await })
                };
                under_way.insert(call.id(), *link);
            }
        }
    }
}

/// The labels of containers that are all in one namespace, by one list.
async fn all_of(
    client: &Client,
    wanted: Vec<ContainerRef>,
    pace: Option<&Arc<dyn Pace>>,
) -> Vec<(ContainerRef, Option<Described>)> {
    let Some(namespace) = wanted.first().map(|container| container.namespace.clone()) else { return Vec::new() };
    let all = client.describe_all(&namespace, pace).await.unwrap_or_default();
    let mut all: HashMap<_, _> = all.into_iter().collect();
    wanted.into_iter().map(|container| (all.remove(&container.id), container)).map(|(d, c)| (c, d)).collect()
}

/// What Docker's files say besides, each group of them within its time.
async fn with_files(readers: Arc<Semaphore>, asked: Vec<(ContainerRef, Option<Described>)>) -> Asked {
    let has_file = |described: &Option<Described>| described.as_ref().is_some_and(|it| it.docker.is_some());
    let (mut filed, others): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(_, described)| has_file(described));
    let mut done: Asked = others.into_iter().map(|(container, it)| (container, it, Filed::Read)).collect();
    while !filed.is_empty() {
        let some = filed.split_off(filed.len().saturating_sub(FILES_AT_ONCE));
        let unread = || some.iter().map(|(container, it)| (container.clone(), it.clone(), Filed::Unread)).collect();
        let read = async {
            let turn = readers.clone().acquire_owned().await.ok()?;
            let some = some.clone();
            let files = tokio::task::spawn_blocking(move || {
                let read = some.into_iter().map(|(container, described)| refresh(container, described)).collect();
                drop(turn);
                read
            });
            files.await.ok()
        };
        let read: Option<Asked> = tokio::time::timeout(FILES, read).await.ok().flatten();
        if read.is_none() {
            tracing::warn!(files = some.len(), "Docker's files are late; its containers are called by their ids");
        }
        done.extend(read.unwrap_or_else(unread));
    }
    done
}

fn refresh(container: ContainerRef, mut described: Option<Described>) -> (ContainerRef, Option<Described>, Filed) {
    let Some(Described { docker: Some(file), .. }) = &mut described else {
        return (container, described, Filed::Read);
    };
    let filed = match file.refresh(&container) {
        Ok(Changed(true)) => Filed::Read,
        Ok(Changed(false)) => Filed::Same,
        Err(unread) => {
            let (file, reason) = (file.path().display(), flow_model::in_full(&unread));
            tracing::debug!(%file, reason, "what Docker calls a container could not be read");
            Filed::Unread
        }
    };
    (container, described, filed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::DockerFile;
    use crate::name::LocalName;
    use std::fs;

    fn described(root: &str, id: &str) -> Described {
        let labels = HashMap::from([("com.docker/engine.bundle.path".to_owned(), String::new())]);
        let source = format!("{root}/containers/{id}/hostname");
        let spec = serde_json::json!({"mounts": [{"destination": "/etc/hostname", "source": source}]}).to_string();
        Described { labels: Labels::default(), docker: DockerFile::of(id, &labels, spec.as_bytes()) }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
    }

    #[test]
    fn every_file_of_many_is_read_and_one_that_is_not_there_costs_no_other() {
        let root = tempfile::tempdir().expect("a directory");
        let at = root.path().display().to_string();
        let ids: Vec<String> = (0..3 * FILES_AT_ONCE + 1).map(|n| format!("{n:064x}")).collect();
        for (number, id) in ids.iter().enumerate().filter(|(number, _)| number % 7 != 0) {
            let of = root.path().join("containers").join(id);
            fs::create_dir_all(&of).expect("a directory");
            let text = format!(r#"{{"ID":"{id}","Name":"/c{number}","Config":{{"Labels":null}}}}"#);
            fs::write(of.join("config.v2.json"), text).expect("a file");
        }
        let asked =
            ids.iter().map(|id| (ContainerRef::new(LinkId(0), "moby", &**id), Some(described(&at, id)))).collect();
        let read = run(with_files(Arc::new(Semaphore::new(FILE_READERS)), asked));
        assert_eq!(read.len(), ids.len());
        for (container, it, filed) in read {
            let number = ids.iter().position(|id| **id == *container.id).expect("it was asked for");
            let Some(Described { labels, docker: Some(file) }) = it else { panic!("its description is kept") };
            let name = LocalName::of(&container, &file.over(&labels)).workload.name.to_string();
            if number % 7 == 0 {
                assert_eq!((filed, &*name), (Filed::Unread, &container.id[..12]));
            } else {
                assert_eq!((filed, name), (Filed::Read, format!("c{number}")));
            }
        }
    }

    #[test]
    fn where_all_readers_hang_a_container_has_its_id_and_others_their_names() {
        let id = "a".repeat(64);
        let (docker, other) = (ContainerRef::new(LinkId(0), "moby", &*id), ContainerRef::new(LinkId(0), "moby", "x"));
        let plain = Described { labels: Labels::default(), docker: None };
        let asked = vec![(docker.clone(), Some(described("/nowhere", &id))), (other.clone(), Some(plain))];
        let read = run(with_files(Arc::new(Semaphore::new(0)), asked));
        let found: Vec<_> = read.into_iter().map(|(container, it, filed)| (container, it.is_some(), filed)).collect();
        assert_eq!(found, [(other, true, Filed::Read), (docker, true, Filed::Unread)]);
    }
}
