//! Servers that were seen to speak a protocol of ours.
//!
//! What is lost of a connection whose every head was lost can then still be counted as exchanges. And where
//! more than heads is needed, the word on a new connection comes some milliseconds late: its server is
//! known, so all of it is copied until then ([`crate::kernel::Overrides::eager`]).

use super::requests::Requests;
use flow_model::{Endpoint, Slot};
use l7::Wire;
use lru::LruCache;
use std::num::NonZeroUsize;

/// Servers remembered: a node runs some hundred pods with a few ports each, and their peers.
const MOST: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

/// Where a service listens, as one namespace sees it.
pub(super) type ServerEnd = (Slot, Endpoint);

#[derive(Debug)]
pub(super) struct Servers {
    known: LruCache<ServerEnd, ()>,
    /// By address alone: a pod that was never seen to ask it finds it known. That two namespaces may have an
    /// address in common costs some bytes more.
    begun: LruCache<Endpoint, Begun>,
}

/// How connections to an address begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begun {
    /// What the newest one showed first.
    wire: Wire,
    /// New ones are copied whole.
    eager: bool,
}

impl Default for Servers {
    fn default() -> Servers {
        Servers { known: LruCache::sparse(MOST), begun: LruCache::sparse(MOST) }
    }
}

impl Servers {
    pub(super) fn is_known(&mut self, server: &ServerEnd) -> bool {
        self.known.get(server).is_some()
    }

    /// A connection to it has shown what it begins with; over UDP nothing begins.
    pub(super) fn speaks(&mut self, server: ServerEnd, wire: Option<Wire>, requests: &mut Requests) {
        self.known.put(server, ());
        let (_, server) = server;
        let Some(wire) = wire else { return };
        if let Some(begun) = self.begun.get_mut(&server) {
            if begun.eager && begun.wire != wire {
                // It speaks something else now, or several protocols at one port: who needs heads alone pays for
                // no more.
                begun.eager = false;
                requests.server(server, false);
            }
            begun.wire = wire;
        } else if let Some((forgotten, Begun { eager: true, .. })) =
            self.begun.push(server, Begun { wire, eager: false })
        {
            requests.server(forgotten, false);
        }
    }

    /// Of what a connection to it began with, frames are followed.
    pub(super) fn is_walked(&mut self, server: Endpoint, wire: Option<Wire>, requests: &mut Requests) {
        let Some(begun) = self.begun.get_mut(&server).filter(|begun| !begun.eager && Some(begun.wire) == wire) else {
            return;
        };
        begun.eager = true;
        requests.server(server, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const POSTGRES: Option<Wire> = Some(Wire::Postgres);
    const HTTP: Option<Wire> = Some(Wire::Http1);

    fn server(port: u16) -> ServerEnd {
        (Slot(7), Endpoint { ip: Ipv4Addr::new(10, 0, 0, 1).into(), port })
    }

    #[test]
    fn the_kernel_hears_once_of_a_server_and_again_when_it_speaks_something_else() {
        let (mut servers, mut requests) = (Servers::default(), Requests::new(16));
        let mut told = |servers: &mut Servers, wire, walked| {
            servers.speaks(server(1), wire, &mut requests);
            if walked {
                servers.is_walked(server(1).1, wire, &mut requests);
            }
            requests.take_servers().map(|(_, eager)| eager).collect::<Vec<_>>()
        };
        assert_eq!(told(&mut servers, HTTP, false), []);
        assert_eq!(told(&mut servers, POSTGRES, true), [true]);
        assert_eq!(told(&mut servers, POSTGRES, true), []);
        assert_eq!(told(&mut servers, HTTP, false), [false]);
        // What a connection becomes after it began as HTTP/1 is not asked for of the next one.
        servers.speaks(server(1), HTTP, &mut requests);
        servers.is_walked(server(1).1, Some(Wire::WebSocket), &mut requests);
        assert_eq!(requests.take_servers().count(), 0);
    }

    #[test]
    fn what_is_forgotten_is_taken_back() {
        let (mut servers, mut requests) = (Servers::default(), Requests::new(16));
        servers.speaks(server(1), POSTGRES, &mut requests);
        servers.is_walked(server(1).1, POSTGRES, &mut requests);
        for port in 0..MOST.get() as u16 {
            servers.speaks(server(100 + port), HTTP, &mut requests);
        }
        let told: Vec<_> = requests.take_servers().collect();
        assert_eq!(told, [(server(1).1, true), (server(1).1, false)]);
        assert!(!servers.is_known(&server(1)));
    }
}
