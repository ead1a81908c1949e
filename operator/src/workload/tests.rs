//! What is sent to the API server.

use axum::http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock;

use super::*;
use crate::inject::Marks;

type ApiServer = mock::Handle<Request<Body>, Response<Body>>;

fn api_server() -> (Client, ApiServer) {
    let (service, handle) = mock::pair();
    (Client::new(service, "default"), handle)
}

fn workload(name: &str, manager: &str) -> Value {
    json!({"metadata": {
        "name": name,
        "namespace": "shop",
        "uid": format!("uid of {name}"),
        "managedFields": [{"manager": manager, "operation": "Apply"}],
    }})
}

/// Answers the next request with `body`. Gives its method, path and query, and what it carried.
async fn answer(api_server: &mut ApiServer, body: &Value) -> (String, Value) {
    let (request, respond) = api_server.next_request().await.unwrap();
    let (parts, carried) = request.into_parts();
    let carried = carried.collect_bytes().await.unwrap();
    respond.send_response(Response::new(Body::from(serde_json::to_vec(body).unwrap())));
    (
        format!("{} {}", parts.method, parts.uri),
        serde_json::from_slice(&carried).unwrap_or_default(),
    )
}

#[tokio::test]
async fn only_the_templates_marks_are_applied_by_a_manager_of_their_own() {
    let (client, mut api_server) = api_server();
    let marks = Marks { inject: names::ENABLED, cluster: Some("infra/main".to_owned()) };
    let object = workload("nightly", "x");
    let metadata = serde_json::from_value(object["metadata"].clone()).unwrap();
    let (applied, (request, carried)) = tokio::join!(
        tend::apply::<CronJob>(&client, Kind::CronJob, &metadata, Some(&marks)),
        answer(&mut api_server, &object)
    );
    applied.unwrap();
    assert_eq!(
        request,
        "PATCH /apis/batch/v1/namespaces/shop/cronjobs/nightly?&fieldManager=warp-operator-inject"
    );
    let metadata = json!({
        "labels": {(names::INJECT): "enabled"},
        "annotations": {(names::CLUSTER): "infra/main"},
    });
    assert_eq!(
        carried,
        json!({
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "nightly", "uid": "uid of nightly"},
            "spec": {"jobTemplate": {"spec": {"template": {"metadata": metadata}}}},
        })
    );
}

#[tokio::test]
async fn cleaning_up_releases_what_was_applied_and_nothing_else() {
    let (client, mut api_server) = api_server();
    let list =
        |items: &[Value], more: &str| json!({"metadata": {"continue": more}, "items": items});
    let serve = async {
        let first = list(&[workload("theirs", "helm"), workload("ours", MANAGER)], "more");
        let (request, _) = answer(&mut api_server, &first).await;
        assert!(request.starts_with("GET /apis/apps/v1/deployments?"), "{request}");
        let (request, carried) = answer(&mut api_server, &workload("ours", MANAGER)).await;
        assert!(request.starts_with("PATCH /apis/apps/v1/namespaces/shop/deployments/ours?"));
        assert_eq!(carried.get("spec"), None, "an apply of nothing takes all away");
        let (request, _) = answer(&mut api_server, &list(&[], "")).await;
        assert!(request.contains("continue=more"), "{request}");
        for kind in ["statefulsets", "daemonsets", "cronjobs"] {
            let (request, _) = answer(&mut api_server, &list(&[], "")).await;
            assert!(request.contains(kind), "{request}");
        }
    };
    let (outcome, ()) = tokio::join!(cleanup(client), serve);
    outcome.unwrap();
}
