//! Which routes a server has: what one path tells, and what many of them tell together. A segment
//! that is one of a set that keeps growing (`/users/anna`, `/users/ben`, ..) is a value, too.
//!
//! Learned for each server workload, by what it answers. Both ends of an edge ask here, so that they
//! show the same.

mod learned;
#[cfg(test)]
mod tests;

use crate::labels::End;
use crate::losses::{Loss, Losses};
use flow_model::{HttpExchange, Ts};
use hashbrown::HashMap;
use learned::{Learned, Told};
use std::sync::Arc;
use std::time::Duration;

/// The route of what no other route takes.
pub(crate) const ANY: &str = "/*";
/// Segments that are kept of all servers: some 8 MiB.
const MOST_NODES: usize = 50_000;
/// How long a flow may go by what it was told last: servers are known by being asked for.
const HELD: Duration = Duration::from_secs(60);
/// Routes that a flow finds without asking.
const RECENT: usize = 4;

#[derive(Debug)]
pub(crate) struct Routes {
    servers: HashMap<End, Learned, foldhash::fast::RandomState>,
    nodes: usize,
    /// Moves when what was told of a path may no longer hold.
    version: u64,
    any: Arc<str>,
    losses: Losses,
    /// Not shown before there was one.
    over_cap: Option<Loss>,
}

/// What a flow was told of its server's routes.
#[derive(Debug)]
pub(crate) struct Recent {
    edge: u64,
    version: u64,
    asked: Ts,
    /// As the path tells it, and as it is shown. The latest first.
    routes: [Option<(Arc<str>, Arc<str>)>; RECENT],
}

impl Routes {
    pub(crate) fn new(losses: &Losses) -> Routes {
        let (servers, any) = (HashMap::default(), ANY.into());
        Routes { servers, nodes: 0, version: 0, any, losses: losses.clone(), over_cap: None }
    }

    /// The route by which an exchange is shown, of the edge `edge` to `server`.
    pub(crate) fn of<'a>(
        &mut self,
        recent: &'a mut Option<Box<Recent>>,
        (edge, server): (u64, &End),
        http: &HttpExchange,
        now: Ts,
    ) -> &'a str {
        let holds = recent.as_ref().is_some_and(|recent| {
            recent.edge == edge && recent.version == self.version && now.since(recent.asked) < HELD
        });
        if !holds {
            *recent = None;
        }
        let new = || Recent { edge, version: self.version, asked: now, routes: Default::default() };
        let Recent { routes, version, .. } = &mut **recent.get_or_insert_with(|| Box::new(new()));
        let is_same = |(of, _): &(Arc<str>, Arc<str>)| Arc::ptr_eq(of, &http.route) || **of == *http.route;
        match routes.iter().flatten().position(is_same) {
            Some(at) => routes.swap(0, at),
            None => {
                let shown = self.ask(server, http, now);
                if Arc::ptr_eq(&shown, &self.any) {
                    // It may be learned by its next answer.
                    return ANY;
                }
                // What was kept may be one that has just become another.
                if *version != self.version {
                    *routes = Default::default();
                    *version = self.version;
                }
                routes.rotate_right(1);
                routes[0] = Some((http.route.clone(), shown));
            }
        }
        routes[0].as_ref().map_or(ANY, |(_, shown)| shown)
    }

    fn ask(&mut self, server: &End, http: &HttpExchange, now: Ts) -> Arc<str> {
        let Routes { servers, nodes, any, losses, over_cap, .. } = self;
        let has_it = has_it(http.status);
        let admit = has_it && *nodes < MOST_NODES;
        if admit && !servers.contains_key(server) {
            servers.insert(server.clone(), Learned::new(now));
        }
        let told = servers.get_mut(server).map(|learned| {
            let before = learned.nodes();
            let told = learned.route(&http.route, admit, now);
            *nodes = (*nodes + learned.nodes()).saturating_sub(before);
            told
        });
        match told.unwrap_or(Told::Unknown) {
            Told::Known(route) => route,
            Told::Folded(route) => {
                self.version += 1;
                route
            }
            Told::Unknown => {
                if has_it {
                    let place = || losses.place("metrics", "routes_cap", "paths of HTTP requests that are shown as /*");
                    over_cap.get_or_insert_with(place).add(1);
                }
                any.clone()
            }
        }
    }

    /// Forgets the routes that nobody asked for since `before`, and servers without any.
    pub(crate) fn expire(&mut self, before: Ts) {
        self.servers.retain(|_, learned| learned.keep(before));
        self.nodes = self.servers.values().map(Learned::nodes).sum();
    }
}

/// Whether an answer says that there is something at this path. Whoever tries paths at random is to
/// take no place from those that are there.
fn has_it(status: Option<u16>) -> bool {
    !matches!(status, Some(400 | 404 | 405 | 410 | 414))
}
