//! From manifests to a running engine, and again whenever they change.
//!
//! A text that can't be applied is refused whole: the old configuration stays, and `/status`, the
//! metrics and the log say why.

use std::path::PathBuf;

use warp_crds::manifest::{self, ManifestError, Manifests};

mod build;
mod runner;
mod secrets;

pub use runner::Runner;
pub use secrets::Secrets;

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The manifests; none is a cache in memory, by itself.
    pub file: Option<PathBuf>,
    /// A folder with a file for each credential, as the operator mounts it.
    pub secrets: Option<PathBuf>,
    /// Servers to use in place of a managed NATS, where no operator runs one.
    pub nats_url: Option<String>,
}

/// Why a configuration isn't applied.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's words.
        cause: std::io::Error,
    },
    /// The manifests are refused.
    #[error("{path}: {cause}")]
    Manifest {
        /// The file.
        path: String,
        /// What is wrong with them.
        cause: ManifestError,
    },
    /// A credential is named and isn't there.
    #[error(
        "secret {name}, key {key}, is missing: give it as a Secret in the same file, or as the file {file} in --secrets-dir"
    )]
    MissingSecret {
        /// The Secret.
        name: String,
        /// The key in its data.
        key: String,
        /// The file that would hold it.
        file: String,
    },
    /// The storage's settings can't be used.
    #[error("storage: {0}")]
    Storage(String),
    /// The bus's settings can't be used.
    #[error("bus: {0}")]
    Bus(String),
}

/// A configuration as it was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) manifests: Manifests,
    pub(crate) secrets: Secrets,
    /// [`manifest::hash`] of the text.
    pub(crate) hash: String,
}

impl Source {
    /// Reads and validates what is there now.
    pub(crate) fn load(&self) -> Result<Loaded, ConfigError> {
        let Some(file) = &self.file else {
            let manifests = manifest::standalone();
            return Ok(Loaded { manifests, secrets: Secrets::default(), hash: manifest::hash("") });
        };
        let path = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|cause| ConfigError::Unreadable { path: path.clone(), cause })?;
        let mut manifests =
            manifest::parse(&text).map_err(|cause| ConfigError::Manifest { path, cause })?;
        let secrets = Secrets::new(std::mem::take(&mut manifests.secrets), self.secrets.as_deref());
        Ok(Loaded { manifests, secrets, hash: manifest::hash(&text) })
    }
}
