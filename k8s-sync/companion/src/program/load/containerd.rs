//! Into a containerd: the blobs, then the image that points to them. What is there already stays.

use super::archive::{Blob, Image};
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{
    AbortRequest, CreateImageRequest, CreateRequest, DeleteRequest, Image as Record, Info, UpdateImageRequest,
    UpdateRequest, WriteAction, WriteContentRequest,
};
use containerd_client::types::Descriptor;
use flow_model::{in_full, rfc3339};
use futures_util::{Stream, StreamExt, stream};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// A call that moves no data.
const CALL: Duration = Duration::from_secs(10);
/// One blob: 20 MB, on a node that is busy with other images.
const WRITE: Duration = Duration::from_secs(120);
/// containerd takes messages of 16 MiB.
const CHUNK: u64 = 1 << 20;
/// How long blobs that no image points to yet are kept, should we be killed.
const LEASE: Duration = Duration::from_secs(3600);

/// The collector follows these from a blob to others (containerd's docs/garbage-collection.md).
const REFERS_TO: &str = "containerd.io/gc.ref.content";
/// The kubelet's collector of images leaves such ones alone (containerd 1.7 and later): nobody could
/// pull it again.
const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// tonic says "transport error" and keeps the reason for who asks.
    #[error("connect to it: {}", in_full(.0))]
    Connect(#[source] tonic::transport::Error),
    #[error("{what}: {}", status.message())]
    Call { what: String, status: Box<Status> },
    #[error("{0}: no answer in time")]
    Deadline(String),
    #[error("read the archive: {0}")]
    Read(Arc<std::io::Error>),
}

/// One way in: a containerd, a namespace of it, and a lease there.
struct Import {
    channel: Channel,
    namespace: MetadataValue<Ascii>,
    lease: MetadataValue<Ascii>,
}

/// Loads `image` of `archive` into `namespace` of the containerd behind `socket`.
///
/// # Errors
/// It does not answer, or refuses; or the archive is not what it says of itself.
pub async fn load(
    socket: &Path,
    namespace: MetadataValue<Ascii>,
    image: &Image,
    archive: &Arc<File>,
) -> Result<(), LoadError> {
    let connect = within("connect to it", CALL, async { Ok(containerd_client::connect(socket).await) });
    let channel = connect.await?.map_err(LoadError::Connect)?;
    let id = format!("pilotfish-companion-load-{}", std::process::id());
    let lease = MetadataValue::try_from(&id).map_err(|_| LoadError::Deadline("a lease".to_owned()))?;
    let import = Import { channel, namespace, lease };
    import.begin(&id).await?;
    let done = import.image(image, archive).await;
    // Also after a failure: what was written is nobody's then.
    let ended = import.end(&id).await;
    done.and(ended)
}

impl Import {
    async fn begin(&self, id: &str) -> Result<(), LoadError> {
        let expires = rfc3339(SystemTime::now() + LEASE);
        let labels = HashMap::from([("containerd.io/gc.expire".to_owned(), expires)]);
        let request = self.request(CreateRequest { id: id.to_owned(), labels });
        let mut client = LeasesClient::new(self.channel.clone());
        within("make a lease", CALL, client.create(request)).await.map(drop)
    }

    async fn end(&self, id: &str) -> Result<(), LoadError> {
        let request = self.request(DeleteRequest { id: id.to_owned(), sync: false });
        let mut client = LeasesClient::new(self.channel.clone());
        within("end the lease", CALL, client.delete(request)).await.map(drop)
    }

    async fn image(&self, image: &Image, archive: &Arc<File>) -> Result<(), LoadError> {
        for blob in image.blobs() {
            self.blob(blob, archive).await?;
        }
        self.tell_what_it_refers_to(image).await?;
        self.name(image).await
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        request.metadata_mut().insert("containerd-lease", self.lease.clone());
        request
    }

