//! The certificate, its key and the join token: files that somebody else replaces while the
//! companion runs, as the kubelet does with those of a Secret.

use super::config::Config;
use super::exit::Failure;
use companion::serve::{Certificate, Push};
use join::Token;
use k8s_sync::access::Fingerprint;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The kubelet takes up to a minute to bring a new Secret.
const LOOK: Duration = Duration::from_secs(5);
/// A certificate, a key and a token have some KiB.
const LARGEST: u64 = 1 << 20;

/// What is in them.
pub struct Secrets {
    pub chain: String,
    pub key: String,
    pub token: Token,
}

/// What came of looks that found something changed.
#[derive(Debug, Default)]
pub struct Looks {
    pub read: AtomicU64,
    pub refused: AtomicU64,
}

/// Where they are.
#[derive(Clone, Debug)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    token: PathBuf,
}

impl Files {
    pub fn of(config: &Config) -> Files {
        let Config { tls, join, .. } = config;
        Files { certificate: tls.certificate.clone(), key: tls.key.clone(), token: join.token.clone() }
    }

    /// # Errors
    /// With the file that cannot be read, or is none. The token is in no message.
    pub fn read(&self) -> Result<Secrets, Failure> {
        let chain = text("tls.certificate", &self.certificate)?;
        let key = text("tls.key", &self.key)?;
        let token = Token::new(&text("join.token", &self.token)?).ok_or_else(|| {
            let path = self.token.display();
            Failure::usage(format!("join.token: {path}: must be one line of 16 to 512 visible characters"))
        })?;
        Ok(Secrets { chain, key, token })
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of([self.certificate.clone(), self.key.clone(), self.token.clone()])
    }

    /// Takes over what changes, until `stop` is cancelled. What cannot be used changes nothing, is
    /// said and counted.
    pub async fn follow(
        self,
        mut seen: Fingerprint,
        certificate: Arc<Certificate>,
        push: Arc<Push>,
        looks: Arc<Looks>,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            if seen.is_current() {
                continue;
            }
            // Before they are read: what changes meanwhile shows as a change.
            seen = self.fingerprint();
            let files = self.clone();
            let read = tokio::task::spawn_blocking(move || files.read()).await;
            let Ok(read) = read else { continue };
            let taken = read.map_err(|failure| failure.to_string()).and_then(|Secrets { chain, key, token }| {
                certificate.replace(&chain, &key).map_err(|error| error.to_string())?;
                push.set_token(token.hash());
                Ok(())
            });
            match taken {
                Ok(()) => {
                    looks.read.fetch_add(1, Relaxed);
                    tracing::info!("certificate, key and join token were read again");
                }
                Err(reason) => {
                    looks.refused.fetch_add(1, Relaxed);
                    tracing::error!(reason, "certificate, key and join token stay as they were");
                }
            }
        }
    }

    /// What they are now, with a mark that tells when one is another.
    ///
    /// # Errors
    /// As `read`.
    pub fn begin(&self) -> Result<(Secrets, Fingerprint), Failure> {
        let seen = self.fingerprint();
        Ok((self.read()?, seen))
    }
}

/// # Errors
/// It cannot be read, or is too large.
pub fn text(key: &str, path: &Path) -> Result<String, Failure> {
    let what = format!("{key}: {}", path.display());
    let size = std::fs::metadata(path).map_err(|error| Failure::of_system(&what, &error))?.len();
    if size > LARGEST {
        return Err(Failure::usage(format!("{what}: larger than 1 MiB")));
    }
    std::fs::read_to_string(path).map_err(|error| Failure::of_system(&what, &error))
}
