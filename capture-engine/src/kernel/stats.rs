//! What the kernel half saw, could not keep, and costs.

use super::Kernel;
use super::maps::Shared;
use super::stub::{Hook, Stubs};
use super::sys;
use capture_wire as wire;
use capture_wire::Stat;
use flow_model::{Direction, Slot};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use zerocopy::FromBytes;

/// Counts since the programs were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelStats {
    /// All packets at all attached interfaces.
    pub packets: u64,
    /// Records put into the ring.
    pub events: u64,
    /// Events that found no room in the ring.
    pub ring_full: u64,
    /// Packets whose flow found no room in the table.
    pub flows_full: u64,
    /// IP packets whose headers could not be followed.
    pub unparsed: u64,
    /// Fragments other than the first.
    pub fragments: u64,
    /// Not IP, or neither TCP nor UDP.
    pub other: u64,
    /// Packets of flows that are not in the table, which begin none: without payload, or sent again of an exchange that
    /// was told without a flow.
    pub stray: u64,
    /// Flows that were started afresh by a SYN before their end was reported.
    pub replaced: u64,
    /// Packets handled without their flow's lock, because its holder kept it for too long: the
    /// flow's counters may be a little off.
    pub unlocked: u64,
    /// Packets of the node's own sockets that found no work area on their CPU.
    pub nested: u64,
    /// SYNs beyond their namespace's share of half-open connections, which got no flow: such a
    /// connection is followed from its first payload on, as one that was joined midway.
    pub opening_full: u64,
    /// Packets whose flow would have been beyond its namespace's share of the table. What these
    /// and those of `flows_full` cost in exchanges: see [`Sampler::answers`](super::Sampler::answers).
    pub flows_share: u64,
    /// Packets of walked flows that were copied because the place of the next header was not known.
    pub astray: u64,
    /// Messages of walked flows of which only the beginning and the last bytes were copied.
    pub rows: u64,
    /// Answers of flows without room that found no place to be known by: so many exchanges at most
    /// took place that [`Sampler::answers`](super::Sampler::answers) does not tell of.
    pub answers_full: u64,
    /// Ends that found no room in the ring nor aside. Their flows keep their places until a round through the table
    /// has told of them; what comes of those addresses and ports meanwhile is told as of flows without room.
    pub replaced_full: u64,
    /// Ends that found no room in the ring and were put aside.
    pub aside: u64,
    /// Records of the ring that made no sense to the reader.
    pub malformed: u64,
}

/// What a program costs. The two figures stand still unless the sysctl `kernel.bpf_stats_enabled` is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// The shared program and direction: `pilotfish_in`, `pilotfish_out`, and `pilotfish_host_*`
    /// for cgroups.
    pub name: &'static str,
    /// The kernel's, as `bpftool prog` shows it; both directions of a hook share it.
    pub id: u32,
    /// Stubs that hand over to this program for this direction and exist now; one that interfaces
    /// share counts once for each of them.
    pub stubs: usize,
    /// Runs of its stubs, those that are gone included.
    pub run_count: u64,
    /// What these runs took in all, in nanoseconds; the shared program's time is in it.
    pub run_time_ns: u64,
    /// Instructions that the verifier went through to load the shared program, which is most of what
    /// loading it costs.
    pub verified: u32,
}

/// Kernel memory of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapMemory {
    /// As in the object, `pilotfish_*`.
    pub name: &'static str,
    /// `memlock` of its fdinfo. 0 where that cannot be read.
    pub bytes: u64,
}

impl Shared {
    pub(super) fn stats(&self) -> io::Result<KernelStats> {
        let mut values = vec![0; wire::CPU_BYTES * self.cpus];
        let mut sum = [0u64; wire::STAT_MAX];
        for area in 0..wire::AREAS {
            self.stats.lookup(&area.to_ne_bytes(), &mut values, 0)?;
            for cpu in values.chunks_exact(wire::CPU_BYTES) {
                let Ok((stats, _)) = wire::Stats::read_from_prefix(cpu) else { continue };
                for (sum, count) in sum.iter_mut().zip(stats.count) {
                    *sum += count;
                }
            }
        }
        let of = |stat: Stat| sum.get(stat as usize).copied().unwrap_or_default();
        Ok(KernelStats {
            packets: of(Stat::Packets),
            events: of(Stat::Events),
            ring_full: of(Stat::RingFull),
            flows_full: of(Stat::FlowsFull),
            unparsed: of(Stat::Unparsed),
            fragments: of(Stat::Fragments),
            other: of(Stat::Other),
            stray: of(Stat::Stray),
            replaced: of(Stat::Replaced),
            unlocked: of(Stat::Unlocked),
            nested: of(Stat::Nested),
            opening_full: of(Stat::OpeningFull),
            flows_share: of(Stat::FlowsShare),
            astray: of(Stat::Astray),
            rows: of(Stat::Rows),
            answers_full: of(Stat::AnswersFull),
            replaced_full: of(Stat::ReplacedFull),
            aside: of(Stat::Aside),
            malformed: self.malformed.load(Ordering::Relaxed),
        })
    }
}

