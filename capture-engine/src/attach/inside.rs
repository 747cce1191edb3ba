//! What happens within one entry into a namespace: look at its interfaces, bring programs onto
//! those that lack them, or take ours away.

#![forbid(unsafe_code)]

use super::plan::{Found, How, plan};
use super::sys;
use super::tc::{self, QdiscKind, QdiscMaker};
use super::words::{AttachConfig, Interface, Mechanism, Mode};
use crate::kernel::StubError;
use flow_model::Direction;
use netns::wire::Batch;
use netns::{IfAddress, InNetns, Link, LinkWatch, NetlinkError, Refusal, RouteSocket};
use nix::errno::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];
/// Messages per `sendmsg`; a link needs three, and one more for each leftover.
const BATCH: usize = 90;

#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Stub(#[from] StubError),
    #[error("watch the namespace's links")]
    Watch(#[source] std::io::Error),
}

/// What we have in a namespace.
#[derive(Debug, Default)]
pub struct Held {
    pub interfaces: BTreeMap<u32, HeldInterface>,
    pub watch: Option<Arc<LinkWatch>>,
}

/// What we have on one interface.
#[derive(Debug)]
pub struct HeldInterface {
    pub name: String,
    /// TCX links, which last as long as they are open; none with clsact.
    tcx: Option<[OwnedFd; 2]>,
}

impl Held {
    #[must_use]
    pub fn list(&self) -> Vec<Interface> {
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
}

/// The programs of this entry: loaded when the first interface needs them, closed at its end.
pub type Load<'a> = &'a (dyn Fn(Direction) -> Result<OwnedFd, StubError> + Sync);

struct Entry<'a> {
    route: RouteSocket,
    programs: Option<[OwnedFd; 2]>,
    load: Load<'a>,
    report: EntryReport,
}

/// One link and the ways that are left to try on it.
struct Attempt {
    index: u32,
    name: String,
    found: Found,
    ways: VecDeque<How>,
    refused: Vec<String>,
}

/// Attaches to every interface that lacks its programs, and forgets those that are gone.
///
/// # Errors
/// The namespace could not be listed or watched, or the kernel refused the program itself. What
/// single interfaces refuse is in the report.
pub fn attach(
    inside: &InNetns<'_>,
    config: &AttachConfig,
    load: Load<'_>,
    held: &mut Held,
) -> Result<EntryReport, InsideError> {
    let route = inside.route().map_err(NetlinkError::from)?;
    let mut entry = Entry { route, programs: None, load, report: EntryReport::default() };
    // Watch before listing: what comes in between is then in either.
    if held.watch.is_none() {
        held.watch = Some(Arc::new(inside.watch().map_err(InsideError::Watch)?));
    }
    let links = entry.route.links()?;
    entry.report.addresses = entry.route.addresses()?;
    IfAddress::among(&mut entry.report.addresses, &links);
    held.interfaces.retain(|index, _| links.iter().any(|link| link.index == *index));
    let mut attempts = entry.look(config, links, held)?;
    while !attempts.is_empty() {
        let (clsact, rest): (Vec<Attempt>, Vec<Attempt>) =
            attempts.into_iter().partition(|attempt| matches!(attempt.ways.front(), Some(How::Clsact { .. })));
        let mut open = entry.try_clsact(clsact, held)?;
        for attempt in rest {
            open.extend(entry.try_tcx(attempt, held)?);
        }
        attempts = open;
    }
    Ok(entry.report)
}

/// Removes every filter of ours from the namespace, whichever process made it, and the clsact
/// qdiscs that are there for them alone. Returns the number of filters.
///
/// # Errors
/// The namespace could not be listed, or the kernel refused a removal.
pub fn sweep(inside: &InNetns<'_>) -> Result<u64, NetlinkError> {
    let mut route = inside.route()?;
    let qdiscs = route.dump(libc::RTM_GETQDISC, tc::qdiscs_request, tc::parse_qdisc)?;
    let mut batch = Batch::new();
    let mut filters = 0;
    for qdisc in qdiscs.iter().filter(|qdisc| qdisc.kind == QdiscKind::Clsact) {
        let found = find(&mut route, qdisc.index, Some(qdisc.kind))?;
        for filter in found.filters.iter().filter(|filter| filter.ours().is_some()) {
            tc::remove_filter(&mut batch, filter);
            filters += 1;
        }
        if found.qdisc_is_ours_alone() {
            tc::remove_clsact(&mut batch, qdisc.index);
        }
        if batch.len() > BATCH {
            settle(route.transact(std::mem::take(&mut batch))?)?;
        }
    }
    settle(route.transact(batch)?)?;
    Ok(filters)
}

/// What a removal found gone already is as good as removed.
fn settle(outcomes: Vec<Result<(), Refusal>>) -> Result<(), NetlinkError> {
    let gone = |errno| matches!(errno, Errno::ENOENT | Errno::ENODEV | Errno::EINVAL);
    match outcomes.into_iter().filter_map(Result::err).find(|refusal| !gone(refusal.errno)) {
        Some(refusal) => Err(NetlinkError::Refused(refusal)),
        None => Ok(()),
    }
}

