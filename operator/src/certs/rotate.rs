//! Carries out what [`super::plan`] decides, and publishes the Secret's leaf to the server.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use warp_crds::names;

use super::pki::{self, PkiError};
use super::store::Stored;
use super::{Action, Bundle, Leaf, Mode, Present, Settings, plan};
use crate::fault::Fault;

/// How long API servers may take at most to notice a new `caBundle`.
const LONGEST_SETTLE: Duration = Duration::from_secs(10);
/// Pause after a failed write, and the longest between two looks at the clock.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Why a step of the rotation failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("the API server refused: {0}")]
    Api(#[source] Box<kube::Error>),
}

impl From<kube::Error> for StepError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

/// Keeps the certificates until `stop`: writes as long as `leader` says so, and publishes to
/// `settings.resolver` always.
pub async fn run(
    client: Client,
    settings: Settings,
    mut leader: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let (mut secrets, mut hooks) = watches(&client, &settings);
    let mut rotation = Rotation::new(client, settings);
    let mut wake = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(event) = secrets.next() => rotation.secret_seen(event),
            Some(event) = hooks.next() => rotation.configuration_seen(event),
            changed = leader.changed() => if changed.is_err() { return },
            () = sleep_until(wake) => {}
        }
        wake = Instant::now() + LONGEST_WAIT;
        if *leader.borrow_and_update() {
            wake = Instant::now() + rotation.work().await;
        }
    }
}

type Watch<K> = BoxStream<'static, watcher::Result<Option<K>>>;

fn watches(
    client: &Client,
    settings: &Settings,
) -> (Watch<Secret>, Watch<MutatingWebhookConfiguration>) {
    let secrets = Api::namespaced(client.clone(), &settings.namespace);
    let secrets = watcher::watch_object(secrets, &settings.secret).default_backoff().boxed();
    let hooks = if settings.mode == Mode::Operator {
        let hooks = Api::all(client.clone());
        watcher::watch_object(hooks, &settings.webhook_configuration).default_backoff().boxed()
    } else {
        stream::pending().boxed()
    };
    (secrets, hooks)
}

/// An object as last seen.
#[derive(Clone)]
enum Seen<K> {
    /// It wasn't read yet.
    NotYet,
    /// So it is, if it is.
    As(Option<K>),
}

struct Rotation {
    client: Client,
    settings: Settings,
    secret: Seen<Secret>,
    configuration: Seen<MutatingWebhookConfiguration>,
    /// What is trusted, and since when it was seen in the configuration.
    published: Option<(String, Timestamp)>,
    /// What the resolver has.
    served: Option<String>,
    reading_secret: Fault,
    reading_configuration: Fault,
    serving: Fault,
    writing: Fault,
}

impl Rotation {
    fn new(client: Client, settings: Settings) -> Self {
        Self {
            client,
            settings,
            secret: Seen::NotYet,
            configuration: Seen::NotYet,
            published: None,
            served: None,
            reading_secret: Fault::new("watching the webhook's Secret"),
            reading_configuration: Fault::new("watching the webhook's configuration"),
            serving: Fault::new("using the certificate in the webhook's Secret"),
            writing: Fault::new("keeping the webhook's certificates"),
        }
    }

    fn secret_seen(&mut self, event: watcher::Result<Option<Secret>>) {
        if let Some(secret) = self.reading_secret.check(event) {
            self.serve(secret.as_ref());
            self.secret = Seen::As(secret);
        }
    }

    fn configuration_seen(&mut self, event: watcher::Result<Option<MutatingWebhookConfiguration>>) {
        if let Some(configuration) = self.reading_configuration.check(event) {
            self.configuration = Seen::As(configuration);
        }
    }

    /// Publishes a leaf that isn't served yet. One that can't be used leaves the last one served.
    fn serve(&mut self, secret: Option<&Secret>) {
        let Some(leaf) = secret.and_then(|secret| Stored::read(secret).leaf) else { return };
        if self.served.as_ref() == Some(&leaf.certificate) {
            return;
        }
        if let Some(certified) = self.serving.check(pki::certified(&leaf)) {
            self.settings.resolver.publish(certified);
            self.served = Some(leaf.certificate);
            tracing::info!(secret = self.settings.secret, "serving a new certificate");
        }
    }