    async fn blob(&self, blob: &Blob, archive: &Arc<File>) -> Result<(), LoadError> {
        let what = format!("write {}", blob.digest);
        let failed = Arc::new(parking_lot::Mutex::new(None));
        let messages = messages(blob.clone(), archive.clone(), failed.clone());
        let mut client = ContentClient::new(self.channel.clone());
        let written = async {
            let mut answers = client.write(self.request(messages)).await?.into_inner();
            while let Some(answer) = answers.next().await {
                answer?;
            }
            Ok(())
        };
        let written = match within(&what, WRITE, written).await {
            Err(LoadError::Call { status, .. }) if status.code() == Code::AlreadyExists => Ok(()),
            written => written,
        };
        let read = failed.lock().take().map_or(Ok(()), |error| Err(LoadError::Read(error)));
        let done = read.and(written);
        if done.is_err() {
            // What came of it would wait for the rest.
            let request = self.request(AbortRequest { r#ref: reference(blob) });
            let _ = within("abort", CALL, client.abort(request)).await;
        }
        done
    }

    /// Also where the manifest was there before: by whom it came is not known.
    async fn tell_what_it_refers_to(&self, image: &Image) -> Result<(), LoadError> {
        let layers =
            (0..).zip(&image.layers).map(|(place, layer): (usize, _)| (format!("{REFERS_TO}.l.{place}"), layer));
        let all = layers.chain([(format!("{REFERS_TO}.config"), &image.config)]);
        let labels: HashMap<String, String> = all.map(|(label, blob)| (label, blob.digest.clone())).collect();
        let paths = labels.keys().map(|label| format!("labels.{label}")).collect();
        let info = Info { digest: image.manifest.digest.clone(), labels, ..Info::default() };
        let request =
            self.request(UpdateRequest { info: Some(info), update_mask: Some(prost_types::FieldMask { paths }) });
        let mut client = ContentClient::new(self.channel.clone());
        within("label the manifest", CALL, client.update(request)).await.map(drop)
    }

    async fn name(&self, image: &Image) -> Result<(), LoadError> {
        let Blob { media_type, digest, size, at: _ } = image.manifest.clone();
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let record = Record {
            name: image.name.clone(),
            labels: HashMap::from([(PINNED.0.to_owned(), PINNED.1.to_owned())]),
            target: Some(Descriptor { media_type, digest, size, ..Descriptor::default() }),
            ..Record::default()
        };
        let mut client = ImagesClient::new(self.channel.clone());
        let create = CreateImageRequest { image: Some(record.clone()), source_date_epoch: None };
        let created = within("name the image", CALL, client.create(self.request(create))).await;
        match created {
            Err(LoadError::Call { status, .. }) if status.code() == Code::AlreadyExists => {
                let update = UpdateImageRequest { image: Some(record), ..UpdateImageRequest::default() };
                within("name the image", CALL, client.update(self.request(update))).await.map(drop)
            }
            created => created.map(drop),
        }
    }
}

/// What the writing of it is called.
fn reference(blob: &Blob) -> String {
    format!("pilotfish-companion-{}", blob.digest)
}

/// What is sent of a blob, read as it is sent. A failure to read ends it and is left in `failed`.
fn messages(
    blob: Blob,
    archive: Arc<File>,
    failed: Arc<parking_lot::Mutex<Option<Arc<std::io::Error>>>>,
) -> impl Stream<Item = WriteContentRequest> + Send + 'static {
    let total = i64::try_from(blob.size).unwrap_or(i64::MAX);
    let (name, expected) = (reference(&blob), blob.digest.clone());
    let message = move |action: WriteAction, offset: u64, data: Vec<u8>| WriteContentRequest {
        action: action as i32,
        r#ref: name.clone(),
        total,
        expected: expected.clone(),
        offset: i64::try_from(offset).unwrap_or(i64::MAX),
        data,
        labels: HashMap::new(),
    };
    stream::unfold(Some(0), move |sent| {
        let next = sent.and_then(|sent: u64| {
            let left = blob.size - sent;
            // An offset of 0 begins anew, so only an empty blob is committed with it.
            if left == 0 {
                return Some((message(WriteAction::Commit, sent, Vec::new()), None));
            }
            let mut data = vec![0; left.min(CHUNK) as usize];
            match archive.read_exact_at(&mut data, blob.at + sent) {
                Ok(()) => {
                    let next = sent + data.len() as u64;
                    Some((message(WriteAction::Write, sent, data), Some(next)))
                }
                Err(error) => {
                    *failed.lock() = Some(Arc::new(error));
                    None
                }
            }
        });
        std::future::ready(next)
    })
}

async fn within<T>(what: &str, time: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, LoadError> {
    match tokio::time::timeout(time, call).await {
        Ok(answer) => answer.map_err(|status| LoadError::Call { what: what.to_owned(), status: Box::new(status) }),
        Err(_) => Err(LoadError::Deadline(what.to_owned())),
    }
}
