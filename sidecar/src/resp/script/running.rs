//! The scripts that a server runs now, for SCRIPT KILL. Over the memory storage there is one at most,
//! which has the keys for itself; over a SQL table each thread may run one.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::{Kill, Reply};

/// See the module.
#[derive(Debug, Default)]
pub struct Running(Mutex<Runs>);

#[derive(Debug, Default)]
struct Runs {
    by_number: BTreeMap<u64, Run>,
    last: u64,
}

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
pub struct Ticket<'a> {
    running: &'a Running,
    number: u64,
}

impl Running {
    /// A script begins that `kill` ends.
    pub fn begin(&self, kill: Kill) -> Ticket<'_> {
        let mut runs = self.0.lock();
        runs.last += 1;
        let number = runs.last;
        runs.by_number.insert(number, Run { kill, state: State::Harmless });
        Ticket { running: self, number }
    }

    /// Ends the scripts that run, but those that have written. It fails if none is ended.
    pub fn kill(&self) -> Result<(), Unkillable> {
        let mut outcome = Err(Unkillable::NothingRuns);
        for run in self.0.lock().by_number.values_mut() {
            if run.state == State::HasWritten {
                outcome = outcome.or(Err(Unkillable::HasWritten));
            } else {
                run.state = State::Killed;
                run.kill.kill();
                outcome = Ok(());
            }
        }
        outcome
    }
}

impl Ticket<'_> {
    /// Whether the script may write; then it can't be killed any more. *One that was killed writes
    /// nothing.*
    pub fn may_write(&self) -> bool {
        match self.running.0.lock().by_number.get_mut(&self.number) {
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
        self.running.0.lock().by_number.remove(&self.number);
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
    #[test]
    fn of_several_scripts_those_are_killed_that_have_not_written() {
        let running = Running::default();
        let (harmless, writer) = (running.begin(Kill::default()), running.begin(Kill::default()));
        assert!(writer.may_write());
        assert_eq!(running.kill(), Ok(()));
        assert!(!harmless.may_write() && writer.may_write());
        drop(harmless);
        assert_eq!(running.kill(), Err(Unkillable::HasWritten));
    }
}
