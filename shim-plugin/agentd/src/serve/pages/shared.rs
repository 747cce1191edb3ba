//! One rendering a second for each format, however many ask.

use super::packed::Packed;
use super::shelf::{SHARED, Shelf, Ticket};
use golden_metrics::Format;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Why there is no page.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// There will be one after this.
    Later(Duration),
    /// It could not be made.
    Broken,
}

/// What was made last.
#[derive(Debug, Default)]
struct Last {
    page: Ticket,
    /// Everything in it is of then or later.
    begun: Option<Instant>,
}

#[derive(Debug)]
pub struct SharedPages {
    shelf: Arc<Shelf>,
    text: Arc<Mutex<Last>>,
    open_metrics: Arc<Mutex<Last>>,
    protobuf: Arc<Mutex<Last>>,
}

impl SharedPages {
    #[must_use]
    pub fn new(shelf: Arc<Shelf>) -> SharedPages {
        SharedPages { shelf, text: Arc::default(), open_metrics: Arc::default(), protobuf: Arc::default() }
    }

    /// The page of this second. Who wants one that is no older than the question waits for the
    /// next second's, with all others who do.
    ///
    /// # Errors
    /// The page of this second had to make room already, or could not be made.
    pub async fn get(
        &self,
        format: Format,
        is_fresh_wanted: bool,
        render: impl FnOnce() -> io::Result<Packed> + Send + 'static,
    ) -> Result<Ticket, Refused> {
        let asked = Instant::now();
        let last = match format {
            Format::Text => &self.text,
            Format::OpenMetrics => &self.open_metrics,
            Format::Protobuf => &self.protobuf,
        };
        loop {
            let last = last.clone().lock_owned().await;
            let Some(begun) = last.begun.filter(|begun| begun.elapsed() < SHARED) else {
                // A task of its own: who asked may go away, and nothing is rendered twice for that.
                let rendering = tokio::spawn(self::render(last, self.shelf.clone(), render));
                return rendering.await.unwrap_or(Err(Refused::Broken));
            };
            if begun >= asked || !is_fresh_wanted {
                let left = SHARED.saturating_sub(begun.elapsed());
                return if last.page.is_valid() { Ok(last.page.clone()) } else { Err(Refused::Later(left)) };
            }
            drop(last);
            tokio::time::sleep_until((begun + SHARED).into()).await;
        }
    }
}

/// Off the thread that answers `/livez`. `last` stays locked: others who come wait for this page.
async fn render(
    mut last: OwnedMutexGuard<Last>,
    shelf: Arc<Shelf>,
    render: impl FnOnce() -> io::Result<Packed> + Send + 'static,
) -> Result<Ticket, Refused> {
    let begun = Instant::now();
    let page = tokio::task::spawn_blocking(render).await.map_err(|_| Refused::Broken)?;
    last.page = shelf.put(page.map_err(|_| Refused::Broken)?, Instant::now());
    last.begun = Some(begun);
    Ok(last.page.clone())
}

#[cfg(test)]
mod tests {
    use super::super::packed::Packer;
    use super::*;
    use futures_util::future::join_all;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    struct Counted {
        pages: SharedPages,
        rendered: Arc<AtomicU64>,
    }

    impl Counted {
        fn new() -> Counted {
            Counted { pages: SharedPages::new(Arc::default()), rendered: Arc::default() }
        }

        async fn get(&self, is_fresh_wanted: bool) -> u64 {
            let rendered = self.rendered.clone();
            let render = move || {
                rendered.fetch_add(1, Relaxed);
                Packer::default().finish()
            };
            self.pages.get(Format::Text, is_fresh_wanted, render).await.expect("a page");
            self.rendered.load(Relaxed)
        }
    }

    #[tokio::test]
    async fn all_of_a_second_share_one_rendering() {
        let (counted, begun) = (Counted::new(), Instant::now());
        join_all((0..100).map(|_| counted.get(false))).await;
        // A machine may be held up for longer than a second.
        assert!(counted.rendered.load(Relaxed) <= 1 + begun.elapsed().as_secs());
    }

    #[tokio::test]
    async fn who_wants_none_from_before_the_question_waits_for_one_with_the_others() {
        let (counted, begun) = (Counted::new(), Instant::now());
        counted.get(false).await;
        let seen = join_all((0..100).map(|_| counted.get(true))).await;
        assert!(seen.iter().all(|rendered| *rendered > 1), "the first was made before they asked");
        assert!(counted.rendered.load(Relaxed) <= 1 + begun.elapsed().as_secs());
    }

    #[tokio::test]
    async fn a_rendering_that_panics_is_an_answer_and_the_next_one_is_tried() {
        let counted = Counted::new();
        let broken = counted.pages.get(Format::Text, false, || panic!("broken")).await;
        assert_eq!(broken.err(), Some(Refused::Broken));
        assert_eq!(counted.get(false).await, 1);
    }
}
