//! The one installation of the chart that all tests share, and the namespaces they work in.
//!
//! The first test installs the chart, or brings an installation that is there up to date. Each test
//! has a namespace of its own, `e2e-` and a topic, and there is one at a time, so that a small
//! machine carries it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};
use tokio::sync::OnceCell;

use crate::command::{apply_text, helm, kubectl, repository, with_image_prefix};
use crate::wait::eventually;
use crate::{Failure, Outcome};

/// The namespace of the operator.
pub const SYSTEM: &str = "warp-system";
/// The Helm release.
pub const RELEASE: &str = "warp";
/// What the tests' namespaces begin with.
const PREFIX: &str = "e2e-";
/// Installing, and the end of a namespace, take seconds; a busy machine gets minutes.
const PATIENCE: Duration = Duration::from_mins(3);

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// A cluster with Warp on it.
#[derive(Clone)]
pub struct Fixture {
    /// The API server.
    pub client: Client,
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fixture")
    }
}

impl Fixture {
    /// Connects to the cluster of `KUBECONFIG` and sees to it that Warp is installed.
    pub async fn new() -> Outcome<Self> {
        if std::env::var_os("KUBECONFIG").is_none() {
            return Err(Failure::new(
                "KUBECONFIG is not set: run these tests by `make e2e`, which brings a cluster up",
            ));
        }
        // A client belongs to the runtime of its test, the installation to the whole run.
        let client = Client::try_default().await?;
        INSTALLED.get_or_try_init(install).await?;
        Ok(Self { client })
    }

    /// A new namespace for a topic, under the `restricted` Pod Security Standard; those of other
    /// topics are on their way out.
    pub async fn namespace(&self, topic: &str) -> Outcome<String> {
        let name = format!("{PREFIX}{topic}");
        self.delete_namespaces().await?;
        let api: Api<Namespace> = Api::all(self.client.clone());
        eventually(&format!("an earlier namespace {name} is gone"), PATIENCE, async || {
            match api.get_opt(&name).await? {
                None => Ok(()),
                Some(left) => Err(Failure::new(format!("{:?}", left.status))),
            }
        })
        .await?;
        apply_text(
            "default",
            &format!(
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    \
                 pod-security.kubernetes.io/enforce: restricted\n"
            ),
        )
        .await?;
        Ok(name)
    }

    /// Asks for the end of all the tests' namespaces.
    pub async fn delete_namespaces(&self) -> Outcome {
        let api: Api<Namespace> = Api::all(self.client.clone());
        for name in self.namespaces().await? {
            if let Err(error) = api.delete(&name, &DeleteParams::default()).await
                && !error.to_string().contains("not found")
            {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// The tests' namespaces that exist.
    pub async fn namespaces(&self) -> Outcome<Vec<String>> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let all = api.list(&ListParams::default()).await?;
        Ok(all.iter().map(ResourceExt::name_any).filter(|n| n.starts_with(PREFIX)).collect())
    }
}

async fn install() -> Outcome {
    let values = std::fs::read_to_string(repository("e2e/manifests/values.yaml"))?;
    let file = std::env::temp_dir().join(format!("warp-e2e-values-{}.yaml", std::process::id()));
    std::fs::write(&file, with_image_prefix(&values))?;
    let (chart, file_name) = (repository("charts/warp"), file.to_string_lossy().into_owned());
    let was_there = helm(&["-n", SYSTEM, "status", RELEASE]).await.is_ok();
    let installed = helm(&[
        "upgrade",
        "--install",
        RELEASE,
        &chart.to_string_lossy(),
        "-n",
        SYSTEM,
        "--create-namespace",
        "-f",
        &file_name,
        "--wait",
        "--timeout",
        "180s",
    ])
    .await;
    std::fs::remove_file(&file)?;
    if let Err(failure) = installed {
        eprintln!("{}", explain(SYSTEM).await);
        return Err(failure.within("installing the chart"));
    }
    if was_there {
        // The images' tag may be the same and their content another.
        kubectl(&["-n", SYSTEM, "rollout", "restart", "deployment"]).await?;
        kubectl(&["-n", SYSTEM, "rollout", "status", "deployment", "--timeout=180s"]).await?;
    }
    Ok(())
}

/// What helps to see why something in a namespace didn't go as expected.
pub async fn explain(namespace: &str) -> String {
    let logs = ["logs", "--all-containers", "--ignore-errors", "--prefix", "--tail=40"];
    let operator =
        [&["-n", SYSTEM], logs.as_slice(), &["-l", "app.kubernetes.io/name=warp"]].concat();
    let sidecars = [
        &["-n", namespace],
        &["logs", "-c", "warp-sidecar", "--ignore-errors", "--prefix", "--tail=20"][..],
        &["-l", "warpcache.dev/cluster-name", "--max-log-requests=20"],
    ]
    .concat();
    let mut lines = Vec::new();
    for arguments in [
        &["-n", namespace, "get", "pods,warpclusters,warppolicies", "-o", "wide"][..],
        &["-n", namespace, "get", "warpclusters,warppolicies", "-o", "jsonpath={.items[*].status}"],
        &["-n", namespace, "events", "--types=Warning"],
        &operator,
        &sidecars,
    ] {
        let said = kubectl(arguments).await.unwrap_or_else(|failure| failure.to_string());
        lines.push(format!("--- kubectl {}\n{said}", arguments.join(" ")));
    }
    lines.join("\n")
}
