//! What happens within one entry into a namespace: look at its interfaces, and bring programs onto
//! those that lack them.

#![forbid(unsafe_code)]

use super::asker::Asker;
use super::gap::{self, Gaps};
use super::plan::{Found, How, plan};
use super::rival::Rivals;
use super::sight::{Sees, Sight};
use super::sweeping::{BATCH, settle, take_off};
use super::sys;
use super::tc::{self, NAME_PREFIX, QdiscKind, QdiscMaker, Runs};
use super::words::{AttachConfig, CutLists, Interface, Mechanism, Mode};
use crate::kernel::{SharedStubs, StubError};
use flow_model::Direction;
use netns::wire::Batch;
use netns::{IfAddress, InNetns, Link, LinkWatch, NetlinkError, Own, Part, Refusal};
use nix::errno::Errno;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];
/// The kernel's number of `lo` in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Stub(#[from] StubError),
    #[error("watch the namespace's links")]
    Watch(#[source] std::io::Error),
    #[error("ask the kernel for its number of a program")]
    Number(#[from] Errno),
}

/// What we have in a namespace.
#[derive(Debug, Default)]
pub struct Held {
    pub interfaces: BTreeMap<u32, HeldInterface>,
    pub watch: Option<Arc<LinkWatch>>,
    pub gaps: Gaps,
    /// Interfaces whose programs were not in place any more, since the last entry that was put
    /// down. Here and not in its report: an entry that fails has none.
    pub removed: u64,
    rivals: Rivals,
    sight: Sight,
}

/// What we have on one interface.
#[derive(Debug)]
pub struct HeldInterface {
    pub name: String,
    /// TCX links, which end with this; none with clsact.
    tcx: Option<[sys::Link; 2]>,
    runs: Runs,
    /// Where its programs are others', too.
    _shared: Option<Arc<SharedStubs>>,
    /// By clsact, though something of others runs before it: there was no better way.
    behind: bool,
    /// What the interface had counted when our programs were in place last, and saw packets.
    packets: Option<u64>,
    /// The same one look before: what they saw in between they may have seen at its beginning.
    earlier: Option<u64>,
}

impl HeldInterface {
    fn by_tcx(name: String, links: [sys::Link; 2], ids: [u32; 2]) -> HeldInterface {
        let runs = Runs { ids, class: 0 };
        HeldInterface { name, tcx: Some(links), runs, _shared: None, behind: false, packets: None, earlier: None }
    }

    fn by_clsact(name: String, (runs, shared): (Runs, Option<Arc<SharedStubs>>), behind: bool) -> HeldInterface {
        HeldInterface { name, tcx: None, runs, _shared: shared, behind, packets: None, earlier: None }
    }

    /// What we put there is there, and sees every packet as it did.
    fn in_place(&self, index: u32, mode: Mode, found: &Found) -> bool {
        match &self.tcx {
            // Whoever may can take a link off its interface; its descriptor stays.
            Some(links) => !links.iter().any(|link| sys::tcx_interface(link).is_ok_and(|at| at != index)),
            None => {
                let shadowed = mode == Mode::Auto && !self.behind && !found.clsact_is_first();
                found.whole(self.runs) && !shadowed
            }
        }
    }

    /// By TCX, and something of others runs before it. Another agent of ours lets every packet pass.
    fn is_overtaken(&self, found: &Found) -> bool {
        let others = |dir: &Direction| {
            let before = found.tcx[dir.index()].iter().take_while(|id| **id != self.runs.ids[dir.index()]);
            before
                .copied()
                .any(|id| !sys::program_name(id).is_some_and(|name| name.starts_with(NAME_PREFIX.as_bytes())))
        };
        self.tcx.is_some() && BOTH.iter().any(others)
    }
}

impl Held {
    /// Interfaces whose own counts of packets are of use.
    fn counted(&self) -> impl Iterator<Item = u32> {
        self.interfaces.keys().copied().chain(self.gaps.indexes())
    }

    #[must_use]
    pub fn list(&self) -> Arc<[Interface]> {
        let of = |(index, held): (&u32, &HeldInterface)| Interface {
            index: *index,
            name: held.name.clone(),
            mechanism: if held.tcx.is_some() { Mechanism::Tcx } else { Mechanism::Clsact },
        };
        self.interfaces.iter().map(of).collect()
    }
}

/// How an entry went.
#[derive(Debug, Default)]
pub struct EntryReport {
    pub addresses: Vec<IfAddress>,
    /// One line for each interface that could not be attached.
    pub failures: Vec<String>,
    /// Interfaces that went away between being listed and being attached.
    pub vanished: u64,
    /// Filters of an earlier process that were removed.
    pub swept: u64,
    /// Interfaces beyond `AttachConfig::max_interfaces`.
    pub over_limit: u64,
    /// Links by number with their masters: what the choice among them came from.
    pub shape: BTreeMap<u32, u32>,
    /// Where a packet may be counted more than once; see [`netns::edges`].
    pub doubts: Vec<String>,
    /// Packets that may have passed without them, since the last look.
    pub unseen: u64,
    /// Packets of the interfaces that had programs for the first time, until then.
    pub before: u64,
    /// When the programs were there.
    pub in_place: Option<Instant>,
    /// What belongs to the namespace itself.
    pub own: Own,
    /// Lists that were read in part.
    pub cut: CutLists,
    /// Entries of lists that were read.
    pub messages: u64,
}

/// The programs of this entry: loaded when the first interface needs them, and closed at its end.
/// TCX links have such ones, and clsact filters that share none.
pub type Load<'a> = &'a (dyn Fn(Direction) -> Result<OwnedFd, StubError> + Sync);

/// Asks how many packets the programs have seen ([`Programs::seen`](crate::kernel::Programs::seen)).
pub type Seen<'a> = &'a (dyn Fn() -> Option<u64> + Sync);

/// What an entry has of the kernel half.
#[derive(Clone, Copy)]
pub struct Ours<'a> {
    pub load: Load<'a>,
    /// What clsact filters run instead, and the class by which the slot is known.
    pub shared: Option<&'a (Arc<SharedStubs>, u16)>,
    pub seen: Seen<'a>,
}

