//! The operator of Warp: the controllers of WarpCluster and WarpPolicy, and the injection of the
//! sidecar into pods.
//!
//! Every replica serves the webhook; the one that holds the Lease also writes. The way of a
//! reconciliation is in [`cluster`], what only the leader does in [`leader`], the order of start and
//! end in [`run`].
//!
//! # What the controllers need of the API server
//!
//! The webhook's own needs ([`webhook`], [`certs`], [`workload`]) come on top.
//!
//! In all namespaces:
//!
//! | group | resources | verbs |
//! | --- | --- | --- |
//! | `warpcache.dev` | `warpclusters`, `warppolicies` | get, list, watch, delete (cleanup) |
//! | `warpcache.dev` | `warpclusters/status`, `warppolicies/status` | patch |
//! | `warpcache.dev` | `warpclusters/finalizers` | update (owners that block deletion, where that admission is on) |
//! | core | `namespaces` | list, watch |
//! | core | `pods` | list, watch, patch (the annotation that makes kubelets look) |
//! | core | `configmaps`, `secrets`, `services` | get, list, watch, create, patch, delete |
//! | core | `persistentvolumeclaims` | list, delete (cleanup) |
//! | `apps` | `statefulsets` | get, list, watch, create, patch, delete |
//! | `policy` | `poddisruptionbudgets` | list, watch, create, patch, delete |
//! | `events.k8s.io` | `events` | create, patch |
//!
//! In the operator's own namespace:
//!
//! | group | resources | verbs |
//! | --- | --- | --- |
//! | `coordination.k8s.io` | `leases` | create; of the name `warp-operator` get, update |
//! | `apps` | `deployments` | get (its own, the owner of Lease and Secret) |

pub mod certs;
pub mod cleanup;
pub mod cli;
pub mod cluster;
pub mod context;
mod fault;
pub mod health;
pub mod inject;
pub mod leader;
pub mod lease;
pub mod metrics;
pub mod nats;
pub mod orphans;
pub mod policy;
pub mod run;
pub mod view;
pub mod webhook;
pub mod workload;
