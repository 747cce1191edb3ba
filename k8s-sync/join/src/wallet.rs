//! What an agent has to show: the cluster's join token, the credential of its node, or both; and which
//! of them it shows with the next attempt.
//!
//! The agent makes its credential itself, keeps it on its disk, and tells the companion its hash. So an
//! answer that is lost costs nothing: what was kept is asked for again, and it is the same.

use crate::refusal::Reason;
use crate::ticket::Ticket;
use crate::token::{Token, TokenHash};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The credential of a node, as it is kept on its disk.
#[derive(Clone)]
pub struct Kept {
    /// Whose it is.
    pub node: String,
    /// Random, and nobody else's.
    pub credential: Token,
    /// A companion has said that it keeps the hash.
    pub joined: bool,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kept { node, credential, joined } = self;
        f.debug_struct("Kept").field("node", node).field("credential", credential).field("joined", joined).finish()
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    node: String,
    credential: String,
    #[serde(default)]
    joined: bool,
}

impl Kept {
    /// A new one. `None` where the system has no random numbers.
    #[must_use]
    pub fn new(node: impl Into<String>) -> Option<Kept> {
        Some(Kept { node: node.into(), credential: Token::random()?, joined: false })
    }

    /// Reads the text of a file. `None` for what is none.
    #[must_use]
    pub fn read(text: &str) -> Option<Kept> {
        let File { node, credential, joined } = toml::from_str(text).ok()?;
        Some(Kept { node, credential: Token::new(&credential)?, joined })
    }

    /// For a file that nobody else may read.
    #[must_use]
    pub fn text(&self) -> String {
        let Kept { node, credential, joined } = self;
        format!(
            "# Of this node alone: whoever has it may push to the companion as this node.\n\
             node = {node:?}\ncredential = {:?}\njoined = {joined}\n",
            credential.secret()
        )
    }
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// The cluster's join token.
    Token,
    /// The node's own credential.
    Own,
}

#[derive(Debug)]
struct Own {
    kept: Kept,
    /// Of `join.toml`: an admin made it, and this agent makes no other in its place.
    is_given: bool,
}

/// Of one agent, for its streams to all replicas.
#[derive(Debug)]
pub struct Wallet {
    token: Option<Token>,
    own: Option<Own>,
}

impl Wallet {
    /// What `ticket` says, and what the node keeps, if that is possible there.
    #[must_use]
    pub fn new(ticket: &Ticket, kept: Option<Kept>) -> Wallet {
        let given = ticket
            .own
            .clone()
            .map(|(node, credential)| Own { kept: Kept { node, credential, joined: true }, is_given: true });
        let own = given.or_else(|| kept.map(|kept| Own { kept, is_given: false }));
        Wallet { token: ticket.token.clone(), own }
    }

    /// The token is this now: that of a pod is another one from time to time.
    pub fn renew(&mut self, token: Token) {
        self.token = Some(token);
    }

    /// What the first attempt shows; `None` where there is nothing to show.
    #[must_use]
    pub fn first(&self) -> Option<Shows> {
        match (&self.own, &self.token) {
            (Some(own), _) if own.kept.joined => Some(Shows::Own),
            (_, Some(_)) => Some(Shows::Token),
            (Some(_), None) => Some(Shows::Own),
            (None, None) => None,
        }
    }

    /// What to show where `shows` was refused; the same where nothing else is worth a try.
    #[must_use]
    pub fn other(&self, shows: Shows, reason: Reason) -> Shows {
        let has_joined = self.own.as_ref().is_some_and(|own| own.kept.joined);
        match (shows, reason) {
            // Another credential takes the place of the one that was ended.
            (_, Reason::Ended) if self.token.is_some() => Shows::Token,
            // One that never joined is not the one that has taken the name.
            (Shows::Token, Reason::Taken) if !has_joined => Shows::Token,
            (Shows::Token, _) if self.own.is_some() => Shows::Own,
            (Shows::Own, _) if self.token.is_some() => Shows::Token,
            (only, _) => only,
        }
    }

