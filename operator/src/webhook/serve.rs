//! The HTTPS server and its three routes.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use axum_server::Handle;
use axum_server::tls_rustls::{self, RustlsConfig};
use kube::runtime::reflector::store::WriterDropped;
use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio_util::sync::CancellationToken;

use super::review::{Review, Verdict};
use super::view::View;
use super::{State, answer};

/// More than the largest object that the API server stores.
const LARGEST_BODY: usize = 8 << 20;
/// How long answers that are under way at the end may take.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Why the webhook doesn't serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port can't be listened on.
    #[error("the webhook can't listen on port {port} (set another by --webhook-port): {source}")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// TLS can't be set up.
    #[error("the webhook can't set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The server ended by itself.
    #[error("the webhook's server ended: {0}")]
    Serve(#[source] io::Error),
    /// The watches ended by themselves.
    #[error("the webhook's watches ended: {0}")]
    Watch(#[from] WriterDropped),
}

/// Serves from when there is a certificate and the cluster is known until `stop`.
pub async fn run(state: State, stop: CancellationToken) -> Result<(), Error> {
    let (view, keep) = View::new(state.client.clone());
    let serve = async {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            known = async { state.resolver.present().await; view.ready().await } => known?,
        }
        let port = state.port;
        let listener = listen(port).map_err(|source| Error::Listen { port, source })?;
        serve(&state, view, listener, &stop).await
    };
    tokio::select! {
        outcome = serve => outcome,
        () = keep => Ok(()),
    }
}

/// Listens on all addresses, of both families where the machine has both.
fn listen(port: u16) -> io::Result<TcpListener> {
    let any =
        [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), (Ipv4Addr::UNSPECIFIED, port).into()];
    TcpListener::bind(any.as_slice())
}

pub(super) async fn serve(
    state: &State,
    view: View,
    listener: TcpListener,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(state.resolver.clone()));
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let handle = Handle::new();
    let app = router(state, &view, stop);
    let server = tls_rustls::from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(tls)))
        .map_err(Error::Serve)?
        .http1_only()
        .handle(handle.clone())
        .serve(app.into_make_service());
    state.ready.store(true, Ordering::Relaxed);
    tracing::info!(port = state.port, "the webhook serves");
    let end = async {
        stop.cancelled().await;
        state.ready.store(false, Ordering::Relaxed);
        tokio::time::sleep(state.linger).await;
        handle.graceful_shutdown(Some(LAST_ANSWERS));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = server => outcome.map_err(Error::Serve),
        () = end => Ok(()),
    }
}

fn router(state: &State, view: &View, stop: &CancellationToken) -> Router {
    let pods = |by_namespace: bool| {
        let (state, view) = (state.clone(), view.clone());
        post(move |body: Json<Review>| async move {
            let answer = answer::pod(&state, &view, by_namespace, &body.request).await;
            reply(&state, &body, answer)
        })
    };
    let jobs = {
        let state = state.clone();
        post(move |body: Json<Review>| async move {
            let answer = answer::job(&body.request.object);
            reply(&state, &body, answer)
        })
    };
    let stop = stop.clone();
    // A connection isn't kept once the end is near, so that the next request goes elsewhere.
    let close = move |request: Request, next: Next| {
        let stop = stop.clone();
        async move {
            let mut response = next.run(request).await;
            if stop.is_cancelled() {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    };
    Router::new()
        .route("/pods/by-label", pods(false))
        .route("/pods/by-namespace", pods(true))
        .route("/jobs", jobs)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn(close))
}

fn reply(state: &State, body: &Review, (result, verdict): (&'static str, Verdict)) -> Response {
    state.injections.with_label_values(&[result]).inc();
    match verdict.response(&body.request.uid) {
        Ok(body) => Json(body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
