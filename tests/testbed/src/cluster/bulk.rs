//! Many pods. Through the API where the API server's own work is wanted; past it, straight into
//! etcd, where only the number counts: one pod is made through the API, and its stored bytes are
//! copied with names and addresses of the same length.

use super::client::Client;
use super::etcd::Etcd;
use super::kinds;
use super::objects::PodSpec;
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

/// 156 values of three digits in each of three octets.
const VALUES: u32 = 156;

/// Pod number `n` of a bulk: always as long as any other, so that one's stored bytes become another's.
#[must_use]
pub fn name(n: u32) -> String {
    format!("bulk-{n:07}")
}

/// Address of pod number `n`, 10.100.100.100 and on: 3.8 million, each of 14 characters.
#[must_use]
pub fn address(n: u32) -> Ipv4Addr {
    let octet = |step: u32| u8::try_from(100 + n / step % VALUES).unwrap_or(100);
    Ipv4Addr::new(10, octet(VALUES * VALUES), octet(VALUES), octet(1))
}

fn uid(n: u32) -> String {
    format!("{n:08x}-0000-4000-8000-00000000b01c")
}

fn node(n: u32, nodes: u32) -> String {
    format!("node-{:05}", n % nodes.max(1))
}

/// ReplicaSet of pod number `n`: ten pods each, the Deployment being `work-<number>`.
fn replica_set(n: u32) -> String {
    format!("work-{:06}-bcdf", n / 10)
}

/// Pod number `n` as a specification: on one of `nodes` nodes, owned by a ReplicaSet that need not exist.
#[must_use]
pub fn pod(namespace: &str, n: u32, nodes: u32) -> PodSpec {
    let owner = super::objects::Owner {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: replica_set(n),
        uid: format!("{:08x}-0000-4000-8000-0000000005e7", n / 10),
    };
    PodSpec::new(&name(n), &node(n, nodes), &[IpAddr::V4(address(n))])
        .in_namespace(namespace)
        .label("app", &format!("work-{:06}", n / 10))
        .owned_by(&owner)
}

/// Pods number 0 to `count` of a namespace that exists and has none of them, past the API server:
/// 2,400 a second and more. They are in the API server's lists and watches a moment later.
pub fn write_pods(client: &Client, etcd: &Etcd, namespace: &str, count: u32, nodes: u32) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let first = pod(namespace, 0, nodes).create_running(client)?;
    let first_uid = first["metadata"]["uid"].as_str().context("a stored pod has a uid")?.to_owned();
    let key = |n: u32| format!("/registry/pods/{namespace}/{}", name(n));
    let stored = etcd.read(&key(0))?;
    let container = |n: u32| container_id(&pod(namespace, n, nodes));
    let words = |n: u32| {
        [name(n), address(n).to_string(), node(n, nodes), replica_set(n), format!("work-{:06}", n / 10), container(n)]
    };
    let places: Vec<(usize, Vec<u8>)> = words(0).iter().map(|word| word.as_bytes().to_vec()).enumerate().collect();
    let mut template = Template::new(stored);
    template.find(first_uid.as_bytes(), places.len());
    for (slot, word) in &places {
        template.find(word, *slot);
    }
    let with = |n: u32| -> Result<(String, Vec<u8>)> {
        let mut values: Vec<String> = words(n).into();
        values.push(uid(n));
        Ok((key(n), template.filled(&values)?))
    };
    // A small step at a time: an entry is made when it is about to be written.
    let mut failed = None;
    let entries = (1..count).map_while(|n| with(n).map_err(|error| failed = Some(error)).ok());
    etcd.write(entries)?;
    failed.map_or(Ok(()), Err)
}

/// Pods number 0 to `count` through the API, over `connections` at once: 125 to 160 a second on two processors.
pub fn create_pods(client: &Client, namespace: &str, count: u32, nodes: u32, connections: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        let mine = client.clone();
        loop {
            let n = u32::try_from(next.fetch_add(1, Ordering::Relaxed))?;
            if n >= count || crate::signals::interrupted() {
                return Ok(());
            }
            pod(namespace, n, nodes).create_running(&mine)?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
    })?;
    ensure!(!crate::signals::interrupted(), "interrupted");
    Ok(())
}

/// Deletes pods with these numbers, through the API.
pub fn delete_pods(client: &Client, namespace: &str, numbers: impl IntoIterator<Item = u32>) -> Result<()> {
    numbers.into_iter().try_for_each(|n| client.delete(&kinds::POD, Some(namespace), &name(n)))
}

fn container_id(spec: &PodSpec) -> String {
    let status = spec.running_status();
    status["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default().to_owned()
}

/// Stored bytes with the places where a word of known length stands.
struct Template {
    bytes: Vec<u8>,
    /// (offset, length, which word).
    holes: Vec<(usize, usize, usize)>,
}

impl Template {
    fn new(bytes: Vec<u8>) -> Template {
        Template { bytes, holes: Vec::new() }
    }

    fn find(&mut self, word: &[u8], slot: usize) {
        let free = |at: usize, holes: &[(usize, usize, usize)]| {
            holes.iter().all(|(start, length, _)| at + word.len() <= *start || at >= start + length)
        };
        for at in 0..=self.bytes.len().saturating_sub(word.len()) {
            if self.bytes[at..].starts_with(word) && free(at, &self.holes) {
                self.holes.push((at, word.len(), slot));
            }
        }
    }

    fn filled(&self, words: &[String]) -> Result<Vec<u8>> {
        let mut bytes = self.bytes.clone();
        for (at, length, slot) in &self.holes {
            let word = words.get(*slot).context("a word for each hole")?.as_bytes();
            ensure!(word.len() == *length, "{:?} is not {length} bytes long", String::from_utf8_lossy(word));
            bytes[*at..at + length].copy_from_slice(word);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Template, address, name};

    #[test]
    fn names_and_addresses_are_all_as_long_and_all_different() {
        let all: std::collections::BTreeSet<_> = (0..200_000).map(|n| (name(n), address(n).to_string())).collect();
        assert_eq!(all.len(), 200_000);
        assert!(all.iter().all(|(name, address)| (name.len(), address.len()) == (12, 14)));
        let addresses: std::collections::BTreeSet<_> = all.iter().map(|(_, address)| address).collect();
        assert_eq!(addresses.len(), 200_000);
    }

    #[test]
    fn words_are_replaced_where_they_stand() -> anyhow::Result<()> {
        let mut template = Template::new(b"a=one b=one-two".to_vec());
        template.find(b"one-two", 1);
        template.find(b"one", 0);
        assert_eq!(template.filled(&["six".into(), "ten-ten".into()])?, b"a=six b=ten-ten");
        assert!(template.filled(&["seven".into(), "ten-ten".into()]).is_err());
        Ok(())
    }
}
