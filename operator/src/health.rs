//! `/metrics`, `/healthz` and `/readyz` on plain HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// What readiness depends on.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// Requests for admission are answered.
    pub webhook: Arc<AtomicBool>,
    /// The API server was read: by the leader all that it watches, by another the Lease.
    pub watches: Arc<AtomicBool>,
}

impl Ready {
    fn answer(&self) -> (StatusCode, &'static str) {
        if !self.webhook.load(Ordering::Relaxed) {
            (StatusCode::SERVICE_UNAVAILABLE, "the webhook isn't serving yet\n")
        } else if !self.watches.load(Ordering::Relaxed) {
            (StatusCode::SERVICE_UNAVAILABLE, "the API server couldn't be read yet\n")
        } else {
            (StatusCode::OK, "ok\n")
        }
    }
}

/// Serves until `stop`.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    ready: Ready,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { ready.answer() }))
        .route("/metrics", get(move || async move { exposition(&metrics) }));
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn exposition(metrics: &Metrics) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_ready_when_the_webhook_serves_and_the_watches_run() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (ready, stop) = (Ready::default(), CancellationToken::new());
        let metrics = Metrics::new().unwrap();
        metrics.leader.set(1);
        let server = tokio::spawn(serve(listener, metrics, ready.clone(), stop.clone()));
        let status = async |path: &str| {
            let response = reqwest::get(format!("{base}{path}")).await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        };
        assert_eq!(status("/healthz").await.0, 200);
        assert_eq!(status("/readyz").await.0, 503);
        ready.webhook.store(true, Ordering::Relaxed);
        assert_eq!(status("/readyz").await.0, 503);
        ready.watches.store(true, Ordering::Relaxed);
        assert_eq!(status("/readyz").await.0, 200);
        assert!(status("/metrics").await.1.contains("warp_operator_leader 1"));
        stop.cancel();
        server.await.unwrap().unwrap();
    }
}
