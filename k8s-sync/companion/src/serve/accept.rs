//! Connections in, each in a task of its own, as many at a time as there is room for.

use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Until `stop` is cancelled, which ends the connections, too. `refused` hears of each for which
/// there was no place among `most`.
pub(super) async fn accept<F>(
    listener: TcpListener,
    most: usize,
    stop: CancellationToken,
    refused: impl Fn(),
    connection: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(most));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((tcp, _)) = accepted else {
            // No descriptor is left, as a rule: whoever ends gives one back.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            refused();
            continue;
        };
        let (connection, stop) = (connection(tcp), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
}
