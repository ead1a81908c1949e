//! The programs that this one starts. They end with it: when they go out of scope, when a
//! measurement fails, and when a signal ends this program.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;

use crate::failure::{Failure, Outcome, Trying, read};
use crate::folder;

/// Those that run; a signal ends them.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Lets SIGINT, SIGTERM and SIGHUP end the children before this program. To be called before there
/// are other threads.
pub(crate) fn end_with_signals() -> Outcome {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().trying(|| "blocking signals".to_owned())?;
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            // Held until the end, so that nothing starts any more.
            let running = RUNNING.lock();
            for pid in running.iter() {
                send(*pid, Signal::SIGKILL);
            }
            folder::remove_all();
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}

fn send(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // One that has ended already is what is wanted.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// A running program; killed when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
}

impl Program {
    /// Starts it; what it says goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Outcome<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let out = std::fs::File::create(log).trying(|| format!("{}", log.display()))?;
        let error = out.try_clone().trying(|| format!("{}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out).stderr(error);
        hear_signals(command);
        // Under the lock, so that a signal finds it or comes before it.
        let mut running = RUNNING.lock();
        let child = command.spawn().trying(|| format!("{name} can't be started"))?;
        running.push(child.id());
        Ok(Self { child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails, with what it said last, if it has ended.
    pub(crate) fn check(&mut self, log: &Path) -> Outcome {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                let said = read(log).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(3).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                Err(Failure::Other(format!("it ended ({status}): {}", last.join(" | "))))
            }
            _ => Ok(()),
        }
    }

    /// Tells it to end, and waits until it has; it is killed when it takes longer than `patience`.
    pub(crate) fn end(mut self, patience: Duration) -> Outcome {
        send(self.child.id(), Signal::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if self.child.try_wait().trying(|| "waiting".to_owned())?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(Failure::Other(format!("it didn't end within {} s", patience.as_secs())))
    }
}

/// Has the program get the signals that are kept from this one's threads, which it would inherit: else
/// it would never hear that it is to end.
#[allow(unsafe_code)]
fn hear_signals(command: &mut Command) {
    let unblock = || SigSet::all().thread_unblock().map_err(std::io::Error::from);
    // SAFETY: between fork and exec, it makes one system call and touches no memory of others.
    unsafe { command.pre_exec(unblock) };
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        RUNNING.lock().retain(|pid| *pid != self.child.id());
    }
}
