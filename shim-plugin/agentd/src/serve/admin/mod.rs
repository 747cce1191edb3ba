//! Where the agent answers: `/metrics`, `/livez`, `/readyz` on an address, the command line on a
//! unix socket. On a thread and a runtime of its own, so that it answers whatever the rest is busy
//! with.

mod crowd;
mod listen;
mod routes;
mod serve;

pub use listen::{PATIENCE, SocketFile, bind_address, bind_socket};
pub use serve::ANSWER_TIME;

use crate::run::ends::Ends;
use crate::serve::board::Board;
use crate::serve::identity::Lookup;
use crate::serve::tap;
use anyhow::Context;
use routes::Pages;
use serve::House;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub struct Admin {
    pub address: TcpListener,
    pub socket: UnixListener,
    pub connections: usize,
    /// An answer that is not read by then is cut off.
    pub answer_time: Duration,
    /// Offer `/debug/pause` on the socket.
    pub debug: bool,
    /// Who has an address; filled once there is traffic to name.
    pub lookup: Arc<OnceLock<Lookup>>,
}

impl Admin {
    /// Serves until `stop`.
    ///
    /// # Errors
    /// When there is no thread or runtime to be had.
    pub fn spawn(self, board: Arc<Board>, stop: CancellationToken, ends: &Ends) -> anyhow::Result<JoinHandle<()>> {
        // One worker serves; what takes long (writing 100,000 series) runs on a blocking thread. Two
        // of them may wait for the pipeline to say who has an address.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build();
        let runtime = runtime.context("start the admin runtime")?;
        let serve = move || {
            runtime.block_on(async move {
                let Admin { address, socket, connections, answer_time, debug, lookup } = self;
                let address = tokio::net::TcpListener::from_std(address).context("serve the admin address")?;
                let socket = tokio::net::UnixListener::from_std(socket).context("serve the admin socket")?;
                let over = CancellationToken::new();
                let house = House { connections, answer_time, doors: board.doors.clone(), stop: over.clone() };
                let pages = Pages::new(board.clone(), lookup);
                tokio::join!(
                    serve::serve(address, pages.public(), &house),
                    serve::serve(socket, pages.private(debug), &house),
                    async {
                        stop.cancelled().await;
                        tap::farewell(&board).await;
                        over.cancel();
                    },
                );
                Ok(())
            })
        };
        ends.thread("admin", serve).context("start the admin thread")
    }
}

#[cfg(test)]
mod tests;
