//! Who may ask. A browser on the machine of a `kubectl port-forward` is asked for pages by anybody whose
//! site it shows: so the host must be one that no name server of theirs can give (DNS rebinding), and
//! other sites get no figures.

use std::net::IpAddr;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Also addresses that are not of this machine: an address is no name that somebody else answers for.
    pub any_address: bool,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its host is a name of somebody else's, or it has none.
    Host,
    /// A page of another site asked.
    Site,
}

impl Guard {
    /// `host` as in the header, `site` as in `Sec-Fetch-Site`, which older browsers do not send.
    ///
    /// # Errors
    /// When it is not to be answered.
    pub fn check(self, host: Option<&str>, site: Option<&str>, is_figures: bool) -> Result<(), Refused> {
        if !host.is_some_and(|host| self.is_ours(host)) {
            return Err(Refused::Host);
        }
        match site {
            Some("same-origin" | "none") | None => Ok(()),
            // A link from elsewhere may lead to the page, not to its figures.
            Some(_) if is_figures => Err(Refused::Site),
            Some(_) => Ok(()),
        }
    }

    fn is_ours(self, host: &str) -> bool {
        let (name, port) = match host.strip_prefix('[') {
            // RFC 3986 section 3.2.2: an IPv6 address is in brackets.
            Some(rest) => match rest.split_once(']') {
                Some((address, rest)) => (address, if rest.is_empty() { Some("1") } else { rest.strip_prefix(':') }),
                None => return false,
            },
            None => host.split_once(':').map_or((host, Some("1")), |(name, port)| (name, Some(port))),
        };
        if port.and_then(|port| port.parse::<u16>().ok()).is_none() {
            return false;
        }
        if name.eq_ignore_ascii_case("localhost") {
            return !host.starts_with('[');
        }
        name.parse::<IpAddr>().is_ok_and(|address| {
            address.is_ipv6() == host.starts_with('[') && (self.any_address || address.is_loopback())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_this_machine_or_the_request_is_refused() {
        let check = |any_address, host| Guard { any_address }.check(Some(host), None, true);
        for host in ["localhost", "localhost:8080", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:65535", "[::1]", "[::1]:80"]
        {
            assert_eq!(check(false, host), Ok(()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "::1",
            "[::1",
            "[::1]8080",
            "[localhost]",
            "localhost:",
            "localhost:x",
            "localhost:99999",
            "localhost@evil.example",
            "[127.0.0.1].evil",
            "2130706433",
            "0x7f.1",
            "127.1",
            "[127.0.0.1]",
        ] {
            assert_eq!(check(false, host), Err(Refused::Host), "{host}");
            assert_eq!(check(true, host), Err(Refused::Host), "{host}");
        }
        for address in ["10.0.0.7:8080", "[fd00::7]:8080"] {
            assert_eq!((check(false, address), check(true, address)), (Err(Refused::Host), Ok(())));
        }
        assert_eq!(Guard { any_address: true }.check(None, None, false), Err(Refused::Host));
    }

    #[test]
    fn another_site_may_lead_to_the_page_and_not_to_its_figures() {
        let guard = Guard { any_address: false };
        for site in ["cross-site", "same-site", "anything"] {
            assert_eq!(guard.check(Some("localhost:1"), Some(site), true), Err(Refused::Site));
            assert_eq!(guard.check(Some("localhost:1"), Some(site), false), Ok(()));
        }
        for site in ["same-origin", "none"] {
            assert_eq!(guard.check(Some("localhost:1"), Some(site), true), Ok(()));
        }
    }
}
