//! Packets that belong to no flow, and why.

/// Why a packet belongs to no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    /// A link type that is not read.
    LinkType,
    /// An Ethernet type or link payload that is neither IPv4 nor IPv6: ARP, for one.
    NotIp,
    /// IP, but neither TCP nor UDP.
    OtherProtocol,
    /// Headers that contradict themselves or were cut off.
    Unparsed,
    /// A fragment, held until the datagram's others come.
    FragmentHeld,
    /// A fragment that was let go: overlapping, cut, or beyond the bounds.
    FragmentDropped,
}

/// Packets that belong to no flow, by [`Skip`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// [`Skip::LinkType`].
    pub link_type: u64,
    /// [`Skip::NotIp`].
    pub not_ip: u64,
    /// [`Skip::OtherProtocol`].
    pub other_protocol: u64,
    /// [`Skip::Unparsed`].
    pub unparsed: u64,
    /// [`Skip::FragmentHeld`] and [`Skip::FragmentDropped`]. Where a datagram became whole, its
    /// last fragment is not among them.
    pub fragments: u64,
}

impl Skipped {
    pub(super) fn count(&mut self, skip: Skip) {
        *match skip {
            Skip::LinkType => &mut self.link_type,
            Skip::NotIp => &mut self.not_ip,
            Skip::OtherProtocol => &mut self.other_protocol,
            Skip::Unparsed => &mut self.unparsed,
            Skip::FragmentHeld | Skip::FragmentDropped => &mut self.fragments,
        } += 1;
    }
}
