//! Why a measurement ended early. None is repaired: a figure is whole or it isn't given.

use std::io;
use std::path::Path;

/// What the functions of this program give.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The system refused something.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// The system's words.
        cause: io::Error,
    },
    /// A server answered what no server should.
    #[error("the reply begins with \"{begin}\" where {expected} is due")]
    Reply {
        /// What the command asks for.
        expected: &'static str,
        /// The reply's first bytes, escaped.
        begin: String,
    },
    /// A server closed a connection.
    #[error("the server closed the connection")]
    Closed,
    /// Nothing came for so long that nothing will.
    #[error("no reply within {0} s")]
    Silent(u64),
    /// What stands in the sentence.
    #[error("{0}")]
    Other(String),
    /// Where it happened.
    #[error("{place}: {cause}")]
    Within {
        /// The measurement.
        place: String,
        /// What happened.
        cause: Box<Failure>,
    },
}

impl Failure {
    pub(crate) fn within(self, place: impl Into<String>) -> Self {
        Self::Within { place: place.into(), cause: Box::new(self) }
    }
}

/// Says what was tried when the system refused it.
pub(crate) trait Trying<T> {
    fn trying(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: Into<io::Error>> Trying<T> for Result<T, E> {
    fn trying(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|cause| Failure::System { what: what(), cause: cause.into() })
    }
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).trying(|| format!("{} can't be read", path.display()))
}

/// Writes a text file.
pub(crate) fn write(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text).trying(|| format!("{} can't be written", path.display()))
}
