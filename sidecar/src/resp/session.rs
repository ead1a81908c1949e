//! What one connection has chosen for itself. Plain state: the commands change it, the connection
//! obeys it.

use super::clients::Admission;
use super::queue::Queue;
use super::reply::Protocol;

/// See the module.
#[derive(Debug)]
pub struct Session {
    /// The connection's place among the server's clients.
    pub admission: Admission,
    /// The form of replies from now on.
    pub protocol: Protocol,
    /// Whether replies are sent.
    pub replies: Replies,
    /// Set by QUIT: nothing is read any more, and the connection closes behind its replies.
    pub closing: bool,
    /// The full name of the command that ran last.
    pub last_command: Option<&'static str>,
    /// What it has queued, and what it watches, where Warp itself executes that.
    pub queue: Queue,
    /// Set by RESET: what the connection has open at the storage is to be given up.
    pub reset: bool,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// Every reply is sent.
    #[default]
    On,
    /// None is.
    Off,
    /// That of the next command isn't.
    SkipNext,
}

impl Session {
    /// That of a new connection.
    pub fn new(admission: Admission) -> Self {
        Self {
            admission,
            protocol: Protocol::default(),
            replies: Replies::default(),
            closing: false,
            last_command: None,
            queue: Queue::default(),
            reset: false,
        }
    }

    /// Whether the next command's reply is to be left out; asked once for each command.
    pub fn take_skip(&mut self) -> bool {
        let skip = self.replies == Replies::SkipNext;
        if skip {
            self.replies = Replies::On;
        }
        skip
    }

    /// Lets others see which command ran last.
    pub fn publish_last_command(&self) {
        self.admission.client.with_state(|state| state.last_command = self.last_command);
    }
}
