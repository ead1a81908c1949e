//! `admission.k8s.io/v1` on the wire, with the object as raw JSON.
//!
//! The types of kube decode the object's metadata and write a patch as a list of numbers; here
//! nothing of the object is lost, and the patch is base64 as the API describes it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use serde::Deserialize;
use serde_json::{Value, json};

/// The body of a request.
#[derive(Deserialize, Debug)]
pub(super) struct Review {
    pub(super) request: Request,
}

/// What of it is looked at.
#[derive(Deserialize, Debug)]
pub(super) struct Request {
    /// Goes back in the response.
    pub(super) uid: String,
    #[serde(default)]
    pub(super) namespace: String,
    /// The object that is to be created.
    pub(super) object: Value,
}

/// An answer.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Let in, changed so, with words for the one who asks.
    Admit(Patch, Vec<String>),
    /// Kept out, because of that.
    Deny(String),
}

impl Verdict {
    /// Let in as it is.
    pub(super) fn unchanged() -> Self {
        Self::Admit(Patch::default(), Vec::new())
    }

    /// The body of the response to the request with that uid.
    pub(super) fn response(&self, uid: &str) -> Result<Value, serde_json::Error> {
        let mut response = json!({"uid": uid});
        match self {
            Self::Admit(patch, warnings) => {
                response["allowed"] = json!(true);
                if !patch.0.is_empty() {
                    response["patchType"] = json!("JSONPatch");
                    response["patch"] = json!(STANDARD.encode(serde_json::to_vec(patch)?));
                }
                if !warnings.is_empty() {
                    response["warnings"] = json!(warnings);
                }
            }
            Self::Deny(message) => {
                response["allowed"] = json!(false);
                response["status"] =
                    json!({"code": 403, "reason": "Forbidden", "message": message});
            }
        }
        Ok(json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": response,
        }))
    }
}
