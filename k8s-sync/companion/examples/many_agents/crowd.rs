//! Agents of many nodes in one process: to each its streams, its credential, its copy of the names.
//! What an agent does with a connection is the agent's own code.

use crate::series::Template;
use join::names::{Names, Told};
use join::{Feed, Group, Kept, Me, Purse, Ticket, Wallet};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What became of the names of an agent.
#[derive(Debug, Default)]
struct Named {
    /// When it had all of them, milliseconds since the crowd's beginning; 0: not yet.
    complete: AtomicU64,
    /// When it was told last how old they are.
    told: AtomicU64,
}

struct Agent {
    group: Arc<Group>,
    names: Option<(Arc<Names>, Arc<Named>)>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// See the module.
pub struct Crowd {
    ticket: Ticket,
    template: Arc<Template>,
    /// Of those that begin from now on the first so many take names.
    named: usize,
    /// By node: what is on its disk.
    disks: Vec<Arc<Mutex<Kept>>>,
    agents: Vec<Agent>,
    began: Instant,
    /// Each process of an agent has another one.
    instances: u64,
    marked: u64,
}

impl Crowd {
    pub fn new(ticket: Ticket, template: Template) -> Crowd {
        let (template, began) = (Arc::new(template), Instant::now());
        let (disks, agents) = (Vec::new(), Vec::new());
        Crowd { ticket, template, named: 0, disks, agents, began, instances: 1_000, marked: 0 }
    }

    /// Of those that begin from now on the first so many take names.
    pub fn name(&mut self, agents: usize) {
        self.named = agents;
    }

    /// So many run; the last ones end, or begin at once.
    pub async fn set(&mut self, agents: usize) {
        while self.agents.len() > agents {
            if let Some(agent) = self.agents.pop() {
                agent.end().await;
            }
        }
        while self.agents.len() < agents {
            let agent = self.begin(self.agents.len());
            self.agents.push(agent);
        }
    }

    /// All processes end without a word, and others begin at once, without the names of the last run.
    pub async fn restart(&mut self) {
        let agents = self.agents.len();
        let ended: Vec<Agent> = self.agents.drain(..).collect();
        ended.iter().for_each(|agent| agent.stop.cancel());
        for agent in ended {
            agent.end().await;
        }
        self.set(agents).await;
    }

    fn begin(&mut self, place: usize) -> Agent {
        let node = format!("node-{place:05}");
        if self.disks.len() <= place {
            let kept = Kept::new(node.clone()).unwrap_or_else(|| unreachable!("the system has random numbers"));
            self.disks.push(Arc::new(Mutex::new(kept)));
        }
        let (disk, number) = (self.disks[place].clone(), u32::try_from(place).unwrap_or(u32::MAX));
        let wallet = Wallet::new(&self.ticket, Some(disk.lock().clone()));
        let purse = Purse::new(wallet, move |kept| {
            *disk.lock() = kept.clone();
            Ok(())
        });
        self.instances += 1;
        let (template, mut round) = (self.template.clone(), 0);
        let feed = Feed::new(move |put| {
            template.rows(number, round, put);
            round += 1;
        });
        let feed = feed.seeing(|| join::message::Sees::All);
        let mut group = Group::new(Me::new("0.2.0", self.instances), node, self.instances, feed);
        let (mut tasks, mut names) = (Vec::new(), None);
        if place < self.named {
            let (wanted, told) = Names::new();
            let (wanted, named) = (Arc::new(wanted), Arc::new(Named::default()));
            wanted.want(true);
            tasks.push(tokio::spawn(keep(told, named.clone(), self.began)));
            group = group.with_names(wanted.clone());
            names = Some((wanted, named));
        }
        let (group, stop) = (Arc::new(group), CancellationToken::new());
        let (runs, ticket, stopped) = (group.clone(), self.ticket.clone(), stop.clone());
        tasks.push(tokio::spawn(async move { runs.run(ticket, purse, stopped, Arc::default()).await }));
        Agent { group, names, stop, tasks }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// From now on it is asked who was told something.
    pub fn mark(&mut self) {
        self.marked = self.now();
    }

    pub fn status(&self) -> Value {
        let (mut open, mut held, mut credentials, mut left_out) = (0, 0, 0, 0);
        let (mut complete, mut told, mut entries, mut bytes, mut damaged) = (0, 0, 0_u64, 0, 0);
        let mut counts = join::PushCounts::default();
        let mut why = None;
        for agent in &self.agents {
            counts += agent.group.counts();
            {
                let link = agent.group.first().lock();
                open += usize::from(link.is_open());
                held += usize::from(link.held().is_some_and(|held| held > 0));
                credentials += usize::from(link.has_credential());
                why = why.or_else(|| link.why().filter(|_| !link.is_open()).map(ToString::to_string));
            }
            left_out += agent.group.feed().lock().source().counted().left_out;
            if let Some((names, named)) = &agent.names {
                let (known, copied) = names.counts();
                entries += known as u64;
                bytes += copied.bytes;
                damaged += copied.damaged + copied.left_out;
                complete += usize::from(named.complete.load(Relaxed) > 0);
                told += usize::from(named.told.load(Relaxed) > self.marked);
            }
        }
        json!({
            "agents": self.agents.len(), "series": self.template.series(),
            "open": open, "held": held, "credentials": credentials,
            "dials": counts.dials, "begun": counts.begun, "answered": counts.answered, "cut": counts.cut,
            "resyncs": counts.resyncs, "refused": counts.refused, "left_out": left_out,
            "named": complete, "told": told, "entries": entries, "name_bytes": bytes, "damaged": damaged,
            "why": why,
        })
    }
}

impl Agent {
    async fn end(self) {
        self.stop.cancel();
        let Agent { group, names, stop: _, tasks } = self;
        // What keeps names ends with the last who tells it.
        drop((group, names));
        for task in tasks {
            let _ = task.await;
        }
    }
}

/// What an agent's thread of names does, without keeping them: the copy has what is compared.
async fn keep(mut told: mpsc::Receiver<Vec<Told>>, named: Arc<Named>, began: Instant) {
    while let Some(messages) = told.recv().await {
        let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        for message in messages {
            match message {
                Told::Complete => named.complete.store(now, Relaxed),
                Told::Age(_) => named.told.store(now, Relaxed),
                Told::Begun | Told::Put(..) | Told::Gone(_) => {}
            }
        }
    }
}
