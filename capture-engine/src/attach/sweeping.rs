//! Takes our programs out of a namespace, whichever process put them there.

#![forbid(unsafe_code)]

use super::asker::Asker;
use super::gap::{self, Gaps};
use super::tc::{self, Qdisc, QdiscKind};
use netns::wire::Batch;
use netns::{InNetns, NetlinkError, Part, Refusal};
use nix::errno::Errno;
use std::collections::HashSet;

/// Messages per `sendmsg`; a link needs three, and one more for each leftover.
pub const BATCH: usize = 90;

/// As [`sweep`], also of the interfaces that we `had`, however much else there is. Says what passed
/// unseen since the last look.
///
/// # Errors
/// As there.
pub fn leave(inside: &InNetns<'_>, had: &[u32], gaps: &mut Gaps) -> Result<u64, NetlinkError> {
    sweep_with(inside, had)?;
    if gaps.is_empty() {
        return Ok(0);
    }
    Ok(gaps.settle(&gap::packets(&mut inside.route()?, gaps.indexes()), |_| true))
}

/// Removes every filter of ours from the namespace, whichever process made it, and the clsact
/// qdiscs that are there for them alone. Returns the number of filters.
///
/// # Errors
/// The namespace could not be listed, or the kernel refused a removal.
pub fn sweep(inside: &InNetns<'_>) -> Result<u64, NetlinkError> {
    sweep_with(inside, &[])
}

fn sweep_with(inside: &InNetns<'_>, had: &[u32]) -> Result<u64, NetlinkError> {
    let mut asker = Asker::new(inside)?;
    let Part { found: mut qdiscs, is_whole } = asker.qdiscs()?;
    if !is_whole {
        let listed: HashSet<u32> = qdiscs.iter().map(|qdisc| qdisc.index).collect();
        let unlisted = had.iter().filter(|index| !listed.contains(index));
        qdiscs.extend(unlisted.map(|index| Qdisc { index: *index, kind: QdiscKind::Clsact }));
    }
    let mut batch = Batch::new();
    let mut filters = 0;
    for qdisc in qdiscs.iter().filter(|qdisc| qdisc.kind == QdiscKind::Clsact) {
        let found = asker.found(qdisc.index, Some(qdisc.kind))?;
        for filter in found.filters.iter().filter(|filter| filter.ours().is_some()) {
            tc::remove_filter(&mut batch, filter);
            filters += 1;
            if batch.len() >= BATCH {
                settle(asker.route.transact(std::mem::take(&mut batch))?)?;
            }
        }
        if found.qdisc_is_ours_alone() {
            tc::remove_clsact(&mut batch, qdisc.index);
        }
    }
    settle(asker.route.transact(batch)?)?;
    Ok(filters)
}

/// Removes what [`sweep`] does from one interface.
pub fn take_off(asker: &mut Asker<'_>, index: u32) -> Result<u64, NetlinkError> {
    let found = asker.found(index, Some(QdiscKind::Clsact))?;
    let mut batch = Batch::new();
    let mut filters = 0;
    // More than fit one batch only somebody else can have made; the next look takes the rest.
    for filter in found.filters.iter().filter(|filter| filter.ours().is_some()).take(BATCH) {
        tc::remove_filter(&mut batch, filter);
        filters += 1;
    }
    if found.qdisc_is_ours_alone() {
        tc::remove_clsact(&mut batch, index);
    }
    settle(asker.route.transact(batch)?)?;
    Ok(filters)
}

/// What a removal found gone already is as good as removed.
pub fn settle(outcomes: Vec<Result<(), Refusal>>) -> Result<(), NetlinkError> {
    let gone = |errno| matches!(errno, Errno::ENOENT | Errno::ENODEV | Errno::EINVAL);
    match outcomes.into_iter().filter_map(Result::err).find(|refusal| !gone(refusal.errno)) {
        Some(refusal) => Err(NetlinkError::Refused(refusal)),
        None => Ok(()),
    }
}
