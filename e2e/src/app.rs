//! One pod of a demo application, spoken to over its own HTTP interface from outside the pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::Value;

use crate::sidecar::Sidecar;
use crate::{Failure, Outcome};

/// How long the application may take to answer, far more than any sidecar takes to give up on its
/// storage.
const PATIENCE: Duration = Duration::from_secs(30);

/// One pod of a demo application.
#[derive(Clone, Debug)]
pub struct App {
    /// The pod's name.
    pub pod: String,
    /// Its sidecar.
    pub sidecar: Sidecar,
    address: String,
    http: reqwest::Client,
}

/// What the application answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status: 502 when its Redis client got an error.
    pub status: u16,
    /// The JSON body.
    pub body: Value,
}

impl Answer {
    /// The text of the error that the Redis client got.
    pub fn error(&self) -> Option<&str> {
        (self.status == 502).then(|| self.body["error"].as_str()).flatten()
    }
}

impl App {
    /// The application in `pod`, which must be ready and carry a sidecar.
    pub fn new(pod: &Pod) -> Outcome<Self> {
        let name = pod.name_any();
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
        let ip = ip.ok_or_else(|| Failure::new(format!("pod {name} has no address")))?;
        // The machine's proxy settings, if any, know nothing of pods.
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        Ok(Self {
            pod: name,
            sidecar: Sidecar::new(ip, http.clone()),
            address: format!("http://{ip}:8000"),
            http,
        })
    }

    /// GET of a key.
    pub async fn get(&self, key: &str) -> Outcome<Option<String>> {
        let answer = self.try_get(key).await?;
        self.expect_success(&answer, "GET", key)?;
        Ok(answer.body["value"].as_str().map(str::to_owned))
    }

    /// SET of a key.
    pub async fn set(&self, key: &str, value: &str) -> Outcome {
        let answer = self.try_set(key, value).await?;
        self.expect_success(&answer, "SET", key)
    }

    /// GETs in a loop within the pod until `value` is read.
    pub async fn poll(&self, key: &str, value: &str, within: Duration) -> Outcome {
        let path = format!("poll?key={key}&value={value}&timeout_ms={}", within.as_millis());
        let answer = self.ask(self.http.get(self.url(&path))).await?;
        self.expect_success(&answer, "polling", key)
    }

    /// GET of a key, whatever comes of it.
    pub async fn try_get(&self, key: &str) -> Outcome<Answer> {
        self.ask(self.http.get(self.url(&format!("get?key={key}")))).await
    }

    /// SET of a key, whatever comes of it.
    pub async fn try_set(&self, key: &str, value: &str) -> Outcome<Answer> {
        self.ask(self.http.post(self.url(&format!("set?key={key}&value={value}")))).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.address)
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Outcome<Answer> {
        let response = request.send().await.map_err(|e| Failure::from(e).within(&self.pod))?;
        Ok(Answer { status: response.status().as_u16(), body: response.json().await? })
    }

    fn expect_success(&self, answer: &Answer, what: &str, key: &str) -> Outcome {
        if answer.status == 200 {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{what} {key} in {}: answered {}: {}",
            self.pod, answer.status, answer.body
        )))
    }
}
