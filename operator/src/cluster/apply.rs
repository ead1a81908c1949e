//! Server-side apply with the operator's one field manager, and deletion of what is no more wanted.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use warp_crds::names;

/// An object that couldn't be written.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {namespace}/{name} can't be written: {source}")]
pub struct ApplyError {
    kind: String,
    namespace: String,
    name: String,
    source: kube::Error,
}

impl ApplyError {
    fn of<K: Resource<DynamicType = ()>>(object: &K, source: kube::Error) -> Self {
        Self {
            kind: K::kind(&()).into_owned(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            source,
        }
    }
}

/// Writes the fields of `object`, takes them from whoever else held them, and gives the object as
/// it then stands.
pub async fn apply<K>(client: &Client, object: &K) -> Result<K, ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    api.patch(&object.name_any(), &params, &Patch::Apply(object))
        .await
        .map_err(|source| ApplyError::of(object, source))
}

/// Deletes by name; what isn't there is fine.
pub async fn delete<K>(client: &Client, namespace: &str, name: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