fn find(route: &mut RouteSocket, index: u32, qdisc: Option<QdiscKind>) -> Result<Found, NetlinkError> {
    let mut found = Found { qdisc, ..Found::default() };
    if qdisc != Some(QdiscKind::Clsact) {
        return Ok(found);
    }
    for dir in BOTH {
        let request = |message: &mut netns::wire::Payload<'_>| tc::filters_request(message, index, dir);
        match route.dump(libc::RTM_GETTFILTER, request, |message| tc::parse_filter(message, dir)) {
            Ok(filters) => found.filters.extend(filters),
            // The link went away since it was listed; attaching to it will tell.
            Err(NetlinkError::Refused(refusal)) if refusal.errno == Errno::ENODEV => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

impl Entry<'_> {
    /// The links that need something, with what sits on them.
    fn look(&mut self, config: &AttachConfig, links: Vec<Link>, held: &mut Held) -> Result<Vec<Attempt>, InsideError> {
        let mut wanted: Vec<Link> =
            links.into_iter().filter(|link| config.include_loopback || !link.loopback()).collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        self.report.over_limit = wanted.len().saturating_sub(config.max_interfaces) as u64;
        wanted.truncate(config.max_interfaces);
        let qdiscs = self.route.dump(libc::RTM_GETQDISC, tc::qdiscs_request, tc::parse_qdisc)?;
        let mut attempts = Vec::new();
        for Link { index, name, .. } in wanted {
            let qdisc = qdiscs.iter().find(|qdisc| qdisc.index == index).map(|qdisc| qdisc.kind);
            let mut found = find(&mut self.route, index, qdisc)?;
            if let Some(have) = held.interfaces.get_mut(&index) {
                if have.tcx.is_some() || found.whole() {
                    have.name = name;
                    continue;
                }
                held.interfaces.remove(&index);
            }
            // A kernel without TCX refuses the question: nobody has any there.
            found.tcx_in_use = config.mode == Mode::Auto
                && BOTH.iter().any(|dir| sys::tcx_count(index, *dir).is_ok_and(|count| count > 0));
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
            settle(self.route.transact(batch)?)?;
        }
        self.report.swept += leftovers.len() as u64;
        if mode == Mode::Tcx && found.qdisc_is_ours_alone() {
            let mut batch = Batch::new();
            tc::remove_clsact(&mut batch, leftovers[0].index);
            settle(self.route.transact(batch)?)?;
        }
        Ok(())
    }

    fn programs(&mut self) -> Result<[i32; 2], InsideError> {
        if self.programs.is_none() {
            self.programs = Some([(self.load)(Direction::Ingress)?, (self.load)(Direction::Egress)?]);
        }
        Ok(self.programs.as_ref().map_or([-1, -1], |[ingress, egress]| [ingress.as_raw_fd(), egress.as_raw_fd()]))
    }

    /// Qdisc and both filters of many links in one system call. Returns the attempts that have another way to go.
    fn try_clsact(&mut self, attempts: Vec<Attempt>, held: &mut Held) -> Result<Vec<Attempt>, InsideError> {
        let mut open = Vec::new();
        let mut waiting = attempts.into_iter().peekable();
        while waiting.peek().is_some() {
            let programs = self.programs()?;
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
                        tc::add_filter(&mut batch, attempt.index, dir, prio[at], programs[at], maker);
                    }
                    sent.push((attempt, make_qdisc, maker, prio));
                }
            }
            let mut outcomes = self.route.transact(batch)?.into_iter();
            let mut next = || outcomes.next().unwrap_or(Ok(()));
            let mut judged = Vec::new();
            for (attempt, make_qdisc, maker, prio) in sent {
                let qdisc = if make_qdisc { next() } else { Ok(()) };
                judged.push((attempt, make_qdisc, maker, prio, qdisc, [next(), next()]));
            }
            for (attempt, make_qdisc, maker, prio, qdisc, filters) in judged {
                if qdisc.is_ok() && filters.iter().all(Result::is_ok) {
                    held.interfaces.insert(attempt.index, HeldInterface { name: attempt.name, tcx: None });
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
            settle(self.route.transact(batch)?)?;
        }
        if made && find(&mut self.route, index, Some(QdiscKind::Clsact))?.foreign().next().is_none() {
            let mut batch = Batch::new();
            tc::remove_clsact(&mut batch, index);
            settle(self.route.transact(batch)?)?;
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
        self.programs()?;
        let Some([ingress, egress]) = &self.programs else { return Ok(None) };
        let links = sys::tcx_link(ingress.as_fd(), attempt.index, Direction::Ingress)
            .and_then(|first| Ok([first, sys::tcx_link(egress.as_fd(), attempt.index, Direction::Egress)?]));
        Ok(match links {
            Ok(links) => {
                held.interfaces.insert(attempt.index, HeldInterface { name: attempt.name, tcx: Some(links) });
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
