//! The connections that are open on one door, and which of them makes room: the oldest of whoever
//! has most. Who opens many loses his own; a scraper and the kubelet have one or two each.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use tokio::task::AbortHandle;

#[derive(Debug, Default)]
pub struct Crowd {
    by_age: VecDeque<(Option<IpAddr>, AbortHandle)>,
}

impl Crowd {
    pub fn add(&mut self, peer: Option<IpAddr>, connection: AbortHandle) {
        self.by_age.push_back((peer, connection));
    }

    /// Those that are still open.
    pub fn len(&mut self) -> usize {
        self.by_age.retain(|(_, connection)| !connection.is_finished());
        self.by_age.len()
    }

    /// Ends one; false when none is open.
    pub fn evict(&mut self) -> bool {
        self.len();
        let mut counts: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for (peer, _) in &self.by_age {
            *counts.entry(*peer).or_default() += 1;
        }
        let most = counts.values().max().copied().unwrap_or(0);
        let oldest = self.by_age.iter().position(|(peer, _)| counts.get(peer) == Some(&most));
        match oldest.and_then(|at| self.by_age.remove(at)) {
            Some((_, connection)) => {
                connection.abort();
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn who_has_most_makes_room_and_the_oldest_of_his_first() {
        let (mut crowd, mut open) = (Crowd::default(), JoinSet::new());
        let peers: [(u32, u8); 5] = [(0, 1), (1, 9), (2, 9), (3, 2), (4, 9)];
        for (number, last) in peers {
            let task = async move {
                std::future::pending::<()>().await;
            };
            let handle = open.spawn(task);
            assert_eq!(crowd.len(), number as usize);
            crowd.add(Some([10, 0, 0, last].into()), handle);
        }
        let mut left = Vec::new();
        while crowd.evict() {
            left.push(crowd.by_age.iter().filter_map(|(peer, _)| Some(peer.as_ref()?.to_string())).collect::<Vec<_>>());
        }
        let short: Vec<String> = left
            .iter()
            .map(|all| all.iter().filter_map(|ip| ip.rsplit('.').next()).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(short, ["1 9 2 9", "1 2 9", "2 9", "9", ""]);
        while let Some(ended) = open.join_next().await {
            assert!(ended.is_err_and(|error| error.is_cancelled()));
        }
    }
}
