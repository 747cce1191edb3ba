//! The table on disk, so that an agent which is started while the API server is away has names at once.
//!
//! `PFNAMES\n`, a version, then per resource a count and its objects as the table has them, and a
//! checksum. Another version is not read: the API tells everything again. Times are the API's or
//! the wall clock's in whole seconds.

mod code;
mod error;

pub use error::SnapshotError;

use crate::cluster::claim::HoldTarget;
use crate::cluster::clock::Moment;
use crate::cluster::entry::{ServiceEntry, SliceEntry};
use crate::cluster::hold::Role;
use crate::cluster::object::{Resource, Uid};
use crate::cluster::record::{Key, Pod, PodParts, Slice};
use crate::cluster::writer::{Cluster, Limits};
use code::{In, Out};
use flow_model::WorkloadKind;
use std::io::{self, Read, Write};

const MAGIC: [u8; 8] = *b"PFNAMES\n";
const VERSION: u32 = 1;
/// A cluster of the largest supported size takes 25 MiB.
const MOST_BYTES: u64 = 256 << 20;
const MOST_OBJECTS: usize = 10_000_000;
const MOST_IPS: usize = 64;
const MOST_PORTS: usize = 4_096;
const MOST_ENDS: usize = 100_000;

type Result<T> = std::result::Result<T, SnapshotError>;

impl Cluster {
    /// Writes a snapshot of what exists; the past is not in it. The caller replaces the old file by it atomically.
    ///
    /// # Errors
    /// `out` cannot be written. What it has got by then is no snapshot.
    pub fn save(&self, out: &mut impl Write) -> io::Result<()> {
        let mut out = Out::new(out);
        out.bytes(&MAGIC)?;
        out.bytes(&VERSION.to_le_bytes())?;
        self.save_nodes(&mut out)?;
        self.save_jobs(&mut out)?;
        self.save_pods(&mut out)?;
        self.save_services(&mut out)?;
        self.save_slices(&mut out)?;
        out.finish()
    }

    fn save_pods(&self, out: &mut Out<impl Write>) -> io::Result<()> {
        out.number(self.objects(Resource::Pods) as u64)?;
        let mut outcome = Ok(());
        self.shared.each_pod(|pod| {
            if outcome.is_ok() && !pod.is_gone() {
                outcome = save_pod(pod, out);
            }
        });
        outcome
    }

    fn save_services(&self, out: &mut Out<impl Write>) -> io::Result<()> {
        out.number(self.services.len() as u64)?;
        for (uid, entry) in &self.services {
            let ServiceEntry { service, targets, external, created, guessed, seen: _ } = entry;
            save_uid(*uid, out)?;
            out.word(&service.namespace)?;
            out.word(&service.name)?;
            out.number(*created)?;
            out.number(u64::from(*guessed) | u64::from(external.is_some()) << 1)?;
            if let Some(external) = external {
                out.text(external)?;
            }
            out.len(targets)?;
            for HoldTarget { key, port, role } in targets {
                out.bytes(&key.octets())?;
                out.number(*port)?;
                out.number(*role as u64)?;
            }
        }
        Ok(())
    }

    fn save_slices(&self, out: &mut Out<impl Write>) -> io::Result<()> {
        out.number(self.slices.len() as u64)?;
        for (uid, SliceEntry { slice, ends, seen: _ }) in &self.slices {
            save_uid(*uid, out)?;
            out.word(&slice.service.namespace)?;
            out.word(&slice.service.name)?;
            save_ports(&slice.ports, out)?;
            out.number(ends.len() as u64)?;
            for (key, pod) in ends.iter() {
                out.bytes(&key.octets())?;
                out.bytes(&pod.to_le_bytes())?;
            }
        }
        Ok(())
    }

