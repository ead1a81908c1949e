//! What an annotated workload asks of its pods, as marks on their template: the label that the
//! webhook looks at, and the annotation that chooses the WarpCluster.

use std::collections::BTreeMap;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Value, json};
use warp_crds::names;

/// Marks for a pod template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Value of the label [`names::INJECT`].
    pub inject: &'static str,
    /// Value of the annotation [`names::CLUSTER`].
    pub cluster: Option<String>,
}

/// The annotation says something that has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the annotation {}: {value:?} has no meaning: write {} or {}",
    names::INJECT,
    names::ENABLED,
    names::DISABLED
)]
pub struct UnknownValue {
    /// As it is written.
    pub value: String,
}

impl Marks {
    /// What a workload's annotations ask for; `None` when they don't speak of injection.
    pub fn wanted(annotations: &BTreeMap<String, String>) -> Result<Option<Self>, UnknownValue> {
        let inject = match annotations.get(names::INJECT).map(String::as_str) {
            None => return Ok(None),
            Some(names::ENABLED) => names::ENABLED,
            Some(names::DISABLED) => names::DISABLED,
            Some(other) => return Err(UnknownValue { value: other.to_owned() }),
        };
        // Without a sidecar no cluster matters, and a change of it is no reason for a rollout.
        let cluster = (inject == names::ENABLED).then(|| annotations.get(names::CLUSTER)).flatten();
        Ok(Some(Self { inject, cluster: cluster.cloned() }))
    }

    /// The template's metadata that carries these marks.
    pub fn metadata(&self) -> Value {
        let mut metadata = json!({"labels": {(names::INJECT): self.inject}});
        if let Some(cluster) = &self.cluster {
            metadata["annotations"] = json!({(names::CLUSTER): cluster});
        }
        metadata
    }
}

/// The patch that puts an annotated Job's marks on its pod template, which can't be changed once
/// the Job is made. What the template says by itself stays. `job` is the raw object.
pub fn label_job(job: &Value) -> Result<Patch, UnknownValue> {
    let annotations: BTreeMap<String, String> = job["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    let mut patch = Patch::default();
    let Some(marks) = Marks::wanted(&annotations)? else { return Ok(patch) };
    let template = &job["spec"]["template"];
    let mut add = |path: &[&str], value: Value| {
        let path = PointerBuf::from_tokens([&["spec", "template"], path].concat());
        patch.0.push(PatchOperation::Add(AddOperation { path, value }));
    };
    if !template["metadata"].is_object() {
        add(&["metadata"], json!({}));
    }
    if let Value::Object(metadata) = marks.metadata() {
        for (list, marks) in &metadata {
            let present = &template["metadata"][list];
            if !present.is_object() {
                add(&["metadata", list], json!({}));
            }
            for (name, value) in marks.as_object().into_iter().flatten() {
                if present[name].is_null() {
                    add(&["metadata", list, name], value.clone());
                }
            }
        }
    }
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(mut job: Value) -> Value {
        let patch = label_job(&job).unwrap();
        json_patch::patch(&mut job, &patch).unwrap();
        assert_eq!(label_job(&job).unwrap(), Patch::default());
        job
    }

    #[test]
    fn an_annotated_jobs_template_is_marked() {
        let job = labelled(json!({
            "metadata": {"annotations": {(names::INJECT): "enabled", (names::CLUSTER): "a/b"}},
            "spec": {"template": {"spec": {"unknown": 1}}},
        }));
        assert_eq!(
            job["spec"]["template"],
            json!({
                "spec": {"unknown": 1},
                "metadata": {
                    "labels": {(names::INJECT): "enabled"},
                    "annotations": {(names::CLUSTER): "a/b"},
                },
            })
        );
    }

    #[test]
    fn what_the_template_says_by_itself_stays() {
        let template = json!({"metadata": {"labels": {(names::INJECT): "disabled", "app": "x"}}});
        let job = labelled(json!({
            "metadata": {"annotations": {(names::INJECT): "enabled"}},
            "spec": {"template": template},
        }));
        assert_eq!(job["spec"]["template"], template);
    }

    #[test]
    fn a_job_without_the_annotation_is_let_alone() {
        let job = json!({"metadata": {"annotations": {(names::CLUSTER): "c"}}, "spec": {}});
        assert_eq!(label_job(&job).unwrap(), Patch::default());
    }

    #[test]
    fn a_value_without_meaning_is_refused_with_the_two_that_have_one() {
        let job = json!({"metadata": {"annotations": {(names::INJECT): "true"}}});
        let message = label_job(&job).unwrap_err().to_string();
        assert!(message.contains("write enabled or disabled"), "{message}");
    }
}