    /// Does what is to be done, as far as it is known; how long to wait for the next time.
    async fn work(&mut self) -> Duration {
        loop {
            let (Seen::As(secret), Seen::As(configuration)) =
                (self.secret.clone(), self.configuration.clone())
            else {
                return LONGEST_WAIT;
            };
            let now = Timestamp::now();
            let stored = secret.as_ref().map(Stored::read).unwrap_or_default();
            let present = self.present(now, &stored, configuration.as_ref());
            let settle = LONGEST_SETTLE.min(self.settings.cert_lifetime / 10);
            let done = match plan(now, &present, settle) {
                Action::Wait(until) => {
                    self.writing.over();
                    let wait = Duration::try_from(until.duration_since(now)).unwrap_or_default();
                    return wait.clamp(Duration::from_millis(100), LONGEST_WAIT);
                }
                Action::RenewAuthority => {
                    self.renew_authority(now, secret.as_ref(), stored, configuration.as_ref()).await
                }
                Action::RenewLeaf => self.renew_leaf(now, secret.as_ref(), stored).await,
                Action::Publish => match &configuration {
                    Some(configuration) => self.publish(configuration, &stored).await,
                    None => Ok(()),
                },
            };
            match done {
                Ok(()) => {}
                // Another replica led until just now; its write comes by the watch.
                Err(StepError::Api(error)) if conflicts(&error) => return RETRY,
                Err(error) => {
                    self.writing.met(&error);
                    return RETRY;
                }
            }
        }
    }

    fn present(
        &mut self,
        now: Timestamp,
        stored: &Stored,
        configuration: Option<&MutatingWebhookConfiguration>,
    ) -> Present {
        let authority = stored.authority();
        let leaf = stored.leaf.as_ref().and_then(|leaf| {
            Some(Leaf {
                lifetime: *pki::lifetimes(&leaf.certificate).first()?,
                fitting: pki::certified(leaf).is_ok()
                    && pki::fits(&leaf.certificate, &stored.trusted, &self.names()),
            })
        });
        Present {
            authority: authority.and_then(|ca| pki::lifetimes(&ca.certificate).first().copied()),
            leaf,
            bundle: self.bundle(now, &stored.trusted, configuration),
        }
    }

    fn bundle(
        &mut self,
        now: Timestamp,
        trusted: &str,
        configuration: Option<&MutatingWebhookConfiguration>,
    ) -> Bundle {
        let Some(configuration) = configuration else { return Bundle::Absent };
        let bundles = bundles(configuration);
        if bundles.is_empty() {
            return Bundle::Absent;
        }
        if bundles.iter().all(String::is_empty) {
            return Bundle::Empty;
        }
        if bundles.iter().any(|bundle| bundle != trusted) {
            return Bundle::Stale;
        }
        let since = match &self.published {
            Some((bundle, since)) if bundle == trusted => *since,
            _ => now,
        };
        self.published = Some((trusted.to_owned(), since));
        Bundle::Published(since)
    }

    async fn renew_authority(
        &mut self,
        now: Timestamp,
        secret: Option<&Secret>,
        mut stored: Stored,
        configuration: Option<&MutatingWebhookConfiguration>,
    ) -> Result<(), StepError> {
        let pair = pki::authority(now, self.settings.ca_lifetime)?;
        // If the Secret was lost, what its leaf is verified with still stands in the configuration.
        let published = configuration.map(bundles).unwrap_or_default();
        let before = published.first().filter(|_| stored.trusted.is_empty());
        let mut trusted = vec![pair.certificate];
        trusted.extend(pki::holding(before.unwrap_or(&stored.trusted), now));
        stored.trusted = trusted.concat();
        stored.authority_key = Some(pair.key);
        self.write(secret, &stored).await?;
        tracing::info!(secret = self.settings.secret, "made a new CA for the webhook");
        Ok(())
    }

