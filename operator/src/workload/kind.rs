//! Where a workload has its pod template.

use serde_json::{Value, json};

/// What sets the kinds of workloads apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A Deployment, StatefulSet or DaemonSet.
    Workload,
    /// A CronJob, whose Jobs are made from a template too.
    CronJob,
    /// A Job, whose template can't be changed.
    Job,
}

impl Kind {
    /// A `spec` that holds nothing but the pod template's `metadata`.
    pub(super) fn spec(self, metadata: &Value) -> Value {
        let template = json!({"template": {"metadata": metadata}});
        match self {
            Self::Workload | Self::Job => template,
            Self::CronJob => json!({"jobTemplate": {"spec": template}}),
        }
    }
}
