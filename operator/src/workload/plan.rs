//! What is to be done about a workload, from its metadata alone.

use std::collections::BTreeMap;

use kube::api::ObjectMeta;
use warp_crds::names;

use super::MANAGER;
use super::kind::Kind;
use crate::inject::{self, Marks, UnknownValue};

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Nothing,
    /// Put the marks on the template. Whether some are there already sets a step that was taken
    /// apart from one that was undone since.
    Apply {
        /// What the annotations ask for.
        marks: Marks,
        /// Whether something was applied before.
        owned: bool,
    },
    /// Take away what was applied, because nothing is asked for.
    Release,
    /// Take away what was applied, and say why the annotation has no effect.
    Complain(Complaint),
    /// See whether the Job's template asks too, which only its creation could have brought about.
    Inspect(Marks),
}

/// Why a workload's annotation has no effect, in words for the one who made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Complaint {
    /// It says something that has no meaning.
    #[error(transparent)]
    Unknown(UnknownValue),
    /// The webhook isn't asked for pods of its namespace.
    #[error(
        "pods of namespace {namespace} are never injected: move the workload to another namespace, or take this one out of the chart's webhook.excludedNamespaces if it is there"
    )]
    Excluded {
        /// The workload's.
        namespace: String,
    },
}

impl Complaint {
    /// The event's reason.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "InjectUnknown",
            Self::Excluded { .. } => "InjectExcluded",
        }
    }
}

/// What is to be done about a workload with that metadata.
pub(super) fn step(kind: Kind, metadata: &ObjectMeta, settings: &inject::Settings) -> Step {
    if metadata.deletion_timestamp.is_some() {
        return Step::Nothing;
    }
    let owned = owns(metadata);
    let nothing = BTreeMap::new();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    match Marks::wanted(metadata.annotations.as_ref().unwrap_or(&nothing)) {
        // A rollout there would bring nothing.
        Ok(Some(marks)) if marks.inject == names::ENABLED && settings.excludes(namespace) => {
            Step::Complain(Complaint::Excluded { namespace: namespace.to_owned() })
        }
        Ok(Some(marks)) if kind == Kind::Job => Step::Inspect(marks),
        Ok(Some(marks)) => Step::Apply { marks, owned },
        Ok(None) if owned => Step::Release,
        Ok(None) => Step::Nothing,
        Err(unknown) => Step::Complain(Complaint::Unknown(unknown)),
    }
}

/// Whether something was applied to the workload's template.
pub(super) fn owns(metadata: &ObjectMeta) -> bool {
    metadata.managed_fields.iter().flatten().any(|entry| entry.manager.as_deref() == Some(MANAGER))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn step(kind: Kind, metadata: &ObjectMeta) -> Step {
        let settings = inject::Settings {
            operator_namespace: "warp-system".to_owned(),
            excluded_namespaces: vec!["infra".to_owned()],
            sidecar_image: "s".to_owned(),
            image_pull_policy: None,
        };
        super::step(kind, metadata, &settings)
    }

    fn metadata(annotations: &[(&str, &str)], manager: Option<&str>) -> ObjectMeta {
        let owned = |text: &str| text.to_owned();
        ObjectMeta {
            annotations: Some(annotations.iter().map(|(k, v)| (owned(k), owned(v))).collect()),
            managed_fields: manager.map(|manager| {
                vec![ManagedFieldsEntry { manager: Some(owned(manager)), ..Default::default() }]
            }),
            ..Default::default()
        }
    }

    #[test]
    fn an_annotated_workloads_template_is_marked_and_released_again() {
        let enabled = [(names::INJECT, "enabled"), (names::CLUSTER, "c")];
        let apply = |owned| Step::Apply {
            marks: Marks { inject: names::ENABLED, cluster: Some("c".to_owned()) },
            owned,
        };
        assert_eq!(step(Kind::Workload, &metadata(&enabled, None)), apply(false));
        assert_eq!(step(Kind::CronJob, &metadata(&enabled, Some(MANAGER))), apply(true));
        assert_eq!(step(Kind::Workload, &metadata(&[], Some(MANAGER))), Step::Release);
        assert_eq!(step(Kind::Workload, &metadata(&[], None)), Step::Nothing);
    }

    #[test]
    fn what_others_manage_is_none_of_this() {
        let made_by_the_operator = metadata(&[], Some(names::FIELD_MANAGER));
        assert_eq!(step(Kind::Workload, &made_by_the_operator), Step::Nothing);
    }

    #[test]
    fn a_disabled_workload_is_marked_so_whichever_cluster_it_names() {
        let metadata = metadata(&[(names::INJECT, "disabled"), (names::CLUSTER, "c")], None);
        let marks = Marks { inject: names::DISABLED, cluster: None };
        assert_eq!(step(Kind::Workload, &metadata), Step::Apply { marks, owned: false });
    }

    #[test]
    fn a_job_is_only_looked_at() {
        let metadata = metadata(&[(names::INJECT, "enabled")], None);
        assert!(matches!(step(Kind::Job, &metadata), Step::Inspect(_)));
    }

    #[test]
    fn a_workload_that_is_being_deleted_is_let_alone() {
        let mut metadata = metadata(&[(names::INJECT, "enabled")], None);
        metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert_eq!(step(Kind::Workload, &metadata), Step::Nothing);
    }

    #[test]
    fn a_value_without_meaning_is_answered() {
        let metadata = metadata(&[(names::INJECT, "yes")], None);
        let Step::Complain(complaint) = step(Kind::Workload, &metadata) else { panic!() };
        assert!(complaint.to_string().contains("write enabled or disabled"), "{complaint}");
    }

    #[test]
    fn where_nothing_is_injected_nothing_is_rolled_out_and_the_annotation_is_answered() {
        for namespace in ["kube-system", "warp-system", "infra"] {
            for kind in [Kind::Workload, Kind::CronJob, Kind::Job] {
                let mut metadata = metadata(&[(names::INJECT, "enabled")], None);
                metadata.namespace = Some(namespace.to_owned());
                let Step::Complain(complaint) = step(kind, &metadata) else { panic!("{kind:?}") };
                assert_eq!(complaint.reason(), "InjectExcluded");
                assert!(complaint.to_string().contains(namespace), "{complaint}");
            }
        }
    }
}
