//! The parts that run once the kernel programs are loaded: how they start, and how they end.

use crate::config::Config;
use crate::exit::Failure;
use crate::run::alarm::{self, AlarmParts};
use crate::run::containers::{self, Containers, Jobs, attach_news, early_news};
use crate::run::descriptors::Descriptors;
use crate::run::ends::Ends;
use crate::run::engine::Loaded;
use crate::run::orders::Order;
use crate::run::own_news::OwnNews;
use crate::run::pipeline_thread::{PipelineThread, Told};
use crate::run::scan::Scan;
use crate::run::settings;
use crate::serve::board::Board;
use anyhow::Context;
use capture_engine::attach::{AttachConfig, AttachEvent, Attacher};
use flow_model::Pace;
use golden_metrics::{Golden, Losses};
use k8s_sync::{IdentityIndex, NamesReader};
use netns::Own;
use netns_scanner::ScannerConfig;
use netns_scanner::deadline::Deadlines;
use shim_plugin::{Claims, Containerd, LeaveOut};
use std::future::Future;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What every part reports to.
pub struct Shared<'a> {
    pub board: &'a Arc<Board>,
    pub losses: &'a Losses,
    pub ends: &'a Ends,
    pub deadlines: Deadlines,
    /// Of the containerds.
    pub claims: Claims,
}

pub struct Running {
    pub stop: CancellationToken,
    /// Cancelled when READY was said: what has time until then begins.
    ready: CancellationToken,
    pub orders: mpsc::Sender<Order>,
    /// Who is left out from now on.
    pub leave_out: watch::Sender<LeaveOut>,
    containers: tokio::task::JoinHandle<Attacher>,
    pipeline: JoinHandle<()>,
    /// Begins after READY.
    kubernetes: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// # Errors
    /// `Software` when there is no thread left.
    pub fn start(
        config: &Config,
        mut loaded: Loaded,
        golden: Golden<NamesReader>,
        identities: IdentityIndex,
        shared: Shared<'_>,
    ) -> Result<Running, Failure> {
        let Shared { board, losses, ends, deadlines, claims } = shared;
        let (stop, ready) = (CancellationToken::new(), CancellationToken::new());
        let (events, attach_events) = attach_news();
        let own_news = OwnNews::default();
        let owned = own_news.clone();
        let tell = move |event| {
            // Straight to where flows are judged, too.
            if let AttachEvent::Attached { slot, own, .. } | AttachEvent::Addresses { slot, own, .. } = &event {
                owned.tell(*slot, Own::clone(own));
            }
            events.tell(event);
        };
        let pace = Some(board.pacer.clone() as Arc<dyn Pace>);
        let attach = AttachConfig { pace: pace.clone(), ..settings::attach(config) };
        let attacher = Attacher::start(attach, loaded.programs(), tell);
        let attacher = attacher.context("start the attach workers")?;
        let descriptors = Descriptors::look();
        let overrides = loaded.kernel.overrides();
        let node = Jobs::new(loaded.kernel.clone(), config.debug.proc.clone(), descriptors.clone(), deadlines.clone());
        // Bounded by who sends: seeds by the scan, which counts those under way; the end of a
        // namespace once for each that was attached; the others a few in a run.
        let (orders, received) = mpsc::channel();
        let told = Told { orders: received, own: own_news };
        let alarm = loaded.alarm.take();
        let pipeline = PipelineThread::new(settings::pipeline(config), loaded, golden, board.clone(), losses, told);
        let pipeline = ends.thread("pipeline", move || pipeline.run()).context("start the pipeline thread")?;
        let (containerd, handle) =
            Containerd::new(shim_plugin::Config { claims, pace: pace.clone(), ..settings::containerd(config) });
        tokio::spawn(watched(ends, "containerd", containerd.run(stop.clone())));
        let leave_out = handle.leave_out.clone();
        let scanner = ScannerConfig { pace, ..settings::scanner(config) };
        let scan =
            Scan::start(scanner, deadlines.clone(), orders.clone(), losses).context("start the scan's thread")?;
        let ((tell, early), heard) = (early_news(identities.expectation()), Arc::default());
        let alarms = AlarmParts {
            early: handle.early.clone(),
            taker: attacher.taker(),
            tell,
            descriptors: descriptors.clone(),
            proc: config.debug.proc.clone(),
            heard: Arc::clone(&heard),
            loaded: alarm,
        };
        if config.attach.early {
            tokio::spawn(alarm::begin(alarms, ready.clone(), stop.clone()));
        }
        let parts = containers::ContainersParts {
            handle,
            attacher,
            attach_events,
            early,
            heard,
            identities,
            pipeline: orders.clone(),
            board: board.clone(),
            scan,
            deadlines,
            descriptors,
            node,
            overrides,
            ready: ready.clone(),
            proc: config.debug.proc.clone(),
        };
        let containers = Containers::new(settings::containers(config), parts, losses);
        let containers = tokio::spawn(watched(ends, "containers", containers.run(stop.clone())));
        Ok(Running { stop, ready, orders, leave_out, containers, pipeline, kubernetes: None })
    }

    /// READY was said: what has time until then begins.
    pub fn release(&mut self, kubernetes: impl Future<Output = ()> + Send + 'static) {
        self.ready.cancel();
        self.kubernetes = Some(tokio::spawn(kubernetes));
    }

    /// Takes our programs out of every namespace, then lets the pipeline read what is left.
    pub async fn drain(self, grace: Duration) {
        let Running { stop, ready: _, orders, leave_out: _, containers, pipeline, kubernetes } = self;
        stop.cancel();
        if let Ok(attacher) = containers.await {
            // Detaching is system calls under the kernel's own locks.
            let left = tokio::task::spawn_blocking(move || attacher.shutdown(grace)).await.unwrap_or(usize::MAX);
            if left > 0 {
                tracing::warn!(left, "namespaces were not detached in time; the programs there do nothing from now on");
            }
        }
        let _ = orders.send(Order::Finish);
        let _ = tokio::task::spawn_blocking(move || pipeline.join()).await;
        if let Some(kubernetes) = kubernetes
            && tokio::time::timeout(grace, kubernetes).await.is_err()
        {
            tracing::warn!("the cluster's names were not kept in time for the next start");
        }
    }
}

/// A task whose end is heard of, however it ends.
fn watched<F: Future>(ends: &Ends, part: &'static str, task: F) -> impl Future<Output = F::Output> + use<F> {
    let watch = ends.watch(part);
    async move {
        let _watch = watch;
        task.await
    }
}