    /// As a header carries it.
    #[must_use]
    pub fn bearer(&self, shows: Shows) -> Option<String> {
        let shown = match shows {
            Shows::Token => self.token.as_ref(),
            Shows::Own => self.own.as_ref().map(|own| &own.kept.credential),
        };
        shown.map(Token::bearer)
    }

    /// The hash that the companion is to keep.
    #[must_use]
    pub fn asks(&self) -> Option<TokenHash> {
        self.own.as_ref().map(|own| own.kept.credential.hash())
    }

    /// The companion keeps the hash. Returns what to write down, if that is news.
    pub fn joined(&mut self) -> Option<Kept> {
        let own = self.own.as_mut().filter(|own| !own.kept.joined)?;
        own.kept.joined = true;
        Some(own.kept.clone())
    }

    /// An admin ended the credential with this hash. Returns the one that takes its place, to be
    /// written down; `None` where none does: it was given, or is another by now.
    pub fn ended(&mut self, hash: TokenHash) -> Option<Kept> {
        let own = self.own.as_mut().filter(|own| !own.is_given && own.kept.credential.hash() == hash)?;
        own.kept = Kept::new(own.kept.node.clone())?;
        Some(own.kept.clone())
    }

    /// What the node keeps could not be written: without it no credential is asked for.
    pub fn forget(&mut self) {
        self.own = self.own.take().filter(|own| own.is_given || own.kept.joined);
    }
}

/// What one stream shows, attempt by attempt.
#[derive(Debug, Default)]
pub struct Turns {
    /// `None`: nothing was shown yet.
    shows: Option<Shows>,
    /// Refusals since one was taken. After each pair it waits for people.
    refused: u8,
}

impl Turns {
    /// What the next attempt shows.
    pub fn next(&mut self, wallet: &Wallet) -> Option<Shows> {
        if self.shows.is_none_or(|shows| wallet.bearer(shows).is_none()) {
            self.shows = wallet.first();
        }
        self.shows
    }

    /// It was taken. Where the companion keeps the node's credential, that is shown from now on.
    pub fn taken(&mut self, is_kept: bool, wallet: &Wallet) {
        self.refused = 0;
        if is_kept {
            self.shows = wallet.first();
        }
    }

