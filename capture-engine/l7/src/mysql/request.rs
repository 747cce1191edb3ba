//! What a client sends: the login, commands, and what the answers to these ask of it.

use super::Mysql;
use super::command::{self, Answers, Command};
use super::login::Login;
use super::open::{LOGIN, Open};
use super::said::{Said, Seen};
use crate::dissector::Next;
use crate::{Limits, Out};
use flow_model::{LossReason, Notes, Outcome};
use std::sync::Arc;

impl Mysql {
    pub(super) fn client_says<O: Out>(&mut self, seen: Seen, said: Said, limits: &Limits, out: &mut O) {
        if let Some(doubt) = self.doubt.as_mut().filter(|doubt| doubt.tries()) {
            let command = if let Said::Command(it) = &said { Some(&**it) } else { None };
            if !doubt.try_command(command, !self.overlaps) {
                // It was the rest of something. What is lost with it has been counted where the hole was.
                self.client.lose();
            }
            return;
        }
        match said {
            Said::Login(login) => self.logs_in(seen, &login, out),
            Said::Command(command) => self.commands(seen, *command, limits, out),
            Said::More => {
                let waits = self.answer.waits_for_client();
                let Some(open) = self.open.front_mut().filter(|_| waits) else {
                    if self.doubt.is_none() {
                        // It goes on with what nobody saw begin.
                        self.lose(LossReason::Gap, out);
                    }
                    return;
                };
                open.bytes = open.bytes.saturating_add(seen.length);
                open.last = open.last.max(seen.last);
                open.turn = seen.turn;
                open.number = seen.last_number;
                self.answer.next = None;
            }
            Said::Nonsense => self.lose_client(LossReason::Gap, out),
        }
    }

    fn logs_in<O: Out>(&mut self, seen: Seen, login: &Login, out: &mut O) {
        (self.awaits_login, self.client.logs_in) = (false, false);
        let open = asks(&seen, LOGIN, Answers::Login);
        if login.encrypts {
            // What follows is TLS, whose handshake shows. Nobody sees how the login ends.
            out.record(open.unanswered(Outcome::OneWay, Notes::UPGRADED, None));
            self.next = Next::Search;
            return;
        }
        self.eof = Some(login.eof(self.capabilities));
        self.compresses = login.compresses(self.capabilities);
        self.database = login.database.as_deref().map(Arc::from);
        if let Some(doubt) = &self.doubt {
            return doubt.lose(1, out);
        }
        self.open.push(open);
    }

    fn commands<O: Out>(&mut self, seen: Seen, command: Command, limits: &Limits, out: &mut O) {
        let mut name = command.name;
        if command.executes() {
            name = self.prepared.verb(command.statement);
        }
        if let Some(verb) = command.prepares {
            self.prepared.asked(verb);
        }
        let open = Open {
            prepares: command.prepares,
            begins_anew: command.begins_anew(),
            database: command.database.map(|name| name.as_deref().map(Arc::from)),
            ..asks(&seen, name, command.answers)
        };
        if command.answers == Answers::Never {
            if let (command::CLOSE, Some(number)) = (command.code, command.statement) {
                self.prepared.close(number);
            }
            return out.record(open.unanswered(Outcome::OneWay, Notes::default(), self.database.as_ref()));
        }
        if self.doubt.is_none() && self.open.len() >= limits.open_exchanges.max(1) {
            self.lose(LossReason::Limit, out);
        }
        if let Some(doubt) = &mut self.doubt {
            if command.answers == Answers::Login || open.database.is_some() || open.begins_anew {
                self.database = None;
                self.prepared.forget();
            }
            return doubt.ask(1, out);
        }
        self.open.push(open);
    }
}

fn asks(seen: &Seen, name: &'static str, answers: Answers) -> Open {
    let Seen { turn, last_number, .. } = *seen;
    Open { turn, number: last_number, ..Open::new(name, answers, (seen.first, seen.last), seen.length) }
}
