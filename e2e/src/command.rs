//! kubectl, helm and the scripts of `e2e/cluster`, run as a person would run them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::{Failure, Outcome};

/// A path below the repository's root.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Runs kubectl; gives what it printed.
pub async fn kubectl(arguments: &[&str]) -> Outcome<String> {
    run(Path::new("kubectl"), arguments, None).await
}

/// Runs helm; gives what it printed.
pub async fn helm(arguments: &[&str]) -> Outcome<String> {
    run(Path::new("helm"), arguments, None).await
}

/// Runs a script of `e2e/cluster`, which works on the node of the local cluster.
pub async fn node_script(name: &str, arguments: &[&str]) -> Outcome<String> {
    run(&repository("e2e/cluster").join(name), arguments, None).await
}

/// Applies a file of `e2e/manifests` to a namespace.
pub async fn apply(namespace: &str, manifest: &str) -> Outcome {
    let text = std::fs::read_to_string(repository("e2e/manifests").join(manifest))
        .map_err(|error| Failure::from(error).within(manifest))?;
    apply_text(namespace, &with_image_prefix(&text)).await
}

/// Applies a text of YAML to a namespace.
pub async fn apply_text(namespace: &str, yaml: &str) -> Outcome {
    run(Path::new("kubectl"), &["-n", namespace, "apply", "-f", "-"], Some(yaml)).await.map(drop)
}

/// Images come from `IMAGE_PREFIX` where it is set, as a cluster that isn't ours needs it.
pub fn with_image_prefix(text: &str) -> String {
    match std::env::var("IMAGE_PREFIX") {
        Ok(prefix) if !prefix.is_empty() => text.replace("warp.local", &prefix),
        _ => text.to_owned(),
    }
}

async fn run(program: &Path, arguments: &[&str], input: Option<&str>) -> Outcome<String> {
    let line = format!("{} {}", program.display(), arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::from(error).within(&line))?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(text.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{line}: {}: {}", output.status, said.trim())))
}