    async fn renew_leaf(
        &mut self,
        now: Timestamp,
        secret: Option<&Secret>,
        mut stored: Stored,
    ) -> Result<(), StepError> {
        if let Some(authority) = stored.authority() {
            let life = self.settings.cert_lifetime;
            stored.leaf = Some(pki::leaf(&authority, &self.names(), now, life)?);
            self.write(secret, &stored).await?;
        }
        Ok(())
    }

    async fn write(&mut self, secret: Option<&Secret>, stored: &Stored) -> Result<(), StepError> {
        let name = &self.settings.secret;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let next = stored.write(name, secret, self.settings.owner.clone());
        let params = PostParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..Default::default()
        };
        let written = match secret {
            Some(_) => api.replace(name, &params, &next).await?,
            None => api.create(&params, &next).await?,
        };
        self.serve(Some(&written));
        self.secret = Seen::As(Some(written));
        Ok(())
    }

    /// Applies the `caBundle` and nothing else, so that whoever installs the configuration keeps
    /// all the rest of it.
    async fn publish(
        &mut self,
        configuration: &MutatingWebhookConfiguration,
        stored: &Stored,
    ) -> Result<(), StepError> {
        let bundle = ByteString(stored.trusted.clone().into_bytes());
        let webhooks: Vec<_> = configuration
            .webhooks
            .iter()
            .flatten()
            .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": bundle}}))
            .collect();
        let name = configuration.name_any();
        let patch = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name, "uid": configuration.metadata.uid},
            "webhooks": webhooks,
        });
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        let applied = api.patch(&name, &params, &Patch::Apply(patch)).await?;
        self.configuration = Seen::As(Some(applied));
        tracing::info!(configuration = name, "published the webhook's CA");
        Ok(())
    }

    /// What the API server may call the webhook.
    fn names(&self) -> Vec<String> {
        let Settings { service, namespace, .. } = &self.settings;
        vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ]
    }
}

/// The `caBundle` of each webhook.
fn bundles(configuration: &MutatingWebhookConfiguration) -> Vec<String> {
    let text = |bytes: &ByteString| String::from_utf8_lossy(&bytes.0).into_owned();
    let webhooks = configuration.webhooks.iter().flatten();
    webhooks
        .map(|webhook| webhook.client_config.ca_bundle.as_ref().map(text).unwrap_or_default())
        .collect()
}

