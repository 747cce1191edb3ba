//! The greeting: which protocol, and whether the push comes from where it may.

use crate::limits::{PROTOCOLS, TEXT};
use crate::message::Hello;
use crate::refusal::{Reason, Refusal};
use bytes::Bytes;

/// A process of the companion, or of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Protocols that it speaks, oldest and newest.
    pub protocols: (u32, u32),
    /// For people.
    pub version: String,
    /// Random, another one for each process.
    pub instance: u64,
}

impl Me {
    /// With the protocols of this version.
    #[must_use]
    pub fn new(version: impl Into<String>, instance: u64) -> Me {
        Me { protocols: PROTOCOLS, version: version.into(), instance }
    }

    /// What an agent says first.
    #[must_use]
    pub fn hello(&self, node: impl Into<String>) -> Hello {
        let Me { protocols: (oldest, newest), version, instance } = self.clone();
        Hello { oldest, newest, version, node: node.into(), instance, hops: 1, credential: Bytes::new() }
    }
}

/// The protocol that the companion `me` speaks with an agent.
///
/// # Errors
/// When there is none, or the push goes in a circle, or the node has no name.
pub fn welcome(me: &Me, hello: &Hello) -> Result<u32, Refusal> {
    let Hello { oldest, newest, version, node, instance, hops, credential: _ } = hello;
    let (mine_oldest, mine_newest) = me.protocols;
    let newest_of_both = (*newest).min(mine_newest);
    if newest_of_both < (*oldest).max(mine_oldest) {
        let older = if *newest < mine_oldest { "agent" } else { "companion" };
        return Err(Refusal::new(
            Reason::Version,
            format!(
                "agent {} speaks protocol {oldest} to {newest}, companion {} speaks {mine_oldest} to {mine_newest}: upgrade the {older}",
                shown(version),
                me.version,
            ),
        ));
    }
    if *hops != 1 || *instance == me.instance {
        return Err(Refusal::new(
            Reason::Loop,
            format!(
                "the push went through {hops} others: an agent pushes to the companion itself, not through another"
            ),
        ));
    }
    if !is_node_name(node) {
        return Err(Refusal::new(
            Reason::Node,
            format!("\"{}\" is no name of a Kubernetes node: set kubernetes.node", shown(node)),
        ));
    }
    Ok(newest_of_both)
}

/// A DNS subdomain (RFC 1123), as Kubernetes has it.
#[must_use]
pub fn is_node_name(name: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let is_end = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = name.as_bytes();
    bytes.len() <= TEXT && is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(|byte| is_inside(*byte))
}

/// What somebody else wrote, for a log: short, and without what moves a terminal's cursor.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaks(protocols: (u32, u32), version: &str, instance: u64) -> Me {
        Me { protocols, version: version.to_owned(), instance }
    }

    #[test]
    fn the_newest_protocol_that_both_speak_is_spoken() {
        for (agent, companion, spoken) in [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 9), (1, 4), 4)] {
            let hello = speaks(agent, "0.2.0", 1).hello("n1");
            assert_eq!(welcome(&speaks(companion, "0.3.0", 2), &hello), Ok(spoken));
        }
    }

    #[test]
    fn the_older_of_two_that_do_not_understand_each_other_is_to_be_upgraded() {
        let refused = |agent, companion| {
            let hello = speaks(agent, "0.2.0", 1).hello("n1");
            welcome(&speaks(companion, "0.9.0", 2), &hello).unwrap_err()
        };
        let old_agent = refused((1, 1), (3, 4));
        assert_eq!(old_agent.reason, Reason::Version);
        assert_eq!(
            old_agent.text,
            "agent 0.2.0 speaks protocol 1 to 1, companion 0.9.0 speaks 3 to 4: upgrade the agent"
        );
        assert!(refused((3, 4), (1, 2)).text.ends_with("upgrade the companion"));
    }

    #[test]
    fn a_push_that_was_forwarded_or_is_its_own_is_refused() {
        let me = speaks((1, 1), "0.2.0", 2);
        let agent = speaks((1, 1), "0.2.0", 1);
        let forwarded = Hello { hops: 2, ..agent.hello("n1") };
        assert_eq!(welcome(&me, &forwarded).unwrap_err().reason, Reason::Loop);
        assert_eq!(welcome(&me, &me.hello("n1")).unwrap_err().reason, Reason::Loop);
    }

    #[test]
    fn what_is_no_name_of_a_node_is_refused_and_shown_without_control_characters() {
        let me = speaks((1, 1), "0.2.0", 2);
        let agent = speaks((1, 1), "0.2.0", 1);
        for name in ["n1", "ip-10-0-0-1.eu-west-1.compute.internal", "a"] {
            assert_eq!(welcome(&me, &agent.hello(name)), Ok(1), "{name}");
        }
        let long = "n".repeat(254);
        for name in ["", "N1", "-n", "n.", "n 1", "n/1", "\u{1b}[2J", long.as_str()] {
            let refusal = welcome(&me, &agent.hello(name)).unwrap_err();
            assert_eq!(refusal.reason, Reason::Node, "{name}");
            assert!(!refusal.text.contains('\u{1b}') && refusal.text.len() < 160, "{}", refusal.text);
        }
    }
}
