//! Writes and reads that go on while something else happens to the cluster.
//!
//! Each pod writes keys of its own and reads everyone's, at a pace that leaves the machine time for
//! the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::app::{Answer, App};
use crate::history::{History, Read, Write};
use crate::{Failure, Outcome};

/// Keys that each pod writes.
const KEYS: u64 = 3;
/// Between two writes of a pod.
const WRITE_PACE: Duration = Duration::from_millis(60);
/// Between two reads of a pod.
const READ_PACE: Duration = Duration::from_millis(15);

/// Traffic on the pods of a shop.
#[derive(Debug)]
pub struct Traffic {
    started: Instant,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<History>>,
    apps: Vec<App>,
}

impl Traffic {
    /// Writes every key once, then starts.
    pub async fn start(apps: &[App]) -> Outcome<Self> {
        let started = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        let mut first = History::default();
        let keys: Vec<String> =
            apps.iter().flat_map(|app| (0..KEYS).map(|n| key_of(app, n))).collect();
        for app in apps {
            for n in 0..KEYS {
                first.record_write(app, key_of(app, n), 0, started).await;
            }
        }
        if let Some(failure) = first.failures.first() {
            return Err(Failure::new(failure.clone()));
        }
        tasks.push(tokio::spawn(async move { first }));
        for app in apps {
            tasks.push(tokio::spawn(write(app.clone(), started, Arc::clone(&stop))));
            tasks.push(tokio::spawn(read(app.clone(), keys.clone(), started, Arc::clone(&stop))));
        }
        Ok(Self { started, stop, tasks, apps: apps.to_vec() })
    }

    /// The time since the start, by the clock of the history.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the traffic, reads every key once more in every pod, and gives all that happened.
    pub async fn stop(self) -> Outcome<History> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = History::default();
        for task in self.tasks {
            let part = task.await?;
            all.writes.extend(part.writes);
            all.reads.extend(part.reads);
            all.failures.extend(part.failures);
        }
        for reader in &self.apps {
            for writer in &self.apps {
                for n in 0..KEYS {
                    all.record_read(reader, key_of(writer, n), self.started).await;
                }
            }
        }
        Ok(all)
    }
}

fn key_of(app: &App, n: u64) -> String {
    format!("product:{}:{n}", app.pod)
}

async fn write(app: App, started: Instant, stop: Arc<AtomicBool>) -> History {
    let mut history = History::default();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let (key, value) = (key_of(&app, count % KEYS), count / KEYS + 1);
        history.record_write(&app, key, value, started).await;
        count += 1;
        tokio::time::sleep(WRITE_PACE).await;
    }
    history
}

async fn read(app: App, keys: Vec<String>, started: Instant, stop: Arc<AtomicBool>) -> History {
    let mut history = History::default();
    for key in keys.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        history.record_read(&app, key.clone(), started).await;
        tokio::time::sleep(READ_PACE).await;
    }
    history
}

impl History {
    async fn record_write(&mut self, app: &App, key: String, value: u64, started: Instant) {
        let sent = started.elapsed();
        let answer = app.try_set(&key, &value.to_string()).await;
        let acknowledged = self.succeeded("SET", app, &key, answer, started);
        self.writes.push(Write {
            pod: app.pod.clone(),
            key,
            value,
            sent,
            acknowledged: acknowledged.map(|_| started.elapsed()),
        });
    }

    async fn record_read(&mut self, app: &App, key: String, started: Instant) {
        let began = started.elapsed();
        let answer = app.try_get(&key).await;
        let Some(answer) = self.succeeded("GET", app, &key, answer, started) else { return };
        self.reads.push(Read {
            pod: app.pod.clone(),
            key,
            value: answer.body["value"].as_str().and_then(|value| value.parse().ok()),
            began,
            ended: started.elapsed(),
        });
    }

    fn succeeded(
        &mut self,
        what: &str,
        app: &App,
        key: &str,
        answer: Outcome<Answer>,
        started: Instant,
    ) -> Option<Answer> {
        let said = match answer {
            Ok(answer) if answer.status == 200 => return Some(answer),
            Ok(answer) => format!("{}: {}", answer.status, answer.body),
            Err(failure) => failure.to_string(),
        };
        let at = started.elapsed().as_secs_f64();
        self.failures.push(format!("at {at:.3} s {what} {key} in {}: {said}", app.pod));
        None
    }
}
