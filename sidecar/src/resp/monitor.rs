//! The clients that are shown what all clients do: MONITOR.
//!
//! *It costs nothing while there is none*: whether there is one is read without a lock. What is
//! shown waits in the client's inbox as messages do, and one that doesn't read it is disconnected
//! as one that doesn't read its messages.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::redaction::redacted;
use crate::adapter::UnixMillis;
use crate::channels::{Inbox, Message};

/// So many bytes of a command are shown at most.
const LONGEST: usize = 1024 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Monitors {
    count: AtomicUsize,
    inboxes: Mutex<Vec<Arc<Inbox>>>,
}

/// A client is shown what others do as long as this lives.
#[derive(Debug)]
pub struct Monitoring {
    monitors: Arc<Monitors>,
    inbox: Arc<Inbox>,
}

impl Monitors {
    /// Whether anybody is shown anything.
    #[inline]
    pub fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Shows everything to `inbox` from now on.
    pub fn begin(self: &Arc<Self>, inbox: &Arc<Inbox>) -> Monitoring {
        let mut inboxes = self.inboxes.lock();
        inboxes.push(Arc::clone(inbox));
        self.count.store(inboxes.len(), Ordering::Relaxed);
        Monitoring { monitors: Arc::clone(self), inbox: Arc::clone(inbox) }
    }

    /// Shows a command that `source` has had executed: a client's address, or `lua`.
    pub fn show(&self, now: UnixMillis, source: &str, arguments: &[&[u8]]) {
        let line = line(now, source, arguments);
        for inbox in self.inboxes.lock().iter() {
            inbox.put(Message::Monitored(line.clone()));
        }
    }
}

impl Drop for Monitoring {
    fn drop(&mut self) {
        let mut inboxes = self.monitors.inboxes.lock();
        inboxes.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
        self.monitors.count.store(inboxes.len(), Ordering::Relaxed);
    }
}

/// As Redis writes it, to the millisecond.
fn line(now: UnixMillis, source: &str, arguments: &[&[u8]]) -> Bytes {
    let mut line = String::new();
    // Writing to a string can't fail.
    let _ = write!(line, "+{}.{:03}000 [0 {source}]", now / 1000, now % 1000);
    for argument in redacted(arguments) {
        line.push_str(" \"");
        let room = LONGEST.saturating_sub(line.len()).min(argument.len());
        for byte in &argument[..room] {
            let _ = match byte {
                b'\\' | b'"' => write!(line, "\\{}", char::from(*byte)),
                b'\n' => write!(line, "\\n"),
                b'\r' => write!(line, "\\r"),
                b'\t' => write!(line, "\\t"),
                0x07 => write!(line, "\\a"),
                0x08 => write!(line, "\\b"),
                b' '..=b'~' => write!(line, "{}", char::from(*byte)),
                _ => write!(line, "\\x{byte:02x}"),
            };
        }
        line.push('"');
        if room < argument.len() {
            let _ = write!(line, "... ({} more bytes)", argument.len() - room);
        }
    }
    line.push_str("\r\n");
    line.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Monitors, line};
    use crate::channels::Inbox;

    #[test]
    fn a_command_is_one_line_whatever_it_holds() {
        let shown =
            line(1_234_005, "127.0.0.1:5", &[b"SET", b"a\"\\ b", b"\r\n\t\x07\x08\x00\xff~"]);
        assert_eq!(
            shown,
            "+1234.005000 [0 127.0.0.1:5] \"SET\" \"a\\\"\\\\ b\" \"\\r\\n\\t\\a\\b\\x00\\xff~\"\r\n"
        );
    }

    #[test]
    fn a_client_is_shown_commands_until_it_ends() {
        let monitors = Arc::new(Monitors::default());
        let inbox = Arc::new(Inbox::new(1, 1 << 20, || {}));
        assert!(!monitors.is_any());
        let monitoring = monitors.begin(&inbox);
        assert!(monitors.is_any());
        monitors.show(0, "lua", &[b"PING"]);
        assert_eq!(inbox.take(usize::MAX).unwrap().len(), 1);
        drop(monitoring);
        assert!(!monitors.is_any());
        monitors.show(0, "lua", &[b"PING"]);
        assert!(inbox.take(usize::MAX).unwrap().is_empty());
    }
}