struct Entry<'a> {
    asker: Asker<'a>,
    programs: Option<Programs>,
    load: Load<'a>,
    shared: Option<&'a (Arc<SharedStubs>, u16)>,
    report: EntryReport,
    now: Instant,
    /// What each interface had counted when this entry began.
    packets: HashMap<u32, u64>,
    /// Whether our programs see what passes.
    sees: Sees,
    /// It is not asked what sits on the interfaces, until the kernel says that something does.
    believes: bool,
    /// It has said so.
    is_wrong: bool,
}

struct Programs {
    fds: [OwnedFd; 2],
    ids: [u32; 2],
}

/// One link and the ways that are left to try on it.
struct Attempt {
    index: u32,
    name: String,
    found: Found,
    ways: VecDeque<How>,
    refused: Vec<String>,
}

/// Attaches to every interface that lacks its programs, and forgets those that are gone. Of a
/// namespace that `is_new` it is believed that nothing sits on its interfaces, and looked at
/// afterwards.
///
/// # Errors
/// The namespace could not be listed or watched, or the kernel refused the program itself. What
/// single interfaces refuse is in the report.
pub fn attach(
    inside: &InNetns<'_>,
    config: &AttachConfig,
    ours: Ours<'_>,
    held: &mut Held,
    is_new: bool,
    now: Instant,
) -> Result<EntryReport, InsideError> {
    let mut asker = Asker::new(inside)?;
    // First, so that a gap is never taken for shorter than it was.
    let before = (ours.seen)();
    let packets = gap::packets(&mut asker.route, held.counted());
    let sees = held.sight.look([before, (ours.seen)()], &packets);
    let report = EntryReport::default();
    let Ours { load, shared, seen: _ } = ours;
    let (believes, is_wrong) = (false, false);
    let mut entry = Entry { asker, programs: None, load, shared, report, now, packets, sees, believes, is_wrong };
    // Watch before listing: what comes in between is then in either.
    if held.watch.is_none() {
        held.watch = Some(Arc::new(inside.watch().map_err(InsideError::Watch)?));
    }
    let had: Vec<u32> = held.interfaces.keys().copied().collect();
    let mut links = entry.asker.links(config.max_links, &had)?;
    // Of more than may be had, those that are had stay.
    links.sort_by_key(|link| !held.interfaces.contains_key(&link.index));
    let there: HashSet<u32> = links.iter().map(|link| link.index).collect();
    held.interfaces.retain(|index, _| there.contains(index));
    held.rivals.retain(|index| there.contains(&index));
    // Each question waits for a lock that others on this machine may hold for long.
    entry.believes = is_new && held.interfaces.is_empty() && config.mode != Mode::Tcx;
    entry.bring(config, &links, held)?;
    entry.report.in_place = Some(Instant::now());
    if entry.believes && !entry.is_confirmed(config, held) {
        entry.believes = false;
        let removed = held.removed;
        entry.bring(config, &links, held)?;
        // What is put elsewhere now was taken away by nobody.
        held.removed = removed;
        entry.report.in_place = Some(Instant::now());
    }
    entry.report.addresses = entry.asker.addresses(&links)?;
    entry.report.own = entry.asker.own(&links, &entry.report.addresses)?;
    entry.account(held);
    (entry.report.cut, entry.report.messages) = (entry.asker.cut, entry.asker.messages());
    Ok(entry.report)
}

