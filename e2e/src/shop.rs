//! A shop: two unmodified applications of two pods each, a WarpCluster, its storage and its
//! policies, as `e2e/manifests` describes them.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use warp_crds::{WarpCluster, WarpPolicy, conditions};

use crate::app::App;
use crate::command::{apply, kubectl};
use crate::fixture::{Fixture, explain};
use crate::pods::{carries_sidecar, containers, is_ready};
use crate::wait::eventually;
use crate::{Outcome, ensure};

/// The WarpCluster's name.
pub const CLUSTER: &str = "shop";
/// Pods of both applications.
pub const PODS: usize = 4;
/// Storage, bus and pods start in about 20 s; a busy machine gets minutes.
const PATIENCE: Duration = Duration::from_mins(3);

/// What is behind the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
}

/// See the module.
#[derive(Clone)]
pub struct Shop {
    /// Its namespace.
    pub namespace: String,
    /// The API server.
    pub client: Client,
}

impl std::fmt::Debug for Shop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shop").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Runs a test in a shop of its own. If it fails, the shop stays, and what helps to see why is
/// printed.
pub async fn in_a_shop(
    topic: &str,
    store: Store,
    test: impl AsyncFnOnce(&Shop) -> Outcome,
) -> Outcome {
    let fixture = Fixture::new().await?;
    let namespace = fixture.namespace(topic).await?;
    let shop = Shop { namespace, client: fixture.client.clone() };
    let outcome = match shop.furnish(store).await {
        Ok(()) => Box::pin(test(&shop)).await,
        Err(failure) => Err(failure.within("making the shop")),
    };
    match outcome {
        Ok(()) => fixture.delete_namespaces().await,
        Err(failure) => {
            eprintln!("{}", explain(&shop.namespace).await);
            Err(failure)
        }
    }
}

impl Shop {
    async fn furnish(&self, store: Store) -> Outcome {
        let manifests = match store {
            Store::Postgres => ["postgres.yaml", "cluster-postgres.yaml"],
            Store::Redis => ["redis.yaml", "cluster-redis.yaml"],
        };
        for manifest in manifests.into_iter().chain(["policy.yaml", "apps.yaml"]) {
            apply(&self.namespace, manifest).await?;
        }
        Ok(())
    }

    /// Annotates the applications and waits until their pods are back with sidecars and all is
    /// ready; gives the pods.
    pub async fn inject(&self) -> Outcome<Vec<App>> {
        let annotate = ["annotate", "deployment", "demo-python", "demo-node"];
        kubectl(
            &[&["-n", &self.namespace], &annotate[..], &["warpcache.dev/inject=enabled"]].concat(),
        )
        .await?;
        let apps = self.apps().await?;
        self.ready().await?;
        Ok(apps)
    }

    /// The applications' pods, once there are just those there should be, all of them ready and
    /// with a sidecar.
    pub async fn apps(&self) -> Outcome<Vec<App>> {
        eventually("4 ready pods of the applications, each with a sidecar", PATIENCE, async || {
            let pods = self.pods().await?;
            ensure!(pods.len() == PODS, "{}", describe(&pods));
            ensure!(pods.iter().all(|p| is_ready(p) && carries_sidecar(p)), "{}", describe(&pods));
            pods.iter().map(App::new).collect()
        })
        .await
    }

    /// The applications' pods, whatever their state.
    pub async fn pods(&self) -> Outcome<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(pods.list(&ListParams::default().labels("part-of=shop")).await?.items)
    }

    /// Waits, as a person would, until the WarpCluster says that it is ready, and then until all its
    /// sidecars are current, those of the applications among them.
    pub async fn ready(&self) -> Outcome {
        let wait = ["wait", "--for=condition=Ready", "warpcluster/shop", "--timeout=180s"];
        kubectl(&[&["-n", &self.namespace], &wait[..]].concat()).await?;
        let running = i32::try_from(PODS)?;
        self.cluster_shows("all sidecars of the WarpCluster are current", PATIENCE, |cluster| {
            cluster.status.as_ref().is_some_and(|status| {
                conditions::is_true(&status.conditions, conditions::SIDECARS_CURRENT)
                    && status.sidecars.running >= running
                    && status.sidecars.current == status.sidecars.running
            })
        })
        .await
    }

    /// Waits until the WarpCluster is as described.
    pub async fn cluster_shows(
        &self,
        what: &str,
        within: Duration,
        expected: impl Fn(&WarpCluster) -> bool,
    ) -> Outcome {
        eventually(what, within, async || {
            let cluster = self.cluster().await?;
            ensure!(expected(&cluster), "{:?}", cluster.status);
            Ok(())
        })
        .await
    }

    /// The WarpCluster.
    pub async fn cluster(&self) -> Outcome<WarpCluster> {
        let api: Api<WarpCluster> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(api.get(CLUSTER).await?)
    }

    /// A WarpPolicy.
    pub async fn policy(&self, name: &str) -> Outcome<WarpPolicy> {
        let api: Api<WarpPolicy> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(api.get(name).await?)
    }

    /// Merges a JSON patch into a WarpPolicy.
    pub async fn patch_policy(&self, name: &str, patch: &str) -> Outcome {
        let patch = ["patch", "warppolicy", name, "--type=merge", "-p", patch];
        kubectl(&[&["-n", &self.namespace], &patch[..]].concat()).await.map(drop)
    }

    /// The answer of PostgreSQL to a statement, as plain text.
    pub async fn sql(&self, statement: &str) -> Outcome<String> {
        kubectl(&["-n", &self.namespace, "exec", "postgres-0", "--", "psql", "-qtAc", statement])
            .await
    }

    /// Restarts of all containers of the applications' pods, sidecars included.
    pub async fn restarts(&self) -> Outcome<i32> {
        let pods = self.pods().await?;
        Ok(pods.iter().flat_map(containers).map(|status| status.restart_count).sum())
    }
}

fn describe(pods: &[Pod]) -> String {
    let one = |pod: &Pod| {
        let (ready, sidecar) = (is_ready(pod), carries_sidecar(pod));
        format!("{} (ready {ready}, sidecar {sidecar})", pod.name_any())
    };
    format!("{} pods: {}", pods.len(), pods.iter().map(one).collect::<Vec<_>>().join(", "))
}
