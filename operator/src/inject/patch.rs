//! The JSON patch (RFC 6902) that gives a pod what a [`Plan`] holds.
//!
//! Every operation adds something that isn't there, so a pod that has it all gets an empty patch:
//! the API server may ask again after other webhooks changed the pod.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Value, json};
use warp_crds::names;

use super::Plan;

/// A patch, and what the one who makes the pod should know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Injection {
    /// Empty when the pod has it all.
    pub patch: Patch,
    /// Sentences, each for itself.
    pub warnings: Vec<String>,
}

/// The patch that gives `pod`, the raw object, what `plan` holds.
pub fn inject(pod: &Value, plan: &Plan) -> Injection {
    let mut injection = Injection::default();
    injection.labels(pod, plan);
    let volumes = &pod["spec"]["volumes"];
    let missing = plan.volumes.iter().filter(|volume| !has(volumes, "name", &volume["name"]));
    injection.append(&["spec", "volumes"], volumes, missing.cloned());
    injection.containers("containers", pod, 0, plan);
    // An init container that runs before the sidecar can't reach it.
    let init = &pod["spec"]["initContainers"];
    let sidecar = list(init).position(|container| container["name"] == names::SIDECAR_CONTAINER);
    injection.containers("initContainers", pod, sidecar.map_or(0, |at| at + 1), plan);
    // Last, because it moves the positions of the other init containers.
    if sidecar.is_none() {
        injection.prepend(&["spec", "initContainers"], init, [plan.container.clone()].into_iter());
        // A sidecar that is there already was made by another plan, maybe.
        injection.hash(pod, plan);
    }
    injection
}

impl Injection {
    fn labels(&mut self, pod: &Value, plan: &Plan) {
        let labels = &pod["metadata"]["labels"];
        if !labels.is_object() {
            self.add(&["metadata", "labels"], json!({}));
        }
        for (name, value) in &plan.labels {
            if labels[*name] != *value {
                self.add(&["metadata", "labels", name], json!(value));
            }
        }
    }

    fn hash(&mut self, pod: &Value, plan: &Plan) {
        if !pod["metadata"]["annotations"].is_object() {
            self.add(&["metadata", "annotations"], json!({}));
        }
        self.add(&["metadata", "annotations", names::SIDECAR_HASH], json!(plan.hash()));
    }

    fn containers(&mut self, list_name: &str, pod: &Value, from: usize, plan: &Plan) {
        for (at, container) in list(&pod["spec"][list_name]).enumerate().skip(from) {
            let at = at.to_string();
            let env = &container["env"];
            let unset: Vec<_> =
                plan.env.iter().filter(|(name, _)| !has(env, "name", &json!(name))).collect();
            let (may_be_set, missing): (Vec<_>, Vec<_>) =
                unset.into_iter().partition(|(name, _)| may_come_from_elsewhere(container, name));
            if !may_be_set.is_empty() {
                let names: Vec<_> = may_be_set.iter().map(|(name, _)| *name).collect();
                self.warnings.push(format!(
                    "container {}: {} left alone, since envFrom may set them; point the application at {}",
                    container["name"].as_str().unwrap_or_default(),
                    names.join(", "),
                    plan.url(),
                ));
            }
            // First, so that the container's own variables can refer to them.
            let missing =
                missing.into_iter().map(|(name, value)| json!({"name": name, "value": value}));
            self.prepend(&["spec", list_name, &at, "env"], env, missing);
            let mounts = &container["volumeMounts"];
            let missing =
                plan.mount.iter().filter(|mount| !has(mounts, "mountPath", &mount["mountPath"]));
            self.append(&["spec", list_name, &at, "volumeMounts"], mounts, missing.cloned());
        }
    }

    /// Adds `items` before those of the list at `path`, which is `present`.
    fn prepend(
        &mut self,
        path: &[&str],
        present: &Value,
        items: impl DoubleEndedIterator<Item = Value>,
    ) {
        if present.is_array() {
            items.rev().for_each(|item| self.add(&[path, &["0"]].concat(), item));
        } else {
            self.list(path, items);
        }
    }

    /// Adds `items` behind those of the list at `path`, which is `present`.
    fn append(&mut self, path: &[&str], present: &Value, items: impl Iterator<Item = Value>) {
        if present.is_array() {
            items.for_each(|item| self.add(&[path, &["-"]].concat(), item));
        } else {
            self.list(path, items);
        }
    }

    /// Makes a list at `path`, unless it would be empty.
    fn list(&mut self, path: &[&str], items: impl Iterator<Item = Value>) {
        let items: Vec<_> = items.collect();
        if !items.is_empty() {
            self.add(path, Value::Array(items));
        }
    }

    fn add(&mut self, path: &[&str], value: Value) {
        let path = PointerBuf::from_tokens(path.iter().copied());
        self.patch.0.push(PatchOperation::Add(AddOperation { path, value }));
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Whether a list has an item with that field.
fn has(items: &Value, field: &str, value: &Value) -> bool {
    list(items).any(|item| item[field] == *value)
}

/// Whether a ConfigMap or Secret that the container takes its variables from could set `name`. Its
/// content isn't known here, and a variable of ours would win over it.
fn may_come_from_elsewhere(container: &Value, name: &str) -> bool {
    list(&container["envFrom"])
        .any(|source| name.starts_with(source["prefix"].as_str().unwrap_or_default()))
}