    /// It was refused. Whether the next attempt shows something that was not refused yet, and so may be
    /// made soon.
    pub fn refused(&mut self, reason: Reason, wallet: &Wallet) -> bool {
        let Some(shows) = self.shows.filter(|_| matches!(reason, Reason::Token | Reason::Taken | Reason::Ended)) else {
            return false;
        };
        let other = wallet.other(shows, reason);
        self.shows = Some(other);
        self.refused = self.refused.saturating_add(1);
        let is_another = other != shows || (other, reason) == (Shows::Token, Reason::Ended);
        is_another && self.refused % 2 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wallet(token: bool, kept: Option<bool>) -> Wallet {
        let token = token.then(|| Token::new("the-token-of-this-cluster").unwrap());
        let kept = kept.map(|joined| Kept { joined, ..Kept::new("n1").unwrap() });
        Wallet { token, own: kept.map(|kept| Own { kept, is_given: false }) }
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_shows_nothing_to_a_log() {
        let kept = Kept { joined: true, ..Kept::new("n1").unwrap() };
        let read = Kept::read(&kept.text()).unwrap();
        assert_eq!((&*read.node, read.joined, read.credential.hash()), ("n1", true, kept.credential.hash()));
        assert!(!format!("{kept:?}").contains(kept.credential.secret()));
        for text in ["", "node = \"n1\"", "node = \"n1\"\ncredential = \"short\"", "\u{0}"] {
            assert!(Kept::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_token_of_a_pod_is_shown_as_it_is_now() {
        let (mut wallet, mut turns) = (wallet(false, None), Turns::default());
        assert_eq!(turns.next(&wallet), None);
        for text in ["aaaaaaaa.bbbbbbbb.cccccccc", "aaaaaaaa.bbbbbbbb.dddddddd"] {
            wallet.renew(Token::projected(text).unwrap());
            let shows = turns.next(&wallet).unwrap();
            assert_eq!((shows, wallet.bearer(shows)), (Shows::Token, Some(format!("Bearer {text}"))));
            assert!(wallet.asks().is_none() && !turns.refused(Reason::Token, &wallet));
        }
    }

    #[test]
    fn who_has_joined_shows_its_own_and_who_has_not_the_token() {
        let first = |token, kept| wallet(token, kept).first();
        assert_eq!(first(true, None), Some(Shows::Token));
        assert_eq!(first(true, Some(false)), Some(Shows::Token));
        assert_eq!(first(true, Some(true)), Some(Shows::Own));
        assert_eq!(first(false, Some(false)), Some(Shows::Own));
        assert_eq!(first(false, None), None);
    }

    #[test]
    fn what_was_not_refused_yet_is_shown_soon_and_then_people_are_waited_for() {
        let (wallet, mut turns) = (wallet(true, Some(true)), Turns::default());
        let refused = |turns: &mut Turns, reason| {
            let shows = turns.next(&wallet).unwrap();
            (shows, turns.refused(reason, &wallet))
        };
        assert_eq!(refused(&mut turns, Reason::Token), (Shows::Own, true));
        assert_eq!(refused(&mut turns, Reason::Taken), (Shows::Token, false));
        assert_eq!(refused(&mut turns, Reason::Token), (Shows::Own, true));
        // No other one helps against that.
        assert_eq!(refused(&mut turns, Reason::Busy), (Shows::Token, false));
        assert_eq!(refused(&mut turns, Reason::Node), (Shows::Token, false));
        // By a companion of a version before, and by one that keeps it.
        turns.taken(false, &wallet);
        assert_eq!(turns.next(&wallet), Some(Shows::Token));
        turns.taken(true, &wallet);
        assert_eq!(turns.next(&wallet), Some(Shows::Own));
    }

    #[test]
    fn a_name_that_is_taken_is_told_and_not_what_came_of_another_try() {
        let (wallet, mut turns) = (wallet(true, Some(false)), Turns::default());
        for _ in 0..3 {
            assert_eq!(turns.next(&wallet), Some(Shows::Token));
            assert!(!turns.refused(Reason::Taken, &wallet));
        }
        // The answer to what it asked for was lost, and then the token was changed.
        assert!(turns.refused(Reason::Token, &wallet) || turns.next(&wallet) == Some(Shows::Own));
    }

    #[test]
    fn an_agent_with_one_thing_to_show_waits_for_people() {
        for (wallet, only) in [(wallet(true, None), Shows::Token), (wallet(false, Some(true)), Shows::Own)] {
            let mut turns = Turns::default();
            assert_eq!(turns.next(&wallet), Some(only));
            assert!(!turns.refused(Reason::Token, &wallet));
            assert_eq!(turns.next(&wallet), Some(only));
        }
    }

    #[test]
    fn a_credential_that_was_ended_is_never_asked_for_again() {
        let mut wallet = wallet(true, Some(true));
        let old = wallet.asks().unwrap();
        let new = wallet.ended(old).unwrap();
        assert!(!new.joined && wallet.asks() == Some(new.credential.hash()) && wallet.asks() != Some(old));
        // Another replica says the same of the old one.
        assert!(wallet.ended(old).is_none());
        assert!(wallet.joined().is_some_and(|kept| kept.joined) && wallet.joined().is_none());
        wallet.own.as_mut().unwrap().is_given = true;
        assert!(wallet.ended(wallet.asks().unwrap()).is_none());
    }
}
