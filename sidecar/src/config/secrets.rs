//! Credentials: from Secrets in the manifests' own text, else from mounted files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use warp_crds::cluster::SecretKeyRef;
use warp_crds::names;

use super::ConfigError;

/// Every credential that can be had, read at once, so that a change is seen as one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    values: BTreeMap<String, String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Secrets {
    /// Those of `given`, and those of the files in `folder`.
    pub fn new(given: BTreeMap<(String, String), Vec<u8>>, folder: Option<&Path>) -> Self {
        let mut values = BTreeMap::new();
        let files = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten();
        for file in files.filter_map(Result::ok) {
            // The kubelet's own folders (`..data`) and what isn't text are no credentials.
            if let Ok(text) = std::fs::read_to_string(file.path()) {
                values.insert(file.file_name().to_string_lossy().into_owned(), text);
            }
        }
        for ((name, key), value) in given {
            let text = String::from_utf8_lossy(&value).into_owned();
            values.insert(names::secret_file(&name, &key), text);
        }
        Self { values }
    }

    /// The credential, without the line end that editors leave.
    pub fn get(&self, at: &SecretKeyRef) -> Result<String, ConfigError> {
        let file = names::secret_file(&at.name, &at.key);
        match self.values.get(&file) {
            Some(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            None => {
                Err(ConfigError::MissingSecret { name: at.name.clone(), key: at.key.clone(), file })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, key: &str) -> SecretKeyRef {
        SecretKeyRef { name: name.to_owned(), key: key.to_owned() }
    }

    #[test]
    fn a_missing_credential_is_named_with_the_file_that_would_hold_it() {
        let given =
            BTreeMap::from([(("db".to_owned(), "url".to_owned()), b"postgres://x\n".to_vec())]);
        let secrets = Secrets::new(given, None);
        assert_eq!(secrets.get(&at("db", "url")).unwrap(), "postgres://x");
        let error = secrets.get(&at("db", "password")).unwrap_err().to_string();
        assert!(error.contains("db_password"), "{error}");
        assert!(!format!("{secrets:?}").contains("postgres://"), "a log must not show it");
    }
}
