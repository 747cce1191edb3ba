//! Names that are on their way: of namespaces that are looked at before it is known who lives there
//! and at which addresses.

use crate::index::{IdentityIndex, Shared};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Tells readers of an index that names are on their way. From any thread; clones share all.
#[derive(Clone, Debug)]
pub struct Expectation(Arc<Shared>);

/// The name and the addresses of one namespace are on their way, for as long as this lives.
#[derive(Debug)]
#[must_use = "nobody waits for names once it is dropped"]
pub struct Coming(Arc<Shared>);

impl IdentityIndex {
    /// To be used wherever a namespace is met, before anything of it can be seen.
    #[must_use]
    pub fn expectation(&self) -> Expectation {
        Expectation(self.shared())
    }
}

impl Expectation {
    /// One more is on its way: who has no name yet may get one within moments.
    pub fn begin(&self) -> Coming {
        self.0.coming.fetch_add(1, Ordering::Relaxed);
        Coming(self.0.clone())
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.coming.fetch_sub(1, Ordering::Relaxed);
        // Who waited asks again.
        self.0.changed();
    }
}
