//! Decides what to do with one link, from what already sits on it. Pure.

#![forbid(unsafe_code)]

use super::tc::{Filter, QdiscKind, QdiscMaker, Runs};
use super::words::Mode;
use flow_model::Direction;

const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// What sits on a link before we touch it.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub qdisc: Option<QdiscKind>,
    /// All filters of both directions, groups included.
    pub filters: Vec<Filter>,
    /// TCX programs by `Direction::index`, the first that runs first; these run before any clsact
    /// filter and may keep packets from it. Not asked for where only clsact may be used.
    pub tcx: [Vec<u32>; 2],
    /// A filter of ours did not see what passed, and nothing that is listed says why.
    pub hidden: bool,
    /// Another link of the namespace has an `ingress` qdisc. Whoever made that (a virtual machine's
    /// monitor, which redirects from there to its tap) makes one here, too, as soon as it is told of
    /// the link, and the kernel refuses it where clsact is.
    pub ingress_beside: bool,
}

/// One way to attach, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Clsact {
        /// Add the qdisc first.
        make_qdisc: bool,
        maker: QdiscMaker,
        /// By `Direction::index`.
        prio: [u16; 2],
    },
    Tcx,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Filters of an earlier process (or of this one, damaged), to be removed in any case.
    pub leftovers: Vec<Filter>,
    /// Empty when the mode allows nothing that is possible here.
    pub ways: Vec<How>,
}

impl Found {
    fn ours(&self) -> impl Iterator<Item = (&Filter, QdiscMaker)> {
        self.filters.iter().filter_map(|filter| Some((filter, filter.ours()?)))
    }

    /// Filters of others. A group counts when no filter of ours explains it.
    pub fn foreign(&self) -> impl Iterator<Item = &Filter> {
        self.filters.iter().filter(|filter| {
            filter.ours().is_none()
                && !(filter.is_group()
                    && self.ours().any(|(our, _)| {
                        our.dir == filter.dir
                            && our.prio == filter.prio
                            && our.chain == filter.chain
                            && our.kind == filter.kind
                    }))
        })
    }

    /// Exactly one filter of ours in each direction, which runs this.
    #[must_use]
    pub fn whole(&self, runs: Runs) -> bool {
        BOTH.iter().all(|dir| {
            let mut there = self.ours().map(|(filter, _)| filter).filter(|filter| filter.dir == *dir);
            there.next().is_some_and(|filter| runs.is_of(filter)) && there.next().is_none()
        })
    }

    /// Filters that look like ours and run something else: a process like this one has taken our
    /// place.
    #[must_use]
    pub fn has_anothers(&self, runs: Runs) -> bool {
        self.ours().any(|(filter, _)| !runs.is_of(filter))
    }

    /// The qdisc is there for our filters alone.
    #[must_use]
    pub fn qdisc_is_ours_alone(&self) -> bool {
        self.qdisc == Some(QdiscKind::Clsact)
            && self.ours().any(|(_, maker)| maker == QdiscMaker::Us)
            && self.foreign().next().is_none()
    }

    /// Filters that look like ours, whoever made them.
    #[must_use]
    pub fn has_ours(&self) -> bool {
        self.ours().next().is_some()
    }

    /// A clsact filter of ours sees every packet: nothing of others runs before it.
    #[must_use]
    pub fn clsact_is_first(&self) -> bool {
        BOTH.iter().all(|dir| !self.taken(*dir).contains(&1)) && self.tcx.iter().all(Vec::is_empty) && !self.hidden
    }

    /// Priorities in use by others where a filter of ours would sit.
    fn taken(&self, dir: Direction) -> Vec<u16> {
        self.foreign().filter(|filter| filter.dir == dir && filter.chain == 0).map(|filter| filter.prio).collect()
    }
}

/// How to attach to a link. First choice is clsact at the lowest priority
/// (`docs/decisions/0002-attach-clsact-first.md`); TCX goes first where clsact would not see every
/// packet, because something of others runs before it, and where it would be in others' way.
#[must_use]
pub fn plan(found: &Found, mode: Mode) -> Plan {
    let leftovers: Vec<Filter> = found.ours().map(|(filter, _)| filter.clone()).collect();
    let prio = BOTH.map(|dir| first_free(&found.taken(dir)));
    let clsact = match found.qdisc {
        None => Some(How::Clsact { make_qdisc: true, maker: QdiscMaker::Us, prio }),
        Some(QdiscKind::Clsact) => {
            let ours = found.ours().any(|(_, maker)| maker == QdiscMaker::Us);
            Some(How::Clsact { make_qdisc: false, maker: if ours { QdiscMaker::Us } else { QdiscMaker::Other }, prio })
        }
        Some(QdiscKind::Ingress) => None,
    };
    let ways = match mode {
        Mode::Clsact => clsact.into_iter().collect(),
        Mode::Tcx => vec![How::Tcx],
        Mode::Auto if found.clsact_is_first() && !found.ingress_beside => {
            clsact.into_iter().chain([How::Tcx]).collect()
        }
        Mode::Auto => [How::Tcx].into_iter().chain(clsact).collect(),
    };
    Plan { leftovers, ways }
}