fn conflicts(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::Value;
    use tower_test::mock;

    use super::super::pki::Pair;
    use super::*;

    const SECRET: &str = "/api/v1/namespaces/warp/secrets";
    const CONFIGURATION: &str =
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/warp";

    fn configuration(bundle: &str) -> MutatingWebhookConfiguration {
        let hook = |name: &str| {
            json!({
                "name": name,
                "clientConfig": {"caBundle": ByteString(bundle.as_bytes().to_vec())},
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
            })
        };
        let configuration = json!({
            "metadata": {"name": "warp", "uid": "1"},
            "webhooks": [hook("a.warpcache.dev"), hook("b.warpcache.dev")],
        });
        serde_json::from_value(configuration).unwrap()
    }

    /// What came of working once on what was seen.
    struct Worked {
        rotation: Rotation,
        wait: Duration,
        /// Method and path of each.
        writes: Vec<(Method, String)>,
    }

    /// Works once. The API server stores what it is sent, or answers with `refusal`.
    async fn work(secret: Option<Secret>, bundle: &str, refusal: Option<u16>) -> Worked {
        let (service, mut api_server) = mock::pair::<Request<Body>, Response<Body>>();
        let settings = Settings {
            mode: Mode::Operator,
            namespace: "warp".to_owned(),
            secret: "tls".to_owned(),
            owner: None,
            service: "hook".to_owned(),
            webhook_configuration: "warp".to_owned(),
            cert_lifetime: Duration::from_hours(24),
            ca_lifetime: Duration::from_hours(240),
            resolver: super::super::Resolver::default(),
        };
        let mut rotation = Rotation::new(Client::new(service, "warp"), settings);
        rotation.secret_seen(Ok(secret));
        rotation.configuration_seen(Ok(Some(configuration(bundle))));
        let mut writes = Vec::new();
        let wait = {
            let mut work = Box::pin(rotation.work());
            loop {
                tokio::select! {
                    wait = &mut work => break wait,
                    Some((request, respond)) = api_server.next_request() => {
                        writes.push((request.method().clone(), request.uri().path().to_owned()));
                        respond.send_response(stored(request, refusal).await);
                    }
                }
            }
        };
        Worked { rotation, wait, writes }
    }

    async fn stored(request: Request<Body>, refusal: Option<u16>) -> Response<Body> {
        let body = request.into_body().collect_bytes().await.unwrap();
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        // What was applied is only a part of the configuration.
        for hook in body["webhooks"].as_array_mut().into_iter().flatten() {
            hook["admissionReviewVersions"] = json!(["v1"]);
            hook["sideEffects"] = json!("None");
        }
        if let Some(code) = refusal {
            body = json!({"kind": "Status", "status": "Failure", "code": code, "metadata": {}});
        }
        let response = Response::builder().status(refusal.unwrap_or(200));
        response.body(Body::from(serde_json::to_vec(&body).unwrap())).unwrap()
    }

    impl Worked {
        fn stored(&self) -> Stored {
            let Seen::As(Some(secret)) = &self.rotation.secret else { panic!("no Secret") };
            Stored::read(secret)
        }

        fn bundles(&self) -> Vec<String> {
            let Seen::As(Some(seen)) = &self.rotation.configuration else { panic!("not seen") };
            bundles(seen)
        }

        fn writes(&self) -> Vec<String> {
            self.writes.iter().map(|(method, path)| format!("{method} {path}")).collect()
        }
    }

    #[tokio::test]
    async fn a_new_installation_serves_and_is_trusted_at_once() {
        let worked = work(None, "", None).await;
        assert_eq!(
            worked.writes(),
            [
                format!("POST {SECRET}"),
                format!("PUT {SECRET}/tls"),
                format!("PATCH {CONFIGURATION}")
            ]
        );
        let stored = worked.stored();
        assert_eq!(worked.bundles(), [stored.trusted.clone(), stored.trusted.clone()]);
        let leaf = stored.leaf.unwrap();
        let names = ["hook.warp.svc".to_owned(), "hook.warp.svc.cluster.local".to_owned()];
        assert!(pki::fits(&leaf.certificate, &stored.trusted, &names));
        worked.rotation.settings.resolver.present().await;
    }

    #[tokio::test]
    async fn a_lost_secrets_leaf_stays_trusted_until_its_successor_is() {
        let before = pki::authority(Timestamp::now(), Duration::from_hours(1)).unwrap();
        let worked = work(None, &before.certificate, None).await;
        assert_eq!(
            worked.writes(),
            [format!("POST {SECRET}"), format!("PATCH {CONFIGURATION}")],
            "the new leaf waits until the new CA is known everywhere"
        );
        assert!(worked.stored().leaf.is_none());
        assert!(worked.bundles()[0].ends_with(&before.certificate));
        assert_ne!(worked.bundles()[0], before.certificate);
        assert!(worked.wait <= LONGEST_SETTLE);
    }

    #[tokio::test]
    async fn another_replicas_write_is_not_written_over() {
        let worked = work(None, "", Some(409)).await;
        assert_eq!(worked.writes(), [format!("POST {SECRET}")]);
        assert_eq!(worked.wait, RETRY);
    }

    #[tokio::test]
    async fn a_certificate_that_cannot_be_used_leaves_the_last_one_served() {
        let mut worked = work(None, "", None).await;
        let served = worked.rotation.served.clone();
        let mut broken = worked.stored();
        broken.leaf = broken.leaf.map(|leaf| Pair { key: "no key".to_owned(), ..leaf });
        broken.leaf.as_mut().unwrap().certificate.push('\n');
        worked.rotation.secret_seen(Ok(Some(broken.write("tls", None, None))));
        assert_eq!(worked.rotation.served, served);
        worked.rotation.settings.resolver.present().await;
    }
}
