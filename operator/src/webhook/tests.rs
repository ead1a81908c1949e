//! The webhook as the API server meets it: over TLS, with watches that may be behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{Request, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ObjectMeta, PartialObjectMeta};
use kube::client::Body;
use kube::core::{DeserializeGuard, PartialObjectMetaExt};
use kube::runtime::reflector::store;
use kube::runtime::watcher::Event;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower_test::mock;
use warp_crds::{WarpCluster, WarpClusterSpec, names};

use super::review::{Request as Admission, Verdict};
use super::view::View;
use super::{State, answer, serve};
use crate::certs::{Resolver, testing};
use crate::inject::Settings;

const HOST: &str = "webhook.test";

type ApiServer = mock::Handle<Request<Body>, Response<Body>>;

fn cluster(namespace: &str) -> WarpCluster {
    let mut cluster = WarpCluster::new("main", WarpClusterSpec::default());
    cluster.metadata.namespace = Some(namespace.to_owned());
    cluster
}

fn namespace(inject: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some("shop".to_owned()),
        labels: inject.map(|value| [(names::INJECT.to_owned(), value.to_owned())].into()),
        ..Default::default()
    }
}

/// A webhook that has seen these by its watches, and the API server that it may ask.
fn webhook(clusters: Vec<WarpCluster>, namespaces: Vec<ObjectMeta>) -> (State, View, ApiServer) {
    let (service, api_server) = mock::pair();
    let client = kube::Client::new(service, "default");
    let settings = Settings {
        operator_namespace: "warp-system".to_owned(),
        excluded_namespaces: Vec::new(),
        sidecar_image: "warp-sidecar:1".to_owned(),
        image_pull_policy: None,
    };
    let registry = prometheus::Registry::new();
    let state = State::new(client.clone(), Resolver::default(), 0, settings, &registry).unwrap();
    let (clusters_seen, mut writer) = store();
    for cluster in clusters {
        writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(cluster))));
    }
    let (namespaces_seen, mut writer) = store();
    for namespace in namespaces {
        let namespace: PartialObjectMeta<Namespace> = namespace.into_response_partial();
        writer.apply_watcher_event(&Event::Apply(namespace));
    }
    (state, View { client, clusters: clusters_seen, namespaces: namespaces_seen }, api_server)
}

fn admission(label: Option<&str>) -> Value {
    let mut pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "app"}]}});
    if let Some(label) = label {
        pod["metadata"]["labels"] = json!({(names::INJECT): label});
    }
    json!({"request": {"uid": "7", "namespace": "shop", "object": pod}})
}

fn request(label: Option<&str>) -> Admission {
    serde_json::from_value(admission(label)["request"].take()).unwrap()
}

/// Answers the API server's next question.
async fn reply(api_server: &mut ApiServer, path: &str, body: Value) {
    let (request, respond) = api_server.next_request().await.unwrap();
    assert_eq!(request.uri().path(), path);
    respond.send_response(Response::new(Body::from(serde_json::to_vec(&body).unwrap())));
}

#[tokio::test]
async fn a_namespace_whose_label_was_not_seen_yet_is_asked_for() {
    let (state, view, mut api_server) = webhook(vec![cluster("shop")], vec![namespace(None)]);
    let question = request(None);
    let now = serde_json::to_value(namespace(Some("enabled"))).unwrap();
    let body =
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": now});
    let ((result, verdict), ()) = tokio::join!(
        answer::pod(&state, &view, true, &question),
        reply(&mut api_server, "/api/v1/namespaces/shop", body)
    );
    assert_eq!(result, "injected");
    assert!(matches!(verdict, Verdict::Admit(patch, _) if !patch.0.is_empty()));
}

#[tokio::test]
async fn a_cluster_that_was_not_seen_yet_is_asked_for_before_a_pod_is_denied() {
    for (clusters, expected) in [(vec![cluster("shop")], "injected"), (vec![], "denied")] {
        let (state, view, mut api_server) = webhook(vec![], vec![namespace(None)]);
        let question = request(Some("enabled"));
        let list = json!({
            "apiVersion": "warpcache.dev/v1alpha1",
            "kind": "WarpClusterList",
            "metadata": {},
            "items": clusters,
        });
        let ((result, _), ()) = tokio::join!(
            answer::pod(&state, &view, false, &question),
            reply(&mut api_server, "/apis/warpcache.dev/v1alpha1/warpclusters", list)
        );
        assert_eq!(result, expected);
    }
}

#[tokio::test]
async fn what_is_known_is_answered_without_the_api_server() {
    let (state, view, api_server) =
        webhook(vec![cluster("shop")], vec![namespace(Some("enabled"))]);
    drop(api_server);
    for (by_namespace, label, expected) in [
        (true, None, "injected"),
        (false, Some("enabled"), "injected"),
        (true, Some("disabled"), "skipped"),
    ] {
        let (result, _) = answer::pod(&state, &view, by_namespace, &request(label)).await;
        assert_eq!(result, expected);
    }
}

