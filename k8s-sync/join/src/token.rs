//! The cluster's token. Who checks it keeps its hash alone.

use ring::digest::{SHA256, digest};
use std::fmt;
use std::sync::Arc;

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

    /// As a header carries it.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// What checks it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

/// A token's SHA-256. Comparing two tells by its time how much of the hashes is equal, which is no
/// help to find a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl TokenHash {
    fn of(text: &str) -> TokenHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        TokenHash(hash)
    }

    /// Whether a header carries the token.
    #[must_use]
    pub fn is_of(&self, header: &str) -> bool {
        header.strip_prefix("Bearer ").is_some_and(|token| TokenHash::of(token) == *self)
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
}
