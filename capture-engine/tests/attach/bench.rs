//! An attacher to try things on.

use crate::counting::Counting;
use capture_engine::attach::{AttachConfig, AttachEvent, Attacher, Interface, Mechanism, Mode, Priority};
use flow_model::Slot;
use netns::Netns;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

pub const POD: Slot = Slot(7);
/// Far beyond anything that these machines take; a test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An attacher, its programs, and what it told.
pub struct Bench {
    pub attacher: Attacher,
    pub programs: Arc<Counting>,
    events: Receiver<AttachEvent>,
}

impl Bench {
    pub fn new(mode: Mode) -> Bench {
        Bench::with(AttachConfig { mode, ..AttachConfig::default() })
    }

    pub fn with(config: AttachConfig) -> Bench {
        let (tell, events) = channel();
        let programs = Arc::new(Counting::new());
        let attacher = Attacher::start(config, Arc::clone(&programs) as _, move |event| drop(tell.send(event)));
        Bench { attacher: attacher.expect("start"), programs, events }
    }

    pub fn wait<T>(&self, what: &str, pick: impl Fn(AttachEvent) -> Option<T>) -> T {
        loop {
            let event = self.events.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"));
            if let Some(found) = pick(event) {
                return found;
            }
        }
    }

    /// As a container's that is being made.
    pub fn attach(&self, netns: &Arc<Netns>) -> Vec<Interface> {
        self.attach_as(netns, Priority::New)
    }

    pub fn attach_as(&self, netns: &Arc<Netns>, priority: Priority) -> Vec<Interface> {
        self.attacher.attach(POD, Arc::clone(netns), priority).expect("room");
        self.wait("Attached", |event| match event {
            AttachEvent::Attached { slot: POD, interfaces, .. } => Some(interfaces.to_vec()),
            AttachEvent::Failed { reason, .. } => panic!("failed: {reason}"),
            _ => None,
        })
    }

    pub fn wait_attached(&self) -> Duration {
        self.wait("Attached", |event| match event {
            AttachEvent::Attached { took, .. } => Some(took),
            _ => None,
        })
    }

    pub fn detach(&self, slot: Slot) {
        self.attacher.detach(slot);
        self.wait("Detached", |event| (event == AttachEvent::Detached { slot }).then_some(()));
        assert_eq!(self.attacher.counters().failed_detaches, 0);
    }

    /// Waits until exactly these interfaces carry programs.
    pub fn wait_for_interfaces(&self, names: &[&str]) {
        self.wait("change of interfaces", |event| match event {
            AttachEvent::Interfaces { interfaces, .. } | AttachEvent::Attached { interfaces, .. } => {
                (interfaces.iter().map(|interface| interface.name.as_str()).eq(names.iter().copied())).then_some(())
            }
            _ => None,
        });
    }
}

/// Whether these are this one alone.
pub fn one_interface(name: &str, mechanism: Mechanism) -> impl Fn(&[Interface]) -> bool {
    move |interfaces| matches!(interfaces, [only] if only.name == name && only.mechanism == mechanism)
}

/// Runs a command in the namespace of the calling thread.
pub fn here(words: &str) {
    let mut words = words.split(' ');
    let status = Command::new(words.next().unwrap_or_default()).args(words).status();
    assert!(status.is_ok_and(|status| status.success()));
}
