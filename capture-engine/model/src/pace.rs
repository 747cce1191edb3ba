//! What background work asks before it goes on.

use std::fmt::Debug;
use std::time::Duration;

/// Where the processor's time is short, work that nobody waits for leaves some of it to work that
/// somebody does. It is done in pieces of about a millisecond, and this is asked before each.
pub trait Pace: Debug + Send + Sync {
    /// How long to wait and then to ask again; `None` to begin. `waited` is how long this piece has
    /// waited so far: no piece waits for ever.
    fn wait(&self, waited: Duration) -> Option<Duration>;
}