impl Shared {
    pub(super) fn seen(&self, slot: Slot) -> Option<u64> {
        let mut values = vec![0; size_of::<u64>() * self.cpus];
        let place = slot.0 & (wire::PLACES - 1);
        self.seen.lookup(&place.to_ne_bytes(), &mut values, 0).ok()?;
        let counts = values.chunks_exact(size_of::<u64>()).filter_map(|count| u64::read_from_bytes(count).ok());
        Some(counts.fold(0, u64::wrapping_add))
    }
}

impl Kernel {
    /// Counts since load, summed over the CPUs.
    ///
    /// # Errors
    /// When the kernel refuses to read the map.
    pub fn stats(&self) -> io::Result<KernelStats> {
        self.shared.stats()
    }

    /// The shared programs, per hook and direction, each with what its stubs were charged.
    ///
    /// # Errors
    /// When the kernel refuses to tell about a program.
    pub fn programs(&self) -> io::Result<Vec<ProgramInfo>> {
        let mut stubs = self.stubs.lock();
        let Stubs { live, past, seen } = &mut *stubs;
        let mut sum = [sys::RunStats::default(); Hook::COUNT];
        let mut count = [0; Hook::COUNT];
        let mut failed = None;
        live.retain(|stub| {
            let hook = stub.hook.index();
            match sys::program_by_id(stub.id).and_then(|fd| fd.map(|fd| sys::run_stats(fd.as_fd())).transpose()) {
                Ok(Some(stats)) => {
                    seen.insert(stub.id, stats);
                    add(&mut sum, hook, stats);
                    if let Some(count) = count.get_mut(hook) {
                        *count += 1;
                    }
                    true
                }
                Ok(None) => {
                    add(past, hook, seen.remove(&stub.id).unwrap_or_default());
                    false
                }
                Err(error) => {
                    failed = Some(error);
                    true
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        for dir in [Direction::Ingress, Direction::Egress] {
            let hook = Hook::Interface(dir).index();
            add(&mut sum, hook, sys::run_stats(self.shared_stubs.programs()[dir.index()])?);
            if let Some(count) = count.get_mut(hook) {
                // All who hold them, but us.
                *count += Arc::strong_count(&self.shared_stubs).saturating_sub(1);
            }
        }
        let node = self.node.program();
        let mut infos = Vec::new();
        for (hook, name, program) in [
            (Hook::Interface(Direction::Ingress), "pilotfish_in", Some(&self.program)),
            (Hook::Interface(Direction::Egress), "pilotfish_out", Some(&self.program)),
            (Hook::Cgroup(Direction::Ingress), "pilotfish_host_in", node.as_ref()),
            (Hook::Cgroup(Direction::Egress), "pilotfish_host_out", node.as_ref()),
        ] {
            let Some(program) = program else { continue };
            let sys::RunStats { id, verified, .. } = sys::run_stats(program.as_fd())?;
            // The programs themselves are charged nothing: a tail call's time stands with the stub.
            let [now, before] = [sum, *past].map(|both| both.get(hook.index()).copied().unwrap_or_default());
            infos.push(ProgramInfo {
                name,
                id,
                stubs: count.get(hook.index()).copied().unwrap_or_default(),
                run_count: now.run_count + before.run_count,
                run_time_ns: now.run_time_ns + before.run_time_ns,
                verified,
            });
        }
        Ok(infos)
    }

    /// Kernel memory held by the maps, as the kernel accounts for it.
    #[must_use]
    pub fn map_memory(&self) -> Vec<MapMemory> {
        self.map_fds()
            .into_iter()
            .map(|(name, fd)| MapMemory { name, bytes: locked_bytes(fd).unwrap_or_default() })
            .collect()
    }
}

fn add(sums: &mut [sys::RunStats; Hook::COUNT], hook: usize, stats: sys::RunStats) {
    if let Some(sum) = sums.get_mut(hook) {
        sum.run_count += stats.run_count;
        sum.run_time_ns += stats.run_time_ns;
    }
}

/// The line `memlock:` of the descriptor's fdinfo.
fn locked_bytes(fd: BorrowedFd<'_>) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}
