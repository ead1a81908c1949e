//! Logs a fault that lasts once when it starts and once when it ends, however often it is met.

use std::fmt::Display;

/// One thing that can fail for a while.
#[derive(Debug)]
pub(crate) struct Fault {
    what: &'static str,
    lasts: bool,
}

impl Fault {
    /// `what` fails, in words such as `watching namespaces`.
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what, lasts: false }
    }

    /// It failed.
    pub(crate) fn met(&mut self, error: &dyn Display) {
        if !self.lasts {
            tracing::warn!(what = self.what, %error, "failing, and trying again");
        }
        self.lasts = true;
    }

    /// It succeeded.
    pub(crate) fn over(&mut self) {
        if self.lasts {
            tracing::info!(what = self.what, "works again");
        }
        self.lasts = false;
    }

    /// It was tried; gives what came of it, if it succeeded.
    pub(crate) fn check<T, E: Display>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => {
                self.over();
                Some(value)
            }
            Err(error) => {
                self.met(&error);
                None
            }
        }
    }
}
