use crate::container::{ContainerRef, LinkId};
use crate::docker::{Described, DockerFile};
use crate::event::ListedTask;
use crate::name::Labels;
use containerd_client::events::NamespaceUpdate;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::version_client::VersionClient;
use containerd_client::services::v1::{
    Container, GetContainerRequest, ListContainersRequest, ListNamespacesRequest, ListTasksRequest, PublishRequest,
    SubscribeRequest,
};
use containerd_client::types::Envelope;
use containerd_client::types::v1::Status as TaskStatus;
use flow_model::Pace;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

/// A call that takes longer has failed. Tasks.List waits 2 s for each shim that hangs.
const CALL: Duration = Duration::from_secs(10);
/// A list of 8192 tasks is about 2 MB.
const LARGEST_LIST: usize = 32 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("connect to {socket}")]
    Connect { socket: String, source: containerd_client::tonic::transport::Error },
    #[error("{call}")]
    Call { call: &'static str, source: Box<Status> },
    #[error("{call}: no answer within {CALL:?}")]
    Deadline { call: &'static str },
    #[error("namespace {namespace:?} cannot be sent in a header")]
    Namespace { namespace: String },
}

impl ClientError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, ClientError::Call { source, .. } if source.code() == Code::NotFound)
    }
}

/// containerd's services, each call with a deadline.
#[derive(Clone, Debug)]
pub struct Client(Channel);

impl Client {
    /// Connects once; a lost connection needs a new client.
    pub async fn connect(socket: &Path) -> Result<Client, ClientError> {
        match tokio::time::timeout(CALL, containerd_client::connect(socket)).await {
            Ok(Ok(channel)) => Ok(Client(channel)),
            Ok(Err(source)) => Err(ClientError::Connect { socket: socket.display().to_string(), source }),
            Err(_) => Err(ClientError::Deadline { call: "connect" }),
        }
    }

    pub async fn version(&self) -> Result<String, ClientError> {
        let response = within("version", VersionClient::new(self.0.clone()).version(())).await?;
        Ok(response.version)
    }

    /// Resolves with the first event only, so it has no deadline. Without a namespace header it sees all namespaces.
    pub async fn subscribe(&self, filters: Vec<String>) -> Result<Streaming<Envelope>, ClientError> {
        let response = EventsClient::new(self.0.clone()).subscribe(SubscribeRequest { filters }).await;
        response.map(tonic::Response::into_inner).map_err(|status| failed("subscribe", status))
    }

    /// Publishes our own marker. containerd accepts only registered event types for a topic of any name.
    pub async fn publish_marker(&self, topic: &str, number: u64) -> Result<(), ClientError> {
        let event = NamespaceUpdate { name: number.to_string(), labels: Default::default() };
        let request = PublishRequest { topic: topic.to_owned(), event: Some(containerd_client::to_any(&event)) };
        within("publish a marker", EventsClient::new(self.0.clone()).publish(in_namespace("default", request)?)).await
    }

    pub async fn namespaces(&self) -> Result<Vec<Arc<str>>, ClientError> {
        let request = ListNamespacesRequest { filter: String::new() };
        let response = within("list namespaces", NamespacesClient::new(self.0.clone()).list(request)).await?;
        Ok(response.namespaces.into_iter().map(|namespace| namespace.name.into()).collect())
    }

    /// The tasks of `namespace` that have not ended. `link` is what their names begin with.
    pub async fn tasks(&self, link: LinkId, namespace: &Arc<str>) -> Result<Vec<ListedTask>, ClientError> {
        let request = in_namespace(namespace, ListTasksRequest { filter: String::new() })?;
        let mut client = TasksClient::new(self.0.clone()).max_decoding_message_size(LARGEST_LIST);
        let response = within("list tasks", client.list(request)).await?;
        let alive = response.tasks.into_iter().filter(|task| task.status() != TaskStatus::Stopped);
        Ok(alive
            .map(|task| ListedTask {
                pid: (task.status() != TaskStatus::Unknown).then_some(task.pid),
                // `id` is the init process's, which is the container's; `container_id` is empty before 1.7.
                container: ContainerRef {
                    link,
                    namespace: namespace.clone(),
                    id: if task.container_id.is_empty() { task.id } else { task.container_id }.into(),
                },
            })
            .collect())
    }

    pub async fn describe(&self, container: &ContainerRef) -> Result<Described, ClientError> {
        let request = in_namespace(&container.namespace, GetContainerRequest { id: container.id.to_string() })?;
        let response = within("get container", ContainersClient::new(self.0.clone()).get(request)).await?;
        Ok(described(&response.container.unwrap_or_default()))
    }

    /// All containers of `namespace`, one message each: a container's record has tens of KiB of
    /// other things, which are dropped as they come. containerd waits while we do.
    pub async fn describe_all(
        &self,
        namespace: &str,
        pace: Option<&Arc<dyn Pace>>,
    ) -> Result<Vec<(Arc<str>, Described)>, ClientError> {
        const CALL_NAME: &str = "list containers";
        let request = in_namespace(namespace, ListContainersRequest { filters: Vec::new() })?;
        let mut client = ContainersClient::new(self.0.clone());
        let mut stream = within(CALL_NAME, client.list_stream(request)).await?;
        let mut all = Vec::new();
        loop {
            let since = Instant::now();
            while let Some(wait) = pace.and_then(|pace| pace.wait(since.elapsed())) {
                tokio::time::sleep(wait).await;
            }
            match tokio::time::timeout(CALL, stream.message()).await {
                Ok(Ok(Some(message))) => {
                    if let Some(container) = message.container {
                        let described = described(&container);
                        all.push((container.id.into(), described));
                    }
                }
                Ok(Ok(None)) => return Ok(all),
                Ok(Err(status)) => return Err(failed(CALL_NAME, status)),
                Err(_) => return Err(ClientError::Deadline { call: CALL_NAME }),
            }
        }
    }
}

fn described(container: &Container) -> Described {
    let Container { id, labels, spec, .. } = container;
    let spec = spec.as_ref().map(|spec| &*spec.value).unwrap_or_default();
    Described { labels: Labels::pick(labels), docker: DockerFile::of(id, labels, spec) }
}

async fn within<T>(
    call: &'static str,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(CALL, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failed(call, status)),
        Err(_) => Err(ClientError::Deadline { call }),
    }
}

fn failed(call: &'static str, status: Status) -> ClientError {
    ClientError::Call { call, source: Box::new(status) }
}

fn in_namespace<T>(namespace: &str, message: T) -> Result<Request<T>, ClientError> {
    let mut request = Request::new(message);
    let value = namespace.parse().map_err(|_| ClientError::Namespace { namespace: namespace.to_owned() })?;
    request.metadata_mut().insert("containerd-namespace", value);
    Ok(request)
}
