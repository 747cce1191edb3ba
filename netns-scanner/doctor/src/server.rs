//! Who knows where the API server is: whoever calls, by names or by files.

use flow_model::Endpoint;
use std::fmt;
use std::sync::Arc;

type Answer = Result<bool, String>;

/// Who knows whether an API server answers at an address and port, which may take a moment.
#[derive(Clone)]
pub struct KnowsApiServer(Arc<dyn Fn(Endpoint) -> Answer + Send + Sync>);

impl KnowsApiServer {
    /// By this question. An error is why nobody knows.
    pub fn by(is_it: impl Fn(Endpoint) -> Answer + Send + Sync + 'static) -> KnowsApiServer {
        KnowsApiServer(Arc::new(is_it))
    }

    pub(crate) fn is_it(&self, end: Endpoint) -> Answer {
        (self.0)(end)
    }
}

impl fmt::Debug for KnowsApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnowsApiServer")
    }
}