impl Entry<'_> {
    /// Brings programs onto all links that lack them.
    fn bring(&mut self, config: &AttachConfig, links: &[Link], held: &mut Held) -> Result<(), InsideError> {
        let mut attempts = self.look(config, links, held)?;
        while !attempts.is_empty() {
            let (clsact, rest): (Vec<Attempt>, Vec<Attempt>) =
                attempts.into_iter().partition(|attempt| matches!(attempt.ways.front(), Some(How::Clsact { .. })));
            let mut open = self.try_clsact(clsact, held)?;
            for attempt in rest {
                open.extend(self.try_tcx(attempt, held)?);
            }
            attempts = open;
        }
        Ok(())
    }

    /// Nothing was there before our programs.
    fn is_confirmed(&self, config: &AttachConfig, held: &Held) -> bool {
        let free = |(index, have): (&u32, &HeldInterface)| {
            let tcx = || BOTH.map(|dir| sys::tcx_programs(*index, dir).unwrap_or_default());
            have.tcx.is_some() || config.mode == Mode::Clsact || tcx().iter().all(Vec::is_empty)
        };
        !self.is_wrong && held.interfaces.iter().all(free)
    }

    /// The links that need something, with what sits on them.
    fn look(&mut self, config: &AttachConfig, links: &[Link], held: &mut Held) -> Result<Vec<Attempt>, InsideError> {
        let mut edges = netns::edges(links);
        self.report.shape = links.iter().map(|link| (link.index, link.master)).collect();
        let (inner, mut wanted): (Vec<&Link>, Vec<&Link>) = links
            .iter()
            .filter(|link| config.include_loopback || !link.loopback())
            .partition(|link| edges.is_inner(link.index));
        self.report.doubts = std::mem::take(&mut edges.doubts);
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        self.report.over_limit = wanted.len().saturating_sub(config.max_interfaces) as u64;
        wanted.truncate(config.max_interfaces);
        let nothing = || Part { found: Vec::new(), is_whole: true };
        let qdiscs = if self.believes { nothing() } else { self.asker.qdiscs()? };
        let with_clsact: HashSet<u32> =
            qdiscs.found.iter().filter(|qdisc| qdisc.kind == QdiscKind::Clsact).map(|qdisc| qdisc.index).collect();
        // What we hold, and so many more that may have leftovers: containers make any number of them.
        let mut room = config.max_interfaces;
        for Link { index, .. } in inner.iter().filter(|link| with_clsact.contains(&link.index)) {
            if held.interfaces.contains_key(index) || room > 0 {
                room = room.saturating_sub(1);
                self.report.swept += take_off(&mut self.asker, *index)?;
            }
        }
        held.interfaces.retain(|index, _| !edges.is_inner(*index));
        let with_ingress: HashSet<u32> =
            qdiscs.found.iter().filter(|qdisc| qdisc.kind == QdiscKind::Ingress).map(|qdisc| qdisc.index).collect();
        let mut attempts = Vec::new();
        for Link { index, name, .. } in wanted {
            let (index, name) = (*index, name.clone());
            let mut found = self.asker.listed(index, &qdiscs)?;
            found.ingress_beside = with_ingress.iter().any(|other| *other != index);
            // A kernel without TCX refuses the question: nobody has any there.
            if config.mode != Mode::Clsact && !self.believes {
                found.tcx = BOTH.map(|dir| sys::tcx_programs(index, dir).unwrap_or_default());
            }
            if let Some(have) = held.interfaces.get_mut(&index) {
                let overtaken = have.is_overtaken(&found);
                let stays = have.in_place(index, config.mode, &found)
                    && (!overtaken || held.rivals.have(index, self.now))
                    && !matches!(self.sees, Sees::NotNow(_));
                let since = match self.sees {
                    Sees::NotNow(_) => have.earlier.or(have.packets),
                    Sees::Never(_) => have.packets,
                    Sees::Well | Sees::Unknown => have.packets.filter(|_| !stays),
                };
                if let Some(packets) = since {
                    held.gaps.begin(index, packets);
                }
                if stays {
                    have.name = name;
                    if self.sees == Sees::Well {
                        have.earlier = std::mem::replace(&mut have.packets, self.packets.get(&index).copied());
                    }
                    continue;
                }
                held.removed += 1;
                if overtaken || (have.tcx.is_none() && found.has_anothers(have.runs)) {
                    held.rivals.took(index, self.now);
                }
                held.interfaces.remove(&index);
                // Whatever is before a filter of ours, a TCX program comes before that.
                found.hidden = matches!(self.sees, Sees::NotNow(_));
            }
            if held.rivals.have(index, self.now) && found.has_ours() {
                self.report.failures.push(format!("attach to {name}: another agent has put its programs in our place"));
                continue;
            }
            let plan = plan(&found, config.mode);
            self.sweep_leftovers(&plan.leftovers, config.mode, &found)?;
            let mut attempt = Attempt { index, name, found, ways: plan.ways.into(), refused: Vec::new() };
            if attempt.ways.is_empty() {
                attempt
                    .refused
                    .push("an ingress qdisc takes the place of clsact, and attach.mode is clsact".to_owned());
                self.give_up(attempt);
            } else {
                attempts.push(attempt);
            }
        }
        Ok(attempts)
    }

    /// What an earlier process left behind goes first. A qdisc that it made goes with it when
    /// clsact is not wanted any more.
    fn sweep_leftovers(&mut self, leftovers: &[tc::Filter], mode: Mode, found: &Found) -> Result<(), InsideError> {
        if leftovers.is_empty() {
            return Ok(());
        }
        for part in leftovers.chunks(BATCH) {
            let mut batch = Batch::new();
            for filter in part {
                tc::remove_filter(&mut batch, filter);
            }
            settle(self.asker.route.transact(batch)?)?;
        }
        self.report.swept += leftovers.len() as u64;
        if mode == Mode::Tcx && found.qdisc_is_ours_alone() {
            let mut batch = Batch::new();
            tc::remove_clsact(&mut batch, leftovers[0].index);
            settle(self.asker.route.transact(batch)?)?;
        }
        Ok(())
    }

    /// Notes what each interface has counted by now, and what passed those without programs.
    fn account(&mut self, held: &mut Held) {
        let Held { interfaces, gaps, sight, .. } = held;
        let blind = matches!(self.sees, Sees::Never(_));
        if !gaps.is_empty() || interfaces.values().any(|have| have.packets.is_none()) {
            // With the programs in place: what was counted by now is all that they did not see, and
            // a packet or two more.
            let counted = interfaces.keys().copied().chain(gaps.indexes());
            self.packets = gap::packets(&mut self.asker.route, counted);
        }
        let is_first = |(index, have): &(&u32, &mut HeldInterface)| {
            have.packets.is_none() && !gaps.is_open(**index) && **index != LOOPBACK
        };
        let first = interfaces.iter_mut().filter(is_first);
        self.report.before = first.filter_map(|(index, _)| self.packets.get(index)).sum();
        if !gaps.is_empty() {
            self.report.unseen = gaps.settle(&self.packets, |index| interfaces.contains_key(&index) && !blind);
        }
        for (index, have) in interfaces.iter_mut().filter(|(_, have)| have.packets.is_none()) {
            have.packets = self.packets.get(index).copied();
        }
        sight.retain(|index| interfaces.contains_key(&index));
        for (index, have) in interfaces.iter() {
            if let Some(packets) = have.packets {
                sight.attached(*index, packets);
            }
        }
        self.report.failures.extend(self.sees.failure());
    }

    fn programs(&mut self) -> Result<&Programs, InsideError> {
        let programs = match self.programs.take() {
            Some(programs) => programs,
            None => {
                let fds = [(self.load)(Direction::Ingress)?, (self.load)(Direction::Egress)?];
                let ids = [sys::program_id(fds[0].as_fd())?, sys::program_id(fds[1].as_fd())?];
                Programs { fds, ids }
            }
        };
        Ok(self.programs.insert(programs))
    }

    /// Qdisc and both filters of many links in one system call. Returns the attempts that have another way to go.
    fn try_clsact(&mut self, attempts: Vec<Attempt>, held: &mut Held) -> Result<Vec<Attempt>, InsideError> {
        let mut open = Vec::new();
        let mut waiting = attempts.into_iter().peekable();
        while waiting.peek().is_some() {
            let (programs, runs, shared) = match self.shared {
                Some((shared, class)) => {
                    let programs = shared.programs().map(|program| program.as_raw_fd());
                    (programs, Runs { ids: shared.ids(), class: *class }, Some(shared))
                }
                None => {
                    let Programs { fds, ids } = self.programs()?;
                    ([fds[0].as_raw_fd(), fds[1].as_raw_fd()], Runs { ids: *ids, class: 0 }, None)
                }
            };
            let mut batch = Batch::new();
            let mut sent = Vec::new();
            while batch.len() + 3 <= BATCH
                && let Some(mut attempt) = waiting.next()
            {
                if let Some(How::Clsact { make_qdisc, maker, prio }) = attempt.ways.pop_front() {
                    if make_qdisc {
                        tc::add_clsact(&mut batch, attempt.index);
                    }
                    for dir in BOTH {
                        let at = dir.index();
                        let program = (programs[at], runs.class);
                        tc::add_filter(&mut batch, attempt.index, dir, prio[at], program, maker);
                    }
                    sent.push((attempt, make_qdisc, maker, prio));
                }
            }
            let mut outcomes = self.asker.route.transact(batch)?.into_iter();
            let mut next = || outcomes.next().unwrap_or(Ok(()));
            let mut judged = Vec::new();
            for (attempt, make_qdisc, maker, prio) in sent {
                let qdisc = if make_qdisc { next() } else { Ok(()) };
                judged.push((attempt, make_qdisc, maker, prio, qdisc, [next(), next()]));
            }
            for (attempt, make_qdisc, maker, prio, qdisc, filters) in judged {
                if qdisc.is_ok() && filters.iter().all(Result::is_ok) {
                    let behind = !attempt.found.clsact_is_first();
                    let ours = (runs, shared.cloned());
                    held.interfaces.insert(attempt.index, HeldInterface::by_clsact(attempt.name, ours, behind));
                } else {
                    let made = make_qdisc && qdisc.is_ok();
                    self.undo(attempt.index, maker, prio, made, &filters)?;
                    open.extend(self.after_refusal(attempt, make_qdisc, qdisc, filters));
                }
            }
        }
        Ok(open)
    }

    /// Takes back the half that worked.
    fn undo(
        &mut self,
        index: u32,
        maker: QdiscMaker,
        prio: [u16; 2],
        made: bool,
        filters: &[Result<(), Refusal>; 2],
    ) -> Result<(), InsideError> {
        let mut batch = Batch::new();
        for dir in BOTH {
            if filters[dir.index()].is_ok() {
                tc::remove_filter(&mut batch, &tc::our_filter(index, dir, prio[dir.index()], maker));
            }
        }
        if !batch.is_empty() {
            settle(self.asker.route.transact(batch)?)?;
        }
        if made && self.asker.found(index, Some(QdiscKind::Clsact))?.foreign().next().is_none() {
            let mut batch = Batch::new();
            tc::remove_clsact(&mut batch, index);
            settle(self.asker.route.transact(batch)?)?;
        }
        Ok(())
    }

    /// What to do after clsact was refused: use the qdisc that somebody made in the same moment,
    /// try the next way, or give up.
    fn after_refusal(
        &mut self,
        mut attempt: Attempt,
        make_qdisc: bool,
        qdisc: Result<(), Refusal>,
        filters: [Result<(), Refusal>; 2],
    ) -> Option<Attempt> {
        if make_qdisc && qdisc.as_ref().is_err_and(|refusal| refusal.errno == Errno::EEXIST) {
            if self.believes {
                self.is_wrong = true;
                return None;
            }
            let found = Found { qdisc: Some(QdiscKind::Clsact), ..attempt.found.clone() };
            let again = plan(&found, Mode::Clsact).ways;
            attempt.found = found;
            for way in again.into_iter().rev() {
                attempt.ways.push_front(way);
            }
            return Some(attempt);
        }
        let refusal = [qdisc].into_iter().chain(filters).find_map(Result::err)?;
        if refusal.errno == Errno::ENODEV {
            self.report.vanished += 1;
            return None;
        }
        attempt.refused.push(format!("clsact: {refusal}"));
        self.next_way(attempt)
    }

    fn try_tcx(&mut self, mut attempt: Attempt, held: &mut Held) -> Result<Option<Attempt>, InsideError> {
        attempt.ways.pop_front();
        let Programs { fds: [ingress, egress], ids } = self.programs()?;
        let ids = *ids;
        let links = sys::tcx_link(ingress.as_fd(), attempt.index, Direction::Ingress)
            .and_then(|first| Ok([first, sys::tcx_link(egress.as_fd(), attempt.index, Direction::Egress)?]));
        Ok(match links {
            Ok(links) => {
                let of_ours = HeldInterface::by_tcx(attempt.name, links, ids);
                held.interfaces.insert(attempt.index, of_ours);
                None
            }
            Err(Errno::ENODEV) => {
                self.report.vanished += 1;
                None
            }
            Err(errno) => {
                attempt.refused.push(format!("tcx: {errno}"));
                self.next_way(attempt)
            }
        })
    }

    fn next_way(&mut self, attempt: Attempt) -> Option<Attempt> {
        if attempt.ways.is_empty() {
            self.give_up(attempt);
            return None;
        }
        Some(attempt)
    }

    fn give_up(&mut self, attempt: Attempt) {
        let Attempt { index: _, name, found: _, ways: _, refused } = attempt;
        self.report.failures.push(format!("attach to {name}: {}", refused.join("; ")));
    }
}
