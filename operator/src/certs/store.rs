//! The Secret that holds the certificates: `tls.crt` and `tls.key` as everywhere in Kubernetes,
//! `ca.crt` with all that is to be trusted (the CA that signs first), `ca.key` with its key.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use super::pki::Pair;

/// What the Secret holds, as far as it can be read.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// The leaf.
    pub(super) leaf: Option<Pair>,
    /// All that is trusted, PEM.
    pub(super) trusted: String,
    /// Key of the first that is trusted, PEM.
    pub(super) authority_key: Option<String>,
}

impl Stored {
    pub(super) fn read(secret: &Secret) -> Self {
        let text = |key: &str| {
            let bytes = secret.data.as_ref()?.get(key)?;
            String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.is_empty())
        };
        let leaf = text("tls.crt").zip(text("tls.key"));
        Self {
            leaf: leaf.map(|(certificate, key)| Pair { certificate, key }),
            trusted: text("ca.crt").unwrap_or_default(),
            authority_key: text("ca.key"),
        }
    }

    /// The CA that signs.
    pub(super) fn authority(&self) -> Option<Pair> {
        let key = self.authority_key.clone()?;
        (!self.trusted.is_empty()).then(|| Pair { certificate: self.trusted.clone(), key })
    }

    /// The Secret that holds this. `previous` is the one that it replaces; a change of that one in
    /// the meantime makes the API server refuse the write.
    pub(super) fn write(
        &self,
        name: &str,
        previous: Option<&Secret>,
        owner: Option<OwnerReference>,
    ) -> Secret {
        let metadata = previous.map_or_else(
            || ObjectMeta {
                name: Some(name.to_owned()),
                owner_references: owner.map(|owner| vec![owner]),
                ..Default::default()
            },
            |previous| previous.metadata.clone(),
        );
        let entries = [
            ("tls.crt", self.leaf.as_ref().map(|leaf| &leaf.certificate)),
            ("tls.key", self.leaf.as_ref().map(|leaf| &leaf.key)),
            ("ca.crt", Some(&self.trusted)),
            ("ca.key", self.authority_key.as_ref()),
        ];
        let data = entries.into_iter().filter_map(|(key, text)| {
            Some((key.to_owned(), ByteString(text?.clone().into_bytes())))
        });
        Secret {
            metadata,
            data: Some(data.collect()),
            type_: previous
                .map_or_else(|| Some("Opaque".to_owned()), |secret| secret.type_.clone()),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_the_same() {
        let pair =
            |name: &str| Pair { certificate: format!("{name} cert"), key: format!("{name} key") };
        let mut stored = Stored {
            leaf: None,
            trusted: "ca cert".to_owned(),
            authority_key: Some("ca key".to_owned()),
        };
        assert!(Stored::read(&stored.write("s", None, None)) == stored);
        assert!(stored.authority() == Some(pair("ca")));
        stored.leaf = Some(pair("leaf"));
        assert!(Stored::read(&stored.write("s", None, None)) == stored);
        assert!(Stored::read(&Secret::default()) == Stored::default());
    }

    #[test]
    fn a_replaced_secret_keeps_its_version_so_that_no_other_write_is_lost() {
        let mut previous = Stored::default().write("s", None, None);
        previous.metadata.resource_version = Some("7".to_owned());
        let next = Stored::default().write("s", Some(&previous), None);
        assert_eq!(next.metadata.resource_version.as_deref(), Some("7"));
    }
}
