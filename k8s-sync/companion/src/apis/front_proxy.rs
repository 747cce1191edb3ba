//! Who may call: the API server's front proxy, by its certificate, and nobody else.

use super::status::Failure;

/// As `kube-system/extension-apiserver-authentication` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontProxy {
    /// `requestheader-client-ca-file`, PEM.
    pub ca: String,
    /// `requestheader-allowed-names`. Empty: any that the CA has signed.
    pub allowed_names: Vec<String>,
    /// `requestheader-username-headers`.
    pub user_headers: Vec<String>,
}

impl FrontProxy {
    /// The user on whose behalf a call comes. `certificate` was verified against `ca`; `None`: the caller
    /// showed none.
    ///
    /// # Errors
    /// When the caller is not the front proxy, whatever its headers say.
    pub fn user(&self, certificate: Option<&[u8]>, header: impl Fn(&str) -> Option<String>) -> Result<String, Failure> {
        let Some(certificate) = certificate else {
            return Err(Failure::unauthorized("no client certificate: only the API server may call"));
        };
        let name = common_name(certificate).unwrap_or_default();
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&name) {
            return Err(Failure::unauthorized("the client certificate is not the front proxy's"));
        }
        let user = self.user_headers.iter().find_map(|name| header(name)).filter(|user| !user.is_empty());
        user.ok_or_else(|| Failure::unauthorized("the front proxy names no user"))
    }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// Of a certificate that is not of version 1.
const VERSION: u8 = 0xa0;
/// 2.5.4.3
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The subject's common name (RFC 5280 section 4.1), of a certificate that was verified.
#[must_use]
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if let Some((_, after)) = element(rest, VERSION) {
        rest = after;
    }
    // Serial number, signature, issuer, validity.
    for _ in 0..4 {
        rest = any(rest)?.2;
    }
    let (mut subject, _) = element(rest, SEQUENCE)?;
    while !subject.is_empty() {
        let (names, after) = element(subject, SET)?;
        subject = after;
        let (pair, _) = element(names, SEQUENCE)?;
        let (kind, value) = element(pair, OBJECT_IDENTIFIER)?;
        if kind == COMMON_NAME {
            return String::from_utf8(any(value)?.1.to_vec()).ok();
        }
    }
    None
}

fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    any(bytes).filter(|(found, ..)| *found == tag).map(|(_, inside, after)| (inside, after))
}

/// Tag, contents, and what follows, of an element in DER.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // 0x80 has no length, and four bytes say more than there is.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (inside, after) = rest.split_at_checked(length)?;
    Some((*tag, inside, after))
}
