//! An agent that was killed begins anew: no figure is smaller for it, however late it sees its containers
//! and hears of their names.

use crate::bed::{Agent, at};
use crate::figures::{api, on, service, told};
use companion::{Figure, Fleet, Gap, Measure, Missing};
use golden_metrics::Answering;
use join::Cut;
use join::message::Sees;
use proptest::prelude::*;

/// Requests a second at n1 and at n2.
const OF: [u64; 2] = [10, 90];
const KILLED: u64 = 90;

/// Seconds after the kill.
#[derive(Clone, Copy, Debug)]
struct Kill {
    /// It is started again; 1 at least.
    started: u64,
    /// It observes all containers: until then it counts every third request.
    observes: u64,
    /// All names come at once; before that others change, each second. `None`: never.
    named: Option<u64>,
    /// It does not say what it sees, as versions before.
    says: bool,
}

impl Kill {
    fn step(self, second: u64, agents: &mut [Agent; 2], fleet: &mut Fleet) {
        agents[0].goes_on(second, OF[0]);
        match second.checked_sub(KILLED) {
            None => agents[1].goes_on(second, OF[1]),
            Some(0) => agents[1].cut(at(second), Cut::Broken("killed".to_owned()), fleet),
            Some(since) if since < self.started => {}
            Some(since) => {
                if since == self.started {
                    agents[1] = Agent::nameless("n2", 13);
                }
                if since == self.started + self.observes {
                    agents[1].sees = Sees::Nameless;
                }
                match self.named {
                    Some(named) if since == self.started + self.observes + named => agents[1].hears_all(),
                    _ => agents[1].hears(),
                }
                if !self.says {
                    agents[1].sees = Sees::Unsaid;
                }
                let share = if since < self.started + self.observes { 3 } else { 1 };
                agents[1].goes_on(second, OF[1] / share);
            }
        }
        for (place, agent) in agents.iter_mut().enumerate() {
            if place == 0 || !(KILLED..KILLED + self.started).contains(&second) {
                agent.run(at(second), fleet);
            }
        }
        fleet.tick(at(second));
    }

    /// What is told from the kill on, each second.
    fn figures(self, answering: &Answering) -> Vec<Result<u64, Missing>> {
        let (mut agents, mut fleet) = ([Agent::new("n1", 11), Agent::new("n2", 12)], told());
        let mut figures = Vec::new();
        for second in 0..KILLED + 300 {
            self.step(second, &mut agents, &mut fleet);
            if second >= KILLED {
                let figure = fleet.figure(at(second), answering, Measure::Rate, &on(&["n1", "n2"]));
                figures.push(figure.map(|Figure { value }| value.round() as u64));
            }
        }
        figures
    }
}

fn smallest(figures: &[Result<u64, Missing>]) -> u64 {
    figures.iter().flatten().copied().min().unwrap_or(u64::MAX)
}

/// As it was found: the names came 9 s after the start, when the connections had just been asked for.
#[test]
fn names_that_come_late_make_no_figure_smaller() {
    let kill = Kill { started: 2, observes: 1, named: Some(9), says: true };
    for answering in [api(), service("api")] {
        let figures = kill.figures(&answering);
        assert!(smallest(&figures) >= 95, "{figures:?}");
        assert_eq!(figures.last(), Some(&Ok(100)));
    }
}

#[test]
fn an_agent_without_names_counts_for_workloads_and_for_no_service() {
    let kill = Kill { started: 40, observes: 1, named: None, says: true };
    assert_eq!(kill.figures(&api()).last(), Some(&Ok(100)));
    let gap = Missing::Nodes(vec![("n2".to_owned(), Gap::Nameless)]);
    assert_eq!(kill.figures(&service("api")).last(), Some(&Err(gap)));
}

#[test]
fn an_agent_that_does_not_see_its_containers_is_named() {
    let kill = Kill { started: 1, observes: 1_000, named: None, says: true };
    let gap = Missing::Nodes(vec![("n2".to_owned(), Gap::Part)]);
    assert_eq!(kill.figures(&api()).last(), Some(&Err(gap)));
}

/// After 45 s it has asked for all names again.
#[test]
fn an_agent_of_a_version_before_is_waited_for() {
    let kill = Kill { started: 2, observes: 3, named: Some(9), says: false };
    for answering in [api(), service("api")] {
        let figures = kill.figures(&answering);
        assert!(smallest(&figures) >= 95, "{figures:?}");
        assert_eq!(figures.last(), Some(&Ok(100)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whenever_it_is_back_and_whenever_it_hears_no_figure_is_smaller(
        started in 1..70_u64, observes in 0..40_u64, named in proptest::option::of(0..60_u64), by_service: bool,
    ) {
        let answering = if by_service { service("api") } else { api() };
        let figures = Kill { started, observes, named, says: true }.figures(&answering);
        prop_assert!(smallest(&figures) >= 95, "{:?}", figures);
        if named.is_some() || !by_service {
            prop_assert_eq!(figures.last(), Some(&Ok(100)));
        }
    }
}