    fn save_nodes(&self, out: &mut Out<impl Write>) -> io::Result<()> {
        out.number(self.nodes.len() as u64)?;
        for (uid, entry) in &self.nodes {
            save_uid(*uid, out)?;
            out.word(&entry.node.name)?;
            out.number(entry.found)?;
            save_keys(&entry.addresses, out)?;
        }
        Ok(())
    }

    fn save_jobs(&self, out: &mut Out<impl Write>) -> io::Result<()> {
        out.number(self.jobs.len() as u64)?;
        for (uid, entry) in &self.jobs {
            save_uid(*uid, out)?;
            out.word(&entry.job.namespace)?;
            out.word(&entry.job.name)?;
            out.word(&entry.cron_job.name)?;
        }
        Ok(())
    }

    /// The table as a snapshot had it. Its names are stale until the first list of their resource
    /// has ended. An error means that nothing of it is worth having: begin with an empty table.
    pub fn load(limits: Limits, from: impl Read, now: Moment) -> Result<Cluster> {
        let mut cluster = Cluster::new(limits);
        cluster.clock.note(now);
        let mut from = In::new(from.take(MOST_BYTES));
        if from.bytes()? != MAGIC {
            return Err(SnapshotError::Damaged("it is something else"));
        }
        match u32::from_le_bytes(from.bytes()?) {
            VERSION => {}
            other => return Err(SnapshotError::Version(other)),
        }
        cluster.load_nodes(&mut from, now)?;
        cluster.load_jobs(&mut from)?;
        for _ in 0..from.len(MOST_OBJECTS)? {
            let parts = cluster.load_pod(&mut from)?;
            let before = cluster.shared.pod(parts.uid);
            cluster.put_parts(parts, before, now);
        }
        cluster.load_services(&mut from, now)?;
        cluster.load_slices(&mut from, now)?;
        from.finish()?;
        cluster.loaded = true;
        cluster.back_all(now);
        for resource in Resource::ALL {
            cluster.shared.set_stale(resource, true);
        }
        cluster.shared.changed();
        Ok(cluster)
    }

    fn load_pod(&mut self, from: &mut In<impl Read>) -> Result<PodParts> {
        let uid = load_uid(from)?;
        let (namespace, kind, owner) = (from.word()?, load_kind(from)?, from.word()?);
        let name = from.text()?;
        let started = from.small()?;
        let flags: u8 = from.small()?;
        let has = |bit: u8| flags & 1 << bit != 0;
        let node = if has(3) { Some(from.word()?) } else { None };
        let static_uid = if has(4) { Some(load_uid(from)?) } else { None };
        Ok(PodParts {
            uid,
            name,
            owner: self.words.owner(&namespace, &owner, kind),
            node: node.map(|name| self.words.node(&name).node.clone()),
            started,
            guessed: has(0),
            host_network: has(1),
            ended: has(2),
            static_uid,
            ips: from.list(MOST_IPS, load_key)?,
            ports: from.list(MOST_PORTS, |from| from.small())?,
        })
    }

    fn load_services(&mut self, from: &mut In<impl Read>, now: Moment) -> Result<()> {
        for _ in 0..from.len(MOST_OBJECTS)? {
            let uid = load_uid(from)?;
            let (namespace, name) = (from.word()?, from.word()?);
            let created = from.small()?;
            let flags: u8 = from.small()?;
            let external = if flags & 2 != 0 { Some(from.text()?.into()) } else { None };
            let targets = from.list(MOST_PORTS, |from| {
                let (key, port) = (load_key(from)?, from.small()?);
                let role = match from.number()? {
                    role if role == Role::ClusterIp as u64 => Role::ClusterIp,
                    role if role == Role::ExternalIp as u64 => Role::ExternalIp,
                    role if role == Role::NodePort as u64 => Role::NodePort,
                    _ => return Err(SnapshotError::Damaged("an address of a Service is of no kind")),
                };
                Ok(HoldTarget { key, port, role })
            })?;
            let service = self.words.service(&namespace, &name).service.clone();
            let guessed = flags & 1 != 0;
            let entry = ServiceEntry { service, targets: targets.into(), external, created, guessed, seen: 0 };
            self.put_entry(uid, entry, now);
        }
        Ok(())
    }

