//! What an agent shows to be let in: the cluster's token, or the credential of its node. Who checks it
//! keeps its hash alone.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

/// Those of pods have some 1,200 bytes; with longer names and more audiences, more.
const PROJECTED: usize = 8 << 10;

/// Who has it may push. Shown nowhere.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// `None` for what no header carries, and for what can be guessed.
    #[must_use]
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim_end_matches('\n');
        let is_one = (16..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_one.then(|| Token(text.into()))
    }

    /// One that the kubelet writes for a pod, or another JWT (RFC 7519): those are longer.
    #[must_use]
    pub fn projected(text: &str) -> Option<Token> {
        let text = text.trim_end_matches('\n');
        let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=');
        let is_one = (16..=PROJECTED).contains(&text.len()) && text.bytes().all(is_inside);
        let parts = text.split('.').filter(|part| !part.is_empty()).count();
        (is_one && parts == 3 && text.matches('.').count() == 2).then(|| Token(text.into()))
    }

    /// Of what a header carries, where that is such a one.
    #[must_use]
    pub fn projected_of_header(header: &str) -> Option<Token> {
        Token::projected(header.strip_prefix("Bearer ")?)
    }

    /// Of 256 random bits, as 64 digits. `None` where the system has no random numbers.
    #[must_use]
    pub fn random() -> Option<Token> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Token(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()))
    }

    /// As a header carries it.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// For the file of who owns it, and for nothing else.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// What checks it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

/// A token's SHA-256. Two are compared in the same time, however much of them is equal.
#[derive(Clone, Copy, Eq)]
pub struct TokenHash([u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &TokenHash) -> bool {
        let differing = self.0.iter().zip(&other.0).fold(0, |differing, (a, b)| black_box(differing | (a ^ b)));
        differing == 0
    }
}

impl TokenHash {
    fn of(text: &str) -> TokenHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        TokenHash(hash)
    }

    /// Of what a header carries, whatever it is; `None` where it carries nothing of the kind.
    #[must_use]
    pub fn of_header(header: &str) -> Option<TokenHash> {
        header.strip_prefix("Bearer ").map(TokenHash::of)
    }

    /// Whether a header carries the token.
    #[must_use]
    pub fn is_of(&self, header: &str) -> bool {
        TokenHash::of_header(header).is_some_and(|hash| hash == *self)
    }

    /// For who keeps it.
    #[must_use]
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// As it was kept; `None` for another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<TokenHash> {
        bytes.try_into().ok().map(TokenHash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_the_token_passes_and_no_other() {
        let token = Token::new("0123456789abcdef\n").unwrap();
        let hash = token.hash();
        assert!(hash.is_of(&token.bearer()));
        for header in
            ["", "Bearer", "Bearer ", "0123456789abcdef", "bearer 0123456789abcdef", "Bearer 0123456789abcdeF"]
        {
            assert!(!hash.is_of(header), "{header}");
        }
        assert_eq!(format!("{token:?} {hash:?}"), "Token(..) TokenHash(..)");
    }

    #[test]
    fn a_projected_token_has_three_parts_and_a_join_token_is_none() {
        let long = format!("eyJh.{}.c2ln", "a".repeat(1_200));
        let token = Token::projected(&format!("{long}\n")).unwrap();
        assert!(Token::new(&long).is_none() && token.secret() == long);
        assert!(Token::projected_of_header(&token.bearer()).is_some_and(|again| again.hash() == token.hash()));
        for none in
            ["the-token-of-this-cluster", "a.b", "abcdefgh.abcdefgh.", "abcdefgh..abcdefgh.c", "abcdefgh.ab cdefg.h"]
        {
            assert!(Token::projected(none).is_none(), "{none}");
        }
        assert!(Token::projected(&format!("a.{}.c", "b".repeat(PROJECTED))).is_none());
        assert!(Token::projected_of_header(&long).is_none());
    }

    #[test]
    fn hashes_are_equal_where_each_byte_is() {
        let hash = Token::random().unwrap().hash();
        assert_eq!(TokenHash::from_bytes(&hash.bytes()), Some(hash));
        for i in 0..32 {
            let mut other = hash.bytes();
            other[i] ^= 1 << (i % 8);
            assert_ne!(TokenHash::from_bytes(&other), Some(hash));
        }
        assert_eq!(TokenHash::from_bytes(&hash.bytes()[1..]), None);
    }

    #[test]
    fn a_random_one_is_a_token_and_never_the_same() {
        let (a, b) = (Token::random().unwrap(), Token::random().unwrap());
        assert!(a.secret() != b.secret() && a.secret().len() == 64);
        assert_eq!(Token::new(a.secret()).unwrap().hash(), a.hash());
    }
}
