//! What identifies an exchange: a response repeats it (RFC 5452 9.1).

use super::message::Message;
use flow_model::Direction;

#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The way of the query.
    pub dir: Direction,
    pub id: u16,
    /// The id before, where it was asked again under another one.
    pub former: Option<u16>,
    pub opcode: u8,
    pub qtype: u16,
    pub qclass: u16,
    pub name: String,
}

impl Question {
    pub fn of(message: Message, dir: Direction) -> Question {
        let Message { id, opcode, qtype, qclass, name, .. } = message;
        Question { dir, id, former: None, opcode, qtype, qclass, name }
    }

    /// It is asked again as `id`.
    pub fn renew(&mut self, id: u16) {
        if id != self.id {
            self.former = Some(std::mem::replace(&mut self.id, id));
        }
    }

    /// The ids under which an answer may come.
    pub fn ids(&self) -> impl Iterator<Item = u16> {
        [Some(self.id), self.former].into_iter().flatten()
    }

    pub fn same(&self, other: &Question) -> bool {
        self.ids().any(|id| id == other.id) && self.alike(other)
    }

    /// The same question, whatever its id.
    pub fn alike(&self, other: &Question) -> bool {
        looked();
        self.dir == other.dir
            && (self.opcode, self.qtype, self.qclass) == (other.opcode, other.qtype, other.qclass)
            && self.name.eq_ignore_ascii_case(&other.name)
    }

    /// A response without a question section answers by its id alone (RFC 1035 leaves it out of
    /// error responses, RFC 2136 3.8 allows it for UPDATE).
    pub fn answered_by(&self, response: &Message, dir: Direction) -> bool {
        looked();
        if self.dir == dir || self.opcode != response.opcode {
            return false;
        }
        if response.questions == 0 {
            return self.id == response.id;
        }
        self.ids().any(|id| id == response.id)
            && (self.qtype, self.qclass) == (response.qtype, response.qclass)
            && self.name.eq_ignore_ascii_case(&response.name)
    }
}

#[cfg(not(test))]
fn looked() {}

#[cfg(test)]
pub(super) use looks::LOOKS;
#[cfg(test)]
use looks::looked;

/// How often a question was compared: what a search costs, whatever machine it runs on.
#[cfg(test)]
mod looks {
    use std::cell::Cell;

    thread_local! {
        pub static LOOKS: Cell<u64> = const { Cell::new(0) };
    }

    pub fn looked() {
        LOOKS.set(LOOKS.get() + 1);
    }
}
