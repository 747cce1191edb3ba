//! A request must not come back to the agent that sent it. k3s's registry mirror asked itself for
//! peers through a virtual address, each answer asked again, and etcd's size doubled (k3s #12127).

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// The addresses that this agent listens on.
#[derive(Clone, Debug, Default)]
pub struct OwnAddresses(Vec<SocketAddr>);

impl OwnAddresses {
    /// Unspecified addresses (`0.0.0.0`, `[::]`) stand for all of this machine.
    #[must_use]
    pub fn new(listening: impl IntoIterator<Item = SocketAddr>) -> OwnAddresses {
        OwnAddresses(listening.into_iter().collect())
    }

    /// Whether what is sent to `to` arrives at this agent. `is_local` says whether an address is one of this machine's.
    pub fn holds(&self, to: SocketAddr, is_local: impl Fn(IpAddr) -> bool) -> bool {
        let ip = to.ip().to_canonical();
        self.0.iter().any(|own| {
            let same_ip = own.ip().to_canonical() == ip;
            // 0.0.0.0 as a destination is this machine, too.
            own.port() == to.port() && (same_ip || own.ip().is_unspecified() && (ip.is_unspecified() || is_local(ip)))
        })
    }
}

/// An address that one can bind to is one of this machine's (of its network namespace).
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(listening: &str, to: &str) -> bool {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let is_local = |ip: IpAddr| ip.is_loopback() || ip == IpAddr::from([10, 0, 0, 5]);
        OwnAddresses::new([parse(listening)]).holds(parse(to), is_local)
    }

    #[test]
    fn an_address_that_leads_back_is_known() {
        for (listening, to) in [
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("0.0.0.0:9464", "10.0.0.5:9464"),
            ("[::]:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::ffff:10.0.0.5]:9464"),
            ("0.0.0.0:9464", "0.0.0.0:9464"),
        ] {
            assert!(own(listening, to), "{listening} {to}");
        }
    }

    #[test]
    fn others_are_not() {
        for (listening, to) in [
            ("127.0.0.1:9464", "127.0.0.1:6443"),
            ("0.0.0.0:9464", "10.0.0.6:9464"),
            ("127.0.0.1:9464", "10.0.0.5:9464"),
        ] {
            assert!(!own(listening, to), "{listening} {to}");
        }
    }

    #[test]
    fn loopback_is_local_and_a_documentation_address_is_not() {
        assert!(is_local(IpAddr::from([127, 0, 0, 1])));
        assert!(!is_local(IpAddr::from([192, 0, 2, 1])));
    }
}