    fn load_slices(&mut self, from: &mut In<impl Read>, now: Moment) -> Result<()> {
        for _ in 0..from.len(MOST_OBJECTS)? {
            let uid = load_uid(from)?;
            let (namespace, name) = (from.word()?, from.word()?);
            let ports: Vec<u16> = from.list(MOST_PORTS, |from| from.small())?;
            let mut ends = from.list(MOST_ENDS, |from| Ok((load_key(from)?, u64::from_le_bytes(from.bytes()?))))?;
            ends.sort_unstable();
            ends.dedup();
            let service = self.words.service(&namespace, &name).service.clone();
            self.put_ends(uid, Slice { service, ports: ports.into() }, ends, now);
        }
        Ok(())
    }

    fn load_nodes(&mut self, from: &mut In<impl Read>, now: Moment) -> Result<()> {
        for _ in 0..from.len(MOST_OBJECTS)? {
            let (uid, name, found) = (load_uid(from)?, from.word()?, from.small()?);
            let addresses = from.list(MOST_IPS, load_key)?;
            self.put_node_entry(uid, &name, addresses.into(), found, now);
        }
        Ok(())
    }

    fn load_jobs(&mut self, from: &mut In<impl Read>) -> Result<()> {
        for _ in 0..from.len(MOST_OBJECTS)? {
            let uid = load_uid(from)?;
            let (namespace, job, cron_job) = (from.word()?, from.word()?, from.word()?);
            self.put_job_of(uid, &namespace, &job, &cron_job);
        }
        Ok(())
    }
}

fn save_pod(pod: &Pod, out: &mut Out<impl Write>) -> io::Result<()> {
    save_uid(pod.uid(), out)?;
    out.word(&pod.owner.namespace)?;
    let kind = WorkloadKind::ALL.iter().position(|kind| *kind == pod.owner.kind);
    out.number(kind.unwrap_or(0) as u64)?;
    out.word(&pod.owner.name)?;
    out.text(&pod.name())?;
    out.number(pod.started)?;
    let flags = [pod.guessed, pod.host_network, pod.ended, pod.node.is_some(), pod.static_uid().is_some()];
    out.number(flags.iter().rev().fold(0_u64, |bits, flag| bits << 1 | u64::from(*flag)))?;
    if let Some(node) = &pod.node {
        out.word(&node.name)?;
    }
    if let Some(uid) = pod.static_uid() {
        save_uid(uid, out)?;
    }
    save_keys(&pod.ips().collect::<Vec<Key>>(), out)?;
    save_ports(pod.ports(), out)
}

fn save_uid(uid: Uid, out: &mut Out<impl Write>) -> io::Result<()> {
    out.bytes(&uid.bits().to_le_bytes())
}

fn load_uid(from: &mut In<impl Read>) -> Result<Uid> {
    Ok(Uid::from_bits(u128::from_le_bytes(from.bytes()?)))
}

fn save_keys(keys: &[Key], out: &mut Out<impl Write>) -> io::Result<()> {
    out.len(keys)?;
    keys.iter().try_for_each(|key| out.bytes(&key.octets()))
}

fn load_key(from: &mut In<impl Read>) -> Result<Key> {
    Ok(Key::from_octets(from.bytes()?))
}

fn save_ports(ports: &[u16], out: &mut Out<impl Write>) -> io::Result<()> {
    out.len(ports)?;
    ports.iter().try_for_each(|port| out.number(*port))
}

fn load_kind(from: &mut In<impl Read>) -> Result<WorkloadKind> {
    let place = from.small::<usize>()?;
    WorkloadKind::ALL.get(place).copied().ok_or(SnapshotError::Damaged("a workload is of no kind"))
}