/// A priority of our own: a group holds filters of one kind and protocol only, so others' are never shared.
fn first_free(taken: &[u16]) -> u16 {
    (1..=u16::MAX).find(|prio| !taken.contains(prio)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tc::our_filter;
    use super::*;

    fn foreign(dir: Direction, prio: u16) -> Filter {
        Filter { handle: 1, name: "theirs".to_owned(), ..our_filter(2, dir, prio, QdiscMaker::Other) }
    }

    fn group_of(filter: &Filter) -> Filter {
        Filter { handle: 0, name: String::new(), ..filter.clone() }
    }

    fn clsact(filters: Vec<Filter>) -> Found {
        Found { qdisc: Some(QdiscKind::Clsact), filters, ..Found::default() }
    }

    const NEW: How = How::Clsact { make_qdisc: true, maker: QdiscMaker::Us, prio: [1, 1] };

    #[test]
    fn a_bare_link_gets_clsact_with_tcx_to_fall_back_on() {
        assert_eq!(plan(&Found::default(), Mode::Auto), Plan { leftovers: vec![], ways: vec![NEW, How::Tcx] });
        assert_eq!(plan(&Found::default(), Mode::Clsact).ways, [NEW]);
        assert_eq!(plan(&Found::default(), Mode::Tcx).ways, [How::Tcx]);
    }

    #[test]
    fn a_qdisc_that_was_there_is_used_and_remembered_as_anothers() {
        let ways = plan(&clsact(vec![foreign(Direction::Ingress, 5)]), Mode::Auto).ways;
        assert_eq!(ways, [How::Clsact { make_qdisc: false, maker: QdiscMaker::Other, prio: [1, 1] }, How::Tcx]);
    }

    #[test]
    fn where_others_come_first_tcx_is_tried_first_and_a_priority_is_never_shared() {
        let found = clsact(vec![foreign(Direction::Egress, 1), foreign(Direction::Egress, 2)]);
        let behind = How::Clsact { make_qdisc: false, maker: QdiscMaker::Other, prio: [1, 3] };
        assert_eq!(plan(&found, Mode::Auto).ways, [How::Tcx, behind]);
        assert_eq!(plan(&found, Mode::Clsact).ways, [behind]);
        let tcx = [vec![], vec![9]];
        assert_eq!(plan(&Found { tcx, ..Found::default() }, Mode::Auto).ways, [How::Tcx, NEW]);
        assert_eq!(plan(&Found { hidden: true, ..Found::default() }, Mode::Auto).ways, [How::Tcx, NEW]);
    }

    #[test]
    fn an_ingress_qdisc_leaves_only_tcx() {
        let found = Found { qdisc: Some(QdiscKind::Ingress), ..Found::default() };
        assert_eq!(plan(&found, Mode::Auto).ways, [How::Tcx]);
        assert_eq!(plan(&found, Mode::Clsact).ways, []);
    }

    #[test]
    fn clsact_is_not_put_where_the_next_ingress_qdisc_is_to_be_expected() {
        let beside = Found { ingress_beside: true, ..Found::default() };
        assert_eq!(plan(&beside, Mode::Auto).ways, [How::Tcx, NEW]);
        assert_eq!(plan(&beside, Mode::Clsact).ways, [NEW]);
    }

    #[test]
    fn leftovers_are_removed_and_tell_who_made_the_qdisc() {
        for maker in [QdiscMaker::Us, QdiscMaker::Other] {
            let left = our_filter(2, Direction::Ingress, 1, maker);
            let planned = plan(&clsact(vec![group_of(&left), left.clone()]), Mode::Auto);
            assert_eq!(planned.leftovers, [left]);
            assert_eq!(planned.ways[0], How::Clsact { make_qdisc: false, maker, prio: [1, 1] });
        }
    }

    #[test]
    fn filters_with_another_program_are_another_process_s() {
        let ours = BOTH.map(|dir| Filter { program: 7 + dir.index() as u32, ..our_filter(2, dir, 1, QdiscMaker::Us) });
        let found = clsact(ours.to_vec());
        let run = |ids| Runs { ids, class: 0 };
        assert!(found.whole(run([7, 8])) && !found.has_anothers(run([7, 8])));
        for ids in [[7, 9], [9, 8]] {
            assert!(!found.whole(run(ids)) && found.has_anothers(run(ids)));
        }
        let half = clsact(ours[..1].to_vec());
        assert!(!half.whole(run([7, 8])) && !half.has_anothers(run([7, 8])), "somebody removed one");
        assert!(!clsact(vec![]).has_anothers(run([7, 8])));
    }

    #[test]
    fn filters_that_share_a_program_are_told_apart_by_their_class() {
        let of = |class| {
            let filter = |dir| Filter { program: 7, class, ..our_filter(2, dir, 1, QdiscMaker::Us) };
            clsact(BOTH.map(filter).to_vec())
        };
        let ours = Runs { ids: [7, 7], class: 40 };
        assert!(of(40).whole(ours) && !of(40).has_anothers(ours));
        for another in [of(0), of(41), of(40 + (1 << 16))] {
            assert!(!another.whole(ours) && another.has_anothers(ours), "counted as another namespace's");
        }
    }

    #[test]
    fn a_qdisc_of_ours_is_removable_only_while_nobody_else_uses_it() {
        let [ours_in, ours_out] = BOTH.map(|dir| our_filter(2, dir, 1, QdiscMaker::Us));
        let alone = clsact(vec![group_of(&ours_in), ours_in.clone(), group_of(&ours_out), ours_out.clone()]);
        assert!(alone.whole(Runs::default()) && alone.qdisc_is_ours_alone());
        let mut joined = alone.clone();
        joined.filters.push(foreign(Direction::Egress, 7));
        assert!(joined.whole(Runs::default()) && !joined.qdisc_is_ours_alone());
        let mut empty_group = alone;
        empty_group.filters.push(group_of(&foreign(Direction::Egress, 7)));
        assert!(!empty_group.qdisc_is_ours_alone());
        let anothers = clsact(BOTH.map(|dir| our_filter(2, dir, 1, QdiscMaker::Other)).to_vec());
        assert!(anothers.whole(Runs::default()) && !anothers.qdisc_is_ours_alone());
    }
}
