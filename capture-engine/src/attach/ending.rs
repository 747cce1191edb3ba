//! What processes left in their sockets when they ended passes after them: data in a send buffer, the
//! FIN behind it, what the other end says to that. So a namespace is left once it has no TCP socket any
//! more, but for TIME-WAIT (`docs/decisions/0057-last-words.md`).

#![forbid(unsafe_code)]

use super::asker::Asker;
use netns::{InNetns, NetlinkError};
use std::io;

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum EndingError {
    #[error("count its sockets")]
    Sockets(#[from] io::Error),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Whether something is under way yet that our programs on the interfaces that we `had` would see.
///
/// # Errors
/// The kernel does not tell.
pub fn has_more_to_say(inside: &InNetns<'_>, had: &[u32], most_links: usize) -> Result<bool, EndingError> {
    if had.is_empty() || inside.tcp_sockets()? == 0 {
        return Ok(false);
    }
    // A network plugin may have taken the interfaces away already, and our programs with them.
    let links = Asker::new(inside)?.links(most_links, had)?;
    Ok(links.iter().any(|link| had.contains(&link.index)))
}
