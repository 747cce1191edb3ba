//! What an address is called of which nothing is known but itself: the kind of address, a small
//! closed set, so that it can be a label.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    Loopback,
    Unspecified,
    Multicast,
    Broadcast,
    LinkLocal,
    /// RFC 1918, RFC 4193.
    Private,
    /// RFC 6598, 100.64.0.0/10: carrier-grade NAT, and pod networks of some clouds.
    Shared,
    Public,
    CloudMetadata,
    NodeLocalDns,
}

impl Class {
    pub(crate) const ALL: [Class; 10] = [
        Class::Loopback,
        Class::Unspecified,
        Class::Multicast,
        Class::Broadcast,
        Class::LinkLocal,
        Class::Private,
        Class::Shared,
        Class::Public,
        Class::CloudMetadata,
        Class::NodeLocalDns,
    ];

    pub(crate) fn of(ip: IpAddr) -> Class {
        match ip.to_canonical() {
            // AWS, GCP, Azure and most others; AWS' IPv6 form of it.
            IpAddr::V4(ip) if ip == Ipv4Addr::new(169, 254, 169, 254) => Class::CloudMetadata,
            IpAddr::V6(ip) if ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254) => Class::CloudMetadata,
            // The address that Kubernetes' NodeLocal DNSCache takes by default.
            IpAddr::V4(ip) if ip == Ipv4Addr::new(169, 254, 20, 10) => Class::NodeLocalDns,
            ip if ip.is_loopback() => Class::Loopback,
            ip if ip.is_unspecified() => Class::Unspecified,
            ip if ip.is_multicast() => Class::Multicast,
            IpAddr::V4(ip) if ip.is_broadcast() => Class::Broadcast,
            IpAddr::V4(ip) if ip.is_link_local() => Class::LinkLocal,
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Class::LinkLocal,
            IpAddr::V4(ip) if ip.is_private() => Class::Private,
            IpAddr::V6(ip) if ip.is_unique_local() => Class::Private,
            IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64 => Class::Shared,
            _ => Class::Public,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Class::Loopback => "loopback",
            Class::Unspecified => "unspecified",
            Class::Multicast => "multicast",
            Class::Broadcast => "broadcast",
            Class::LinkLocal => "link-local",
            Class::Private => "private",
            Class::Shared => "shared",
            Class::Public => "public",
            Class::CloudMetadata => "cloud-metadata",
            Class::NodeLocalDns => "node-local-dns",
        }
    }

    /// Whether the API may tell who has such an address.
    pub(crate) fn may_be_a_pods(self) -> bool {
        matches!(self, Class::Public | Class::Private | Class::Shared)
    }

    /// Whether a DNS answer may give such an address a name; filters answer with 0.0.0.0 or
    /// 127.0.0.1 for what they block.
    pub(crate) fn can_be_named(self) -> bool {
        matches!(self, Class::Public | Class::Private | Class::Shared | Class::LinkLocal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_classed_by_their_registries() {
        for (ip, class) in [
            ("127.0.0.1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("10.1.2.3", "private"),
            ("172.31.255.255", "private"),
            ("172.32.0.0", "public"),
            ("fd12::1", "private"),
            ("100.64.0.1", "shared"),
            ("100.128.0.1", "public"),
            ("169.254.1.1", "link-local"),
            ("fe80::1", "link-local"),
            ("169.254.169.254", "cloud-metadata"),
            ("fd00:ec2::254", "cloud-metadata"),
            ("224.0.0.251", "multicast"),
            ("ff02::fb", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("0.0.0.0", "unspecified"),
            ("2606:4700::1111", "public"),
        ] {
            assert_eq!(Class::of(ip.parse().unwrap()).as_str(), class, "{ip}");
        }
    }
}
