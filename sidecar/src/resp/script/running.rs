//! The script that a server runs now, for SCRIPT KILL. There is one at most: a script has the keys
//! for itself.

use parking_lot::Mutex;

use super::{Kill, Reply};

/// See the module.
#[derive(Debug, Default)]
pub struct Running(Mutex<Option<Run>>);

#[derive(Debug)]
struct Run {
    kill: Kill,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has written nothing, so it can be ended as if it had never been.
    Harmless,
    HasWritten,
    Killed,
}

/// Why nothing is killed, in Redis' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unkillable {
    /// No script runs.
    #[error("NOTBUSY No scripts in execution right now.")]
    NothingRuns,
    /// Half of its writes would stay.
    #[error(
        "UNKILLABLE Sorry the script already executed write commands against the dataset. You can \
         either wait the script termination or kill the server in a hard way using the SHUTDOWN \
         NOSAVE command."
    )]
    HasWritten,
}

impl From<Unkillable> for Reply {
    fn from(unkillable: Unkillable) -> Self {
        Self::Error(unkillable.to_string().into())
    }
}

/// A script runs as long as this lives.
#[derive(Debug)]
pub struct Ticket<'a>(&'a Running);

impl Running {
    /// A script begins that `kill` ends.
    pub fn begin(&self, kill: Kill) -> Ticket<'_> {
        *self.0.lock() = Some(Run { kill, state: State::Harmless });
        Ticket(self)
    }

    /// Ends the script that runs, unless it has written.
    pub fn kill(&self) -> Result<(), Unkillable> {
        match &mut *self.0.lock() {
            None => Err(Unkillable::NothingRuns),
            Some(Run { state: State::HasWritten, .. }) => Err(Unkillable::HasWritten),
            Some(run) => {
                run.state = State::Killed;
                run.kill.kill();
                Ok(())
            }
        }
    }
}

impl Ticket<'_> {
    /// Whether the script may write; then it can't be killed any more. *One that was killed writes
    /// nothing.*
    pub fn may_write(&self) -> bool {
        match &mut *self.0.0.lock() {
            Some(Run { state: State::Killed, .. }) | None => false,
            Some(run) => {
                run.state = State::HasWritten;
                true
            }
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.0.0.lock().take();
    }
}

#[cfg(test)]
mod tests {
    use super::{Kill, Running, Unkillable};

    #[test]
    fn a_script_is_killed_unless_it_has_written() {
        let running = Running::default();
        assert_eq!(running.kill(), Err(Unkillable::NothingRuns));
        let script = running.begin(Kill::default());
        assert_eq!(running.kill(), Ok(()));
        assert!(!script.may_write());
        drop(script);
        let script = running.begin(Kill::default());
        assert!(script.may_write());
        assert_eq!(running.kill(), Err(Unkillable::HasWritten));
        drop(script);
        assert_eq!(running.kill(), Err(Unkillable::NothingRuns));
    }
}
