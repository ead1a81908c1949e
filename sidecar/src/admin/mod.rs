//! The HTTP port beside the data: `/metrics`, `/healthz`, `/readyz`, `/status`.
//!
//! `/healthz` says that the process turns; `/readyz` that it has a configuration, listens, and is warmed
//! up where a start waits for that. Neither
//! asks the storage or the bus: a fault of theirs must not take the pod out of service, because
//! hits go on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
    let listener = listen(address).await?;
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .with_state(runner);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// `[::]` takes connections of both families. On a node without IPv6 it can't be had, and is then
/// IPv4's alone.
async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            let only_four = (Ipv4Addr::UNSPECIFIED, address.port());
            TcpListener::bind(only_four).await.map_err(|_| error)
        }
        bound => bound,
    }
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
    let otherwise = if runner.is_serving() { "warming up" } else { "starting" };
    let why = runner.error().unwrap_or_else(|| otherwise.to_owned());
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

async fn status(State(runner): State<Arc<Runner>>) -> Response {
    match runner.status() {
        Some(status) => Json(status).into_response(),
        None => ready(State(runner)).await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn the_unspecified_address_takes_connections_over_ipv4_too() {
        let listener = listen((Ipv6Addr::UNSPECIFIED, 0).into()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    }
}
