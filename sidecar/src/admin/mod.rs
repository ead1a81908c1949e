//! The HTTP port beside the data: `/metrics`, `/healthz`, `/readyz`, `/status`.
//!
//! `/healthz` says that the process turns; `/readyz` that it has a configuration and listens. Neither
//! asks the storage or the bus: a fault of theirs must not take the pod out of service, because
//! hits go on.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Runner;

/// Serves until `stop`.
pub async fn serve(
    address: SocketAddr,
    runner: Arc<Runner>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .with_state(runner);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn metrics(State(runner): State<Arc<Runner>>) -> Response {
    match runner.metrics() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(runner): State<Arc<Runner>>) -> Response {
    if runner.is_ready() {
        return "ok\n".into_response();
    }
    let why = runner.error().unwrap_or_else(|| "starting".to_owned());
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

async fn status(State(runner): State<Arc<Runner>>) -> Response {
    match runner.status() {
        Some(status) => Json(status).into_response(),
        None => ready(State(runner)).await,
    }
}
