//! The part of a look that is about the API server: who asks it all the time.

use super::{Look, Places};
use crate::decide::{api_polled, api_reopened, asked_much, opened_much};
use crate::read::{NetConnections, Unread};
use crate::sample::Held;
use crate::server::KnowsApiServer;
use crate::sockets::Sockets;
use crate::{CheckId, Finding, Subject};
use flow_model::{Endpoint, Ts};
use std::collections::{BTreeMap, BTreeSet};

/// Addresses that a look asks about. Those that are asked much are some ten on a node.
const MOST: usize = 256;
const CHECK: [CheckId; 1] = [CheckId::ApiStorm];

/// Of each namespace: what its processes hold to an API server that they have asked much, and when that was
/// read.
pub type Askers = BTreeMap<u64, (Ts, Vec<Held>)>;

impl Look<'_> {
    /// Namespaces that have to be looked at twice; who opens connections all the time is found by once.
    pub(super) fn askers(
        &mut self,
        places: &Places,
        sockets: &Sockets,
        read: &BTreeMap<u64, NetConnections>,
        found: &mut Vec<Finding>,
    ) -> Askers {
        let mut askers = Askers::new();
        if !self.wants(&CHECK) || places.is_empty() {
            return askers;
        }
        let thresholds = &self.asked.thresholds;
        let mut servers = Servers::default();
        for (ino, NetConnections { at, connections, .. }) in read {
            for (address, closed) in opened_much(&connections.found, thresholds) {
                if servers.has(self, address)
                    && let Some(reopened) = api_reopened(&Subject::default(), address, closed, thresholds)
                {
                    let subject = self.subject_of_place(*ino, places);
                    found.push(Finding { subject, ..reopened });
                }
            }
            let held: Vec<Held> =
                connections.found.iter().flat_map(|connection| sockets.held(*ino, *connection)).collect();
            let much = asked_much(&held, thresholds);
            let much: BTreeSet<Endpoint> = much.into_iter().filter(|address| servers.has(self, *address)).collect();
            if !much.is_empty() {
                let to_it = held.into_iter().filter(|held| much.contains(&held.connection.remote)).collect();
                askers.insert(*ino, (*at, to_it));
            }
        }
        if let Err(reason) = &self.asked.api_server {
            self.gaps.add(&CHECK, reason);
        }
        if servers.beyond > 0 {
            let reason = format!("{} addresses beyond the bound were not asked about", servers.beyond);
            self.gaps.add(&CHECK, &reason);
        }
        askers
    }

    pub(super) fn decide_askers(
        &mut self,
        places: &Places,
        sockets: &Sockets,
        before: &Askers,
        found: &mut Vec<Finding>,
    ) {
        for (ino, (at, before)) in before {
            let Some(place) = places.get(ino) else { continue };
            let after = self.readers.connections(*ino, &place.pids, self.asked.bounds.connections);
            let Some(after) = self.seen(after, &CHECK) else { continue };
            let window = after.at.since(*at);
            let servers: BTreeSet<Endpoint> = before.iter().map(|held| held.connection.remote).collect();
            // Of connections that began in between nobody is known to hold them: they are too young to matter.
            let to_it = after.connections.found.iter().filter(|connection| servers.contains(&connection.remote));
            let after: Vec<Held> = to_it.flat_map(|connection| sockets.held(*ino, *connection)).collect();
            let processes: BTreeSet<u32> = before.iter().map(|held| held.pid).collect();
            for pid in processes {
                let of = |all: &[Held]| all.iter().filter(|held| held.pid == pid).copied().collect::<Vec<_>>();
                let polls = api_polled(&Subject::default(), &of(before), &of(&after), window, &self.asked.thresholds);
                if let Some(polls) = polls {
                    let subject = self.subject(*ino, Some(pid));
                    found.push(Finding { subject, ..polls }.with("pid", u64::from(pid)));
                }
            }
        }
    }
}

/// What was answered so far.
#[derive(Default)]
struct Servers {
    known: BTreeMap<Endpoint, bool>,
    beyond: usize,
}

impl Servers {
    fn has(&mut self, look: &mut Look<'_>, address: Endpoint) -> bool {
        if let Some(known) = self.known.get(&address) {
            return *known;
        }
        let Ok(knows) = &look.asked.api_server else { return false };
        if self.known.len() >= MOST {
            self.beyond += 1;
            return false;
        }
        let knows: KnowsApiServer = knows.clone();
        let answer =
            look.readers.read("whether an API server answers there", move || Ok::<_, Unread>(knows.is_it(address)));
        let answer = answer.unwrap_or_else(|error| Err(error.to_string()));
        if let Err(reason) = &answer {
            look.gaps.add(&CHECK, reason);
        }
        let is_server = answer.unwrap_or(false);
        self.known.insert(address, is_server);
        is_server
    }
}
