//! Asks within one namespace, each list to a bound: who lives there may make any number of links,
//! addresses, routes, qdiscs and filters, and a look costs us and everybody who waits for the
//! kernel's lock what it reads. What a bound left out is counted.

#![forbid(unsafe_code)]

use super::plan::Found;
use super::tc::{self, Filter, Qdisc, QdiscKind};
use super::words::CutLists;
use flow_model::Direction;
use netns::wire::Payload;
use netns::{IfAddress, InNetns, Link, MOST_ASKED, MOST_OWN, NetlinkError, Own, Part, RouteSocket};
use nix::errno::Errno;

/// Addresses that are read (some 0.5 ms). A few name the namespace, and whoever has more than
/// [`MOST_OWN`] is an end of all it shows.
const MOST_ADDRESSES: usize = 2048;
/// Routes of the local table, in each family: what is the namespace's own shows in fewer.
const MOST_ROUTES: usize = 4096;
/// Qdiscs; a namespace has one or two on each link.
const MOST_QDISCS: usize = 2048;
/// Filters in one direction of one link. They are listed by priority, and ours is the first.
const MOST_FILTERS: usize = 256;
/// Where the addresses were not all read: links that lead out whose addresses are read for
/// themselves, and how many of each. More name nobody.
const OUTER_LINKS: usize = 4;
const OF_AN_OUTER_LINK: usize = 64;

/// A socket of the namespace, and what was left unread.
pub struct Asker<'a> {
    inside: &'a InNetns<'a>,
    pub route: RouteSocket,
    pub cut: CutLists,
    /// Of the sockets before this one.
    messages: u64,
}

impl<'a> Asker<'a> {
    pub fn new(inside: &'a InNetns<'a>) -> Result<Asker<'a>, NetlinkError> {
        Ok(Asker { inside, route: inside.route()?, cut: CutLists::default(), messages: 0 })
    }

    /// Takes what was found. A socket that stopped in the middle of a list is left, for a new one.
    fn take<T>(&mut self, part: Part<T>, cut: impl Fn(&mut CutLists) -> &mut u64) -> Result<Part<T>, NetlinkError> {
        if !part.is_whole {
            *cut(&mut self.cut) += 1;
            self.messages += self.route.messages();
            self.route = self.inside.route()?;
        }
        Ok(part)
    }

    /// Entries of lists that were read.
    pub fn messages(&self) -> u64 {
        self.messages + self.route.messages()
    }

    /// The namespace's links, `most` of them and those that are `held`, if they are still there.
    pub fn links(&mut self, most: usize, held: &[u32]) -> Result<Vec<Link>, NetlinkError> {
        let part = self.route.links(most)?;
        let Part { found: mut links, is_whole } = self.take(part, |cut| &mut cut.links)?;
        if !is_whole {
            let unseen: Vec<u32> =
                held.iter().copied().filter(|index| links.iter().all(|link| link.index != *index)).collect();
            for some in unseen.chunks(MOST_ASKED) {
                links.extend(self.route.links_of(some)?);
            }
        }
        Ok(links)
    }

    /// The namespace's addresses, in the order in which they are told apart (`addressed` of the
    /// names).
    pub fn addresses(&mut self, links: &[Link]) -> Result<Vec<IfAddress>, NetlinkError> {
        let part = self.route.addresses(MOST_ADDRESSES)?;
        let Part { found: mut addresses, is_whole } = self.take(part, |cut| &mut cut.addresses)?;
        if !is_whole {
            for link in links.iter().filter(|link| link.leads_out()).take(OUTER_LINKS) {
                let more = self.inside.addresses_of(link.index, OF_AN_OUTER_LINK)?;
                self.messages += more.len() as u64;
                addresses.extend(more);
            }
        }
        IfAddress::among(&mut addresses, links);
        addresses.sort_unstable_by_key(|address| (address.ip, !address.leads_out, *address));
        addresses.dedup();
        Ok(addresses)
    }

    /// What is the namespace's own.
    pub fn own(&mut self, links: &[Link], addresses: &[IfAddress]) -> Result<Own, NetlinkError> {
        if addresses.len() > MOST_OWN {
            return Ok(Own::default());
        }
        let part = match self.route.local_networks(MOST_ROUTES) {
            Ok(part) => self.take(part, |cut| &mut cut.routes)?,
            // Without the routes it is not known what is its own.
            Err(_) => return Ok(Own::default()),
        };
        Ok(if part.is_whole { Own::of(links, addresses, &part.found) } else { Own::default() })
    }

    /// Clsact and ingress qdiscs.
    pub fn qdiscs(&mut self) -> Result<Part<Qdisc>, NetlinkError> {
        let part = self.route.dump_part(MOST_QDISCS, libc::RTM_GETQDISC, tc::qdiscs_request, tc::parse_qdisc)?;
        self.take(part, |cut| &mut cut.qdiscs)
    }

    /// Filters of one direction of a link.
    fn filters(&mut self, index: u32, dir: Direction) -> Result<Vec<Filter>, NetlinkError> {
        let request = |message: &mut Payload<'_>| tc::filters_request(message, index, dir);
        let parse = |message: &netns::wire::Message<'_>| tc::parse_filter(message, dir);
        let part = self.route.dump_part(MOST_FILTERS, libc::RTM_GETTFILTER, request, parse)?;
        self.take(part, |cut| &mut cut.filters).map(|part| part.found)
    }

    /// What sits on a link with this qdisc.
    pub fn found(&mut self, index: u32, qdisc: Option<QdiscKind>) -> Result<Found, NetlinkError> {
        let mut found = Found { qdisc, ..Found::default() };
        if qdisc != Some(QdiscKind::Clsact) {
            return Ok(found);
        }
        for dir in [Direction::Ingress, Direction::Egress] {
            match self.filters(index, dir) {
                Ok(filters) => found.filters.extend(filters),
                // The link went away since it was listed; attaching to it will tell.
                Err(NetlinkError::Refused(refusal)) if refusal.errno == Errno::ENODEV => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// As [`Asker::found`], by the list of qdiscs. Where that was cut short, filters tell of one that
    /// it does not show; one without filters is found when another is to be made.
    pub fn listed(&mut self, index: u32, qdiscs: &Part<Qdisc>) -> Result<Found, NetlinkError> {
        let listed = qdiscs.found.iter().find(|qdisc| qdisc.index == index).map(|qdisc| qdisc.kind);
        if qdiscs.is_whole || listed.is_some() {
            return self.found(index, listed);
        }
        let found = self.found(index, Some(QdiscKind::Clsact))?;
        Ok(if found.filters.is_empty() { Found::default() } else { found })
    }
}