#[tokio::test]
async fn a_pod_is_kept_out_only_if_it_asks_itself_and_told_why_always() {
    let (state, view, api_server) =
        webhook(vec![cluster("shop")], vec![namespace(Some("enabled"))]);
    drop(api_server);
    let taken = |label: Option<&str>| {
        let mut request = request(label);
        request.object["metadata"]["annotations"] = json!({(names::CLUSTER): "a/b/c"});
        request
    };
    let (result, verdict) = answer::pod(&state, &view, false, &taken(Some("enabled"))).await;
    let Verdict::Deny(message) = verdict else { panic!("{verdict:?}") };
    assert_eq!(result, "denied");
    assert!(message.contains("write NAME or NAMESPACE/NAME"), "{message}");
    let (result, verdict) = answer::pod(&state, &view, true, &taken(None)).await;
    assert_eq!(result, "warned");
    assert_eq!(verdict, Verdict::Admit(json_patch::Patch::default(), vec![message]));
}

#[test]
fn an_answer_is_written_as_the_api_describes_it() {
    let job = json!({
        "metadata": {"annotations": {(names::INJECT): "enabled"}},
        "spec": {"template": {"metadata": {"labels": {}}}},
    });
    let (_, verdict) = answer::job(&job);
    let body = verdict.response("7").unwrap();
    assert_eq!(body["response"]["uid"], "7");
    assert_eq!(body["response"]["patchType"], "JSONPatch");
    let patch = STANDARD.decode(body["response"]["patch"].as_str().unwrap()).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&patch).unwrap(),
        json!([{
            "op": "add",
            "path": "/spec/template/metadata/labels/warpcache.dev~1inject",
            "value": "enabled",
        }])
    );
    let body = Verdict::Deny("no".to_owned()).response("8").unwrap();
    assert_eq!(body["response"]["allowed"], false);
    assert_eq!(body["response"]["status"]["message"], "no");
}

/// A connection of an API server that trusts `roots`.
fn connect(
    address: SocketAddr,
    roots: &[CertificateDer<'static>],
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut trusted = RootCertStore::empty();
    for root in roots {
        trusted.add(root.clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let connection = ClientConnection::new(config.into(), HOST.try_into().unwrap()).unwrap();
    StreamOwned::new(connection, TcpStream::connect(address).unwrap())
}

/// One request and its whole response.
fn exchange(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> String {
    let body = admission(None).to_string();
    let head = format!(
        "POST /pods/by-label HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut response = String::new();
    let mut buffer = [0; 4096];
    // The answer is small JSON, which ends where its braces do.
    while !response.ends_with("}}") {
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "closed after {response:?}");
        response.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    response
}

fn served_leaf(stream: &StreamOwned<ClientConnection, TcpStream>) -> CertificateDer<'static> {
    stream.conn.peer_certificates().unwrap()[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_certificates_are_rotated_nor_at_the_end() {
    let (mut state, view, _api_server) = webhook(vec![], vec![namespace(None)]);
    state.linger = std::time::Duration::from_millis(200);
    let (first_root, first) = testing::issued(HOST);
    let (second_root, second) = testing::issued(HOST);
    let second_leaf = second.cert[0].clone();
    state.resolver.publish(first);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = {
        let (state, stop) = (state.clone(), stop.clone());
        tokio::spawn(async move { serve::serve(&state, view, listener, &stop).await })
    };

    let trusted = Mutex::new(vec![first_root]);
    let answered = AtomicUsize::new(0);
    let rotated = CancellationToken::new();
    let ask = |kept: bool| {
        let mut stream = None;
        loop {
            let last = rotated.is_cancelled();
            let roots = trusted.lock().unwrap().clone();
            let stream = stream.get_or_insert_with(|| connect(address, &roots));
            let response = exchange(stream);
            assert!(response.starts_with("HTTP/1.1 200"), "{response}");
            answered.fetch_add(1, Ordering::Relaxed);
            if last {
                return served_leaf(stream);
            }
            if !kept {
                *stream = connect(address, &trusted.lock().unwrap().clone());
            }
        }
    };
    let until = |count: usize| {
        while answered.load(Ordering::Relaxed) < count {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let kept = scope.spawn(|| ask(true));
            let fresh = scope.spawn(|| ask(false));
            until(20);
            trusted.lock().unwrap().push(second_root);
            until(40);
            state.resolver.publish(second);
            until(answered.load(Ordering::Relaxed) + 20);
            rotated.cancel();
            assert_ne!(kept.join().unwrap(), second_leaf, "a connection keeps its certificate");
            assert_eq!(fresh.join().unwrap(), second_leaf);
        });
        // Until the Service's endpoints have forgotten this replica, requests still come.
        let roots = trusted.lock().unwrap().clone();
        let mut stream = connect(address, &roots);
        stop.cancel();
        let response = exchange(&mut stream).to_ascii_lowercase();
        assert!(response.contains("connection: close"), "{response}");
        assert!(!state.ready.load(Ordering::Relaxed));
    });
    server.await.unwrap().unwrap();
}
