//! Writes the CustomResourceDefinitions into the folder given: `cargo run -p warp-crds --bin crdgen -- crds/yaml`.

use std::error::Error;
use std::path::PathBuf;

use kube::CustomResourceExt;
use warp_crds::{WarpCluster, WarpPolicy};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: crdgen FOLDER")?;
    std::fs::create_dir_all(&folder)?;
    for crd in [WarpCluster::crd(), WarpPolicy::crd()] {
        let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
        std::fs::write(folder.join(name), serde_yaml::to_string(&crd)?)?;
    }
    Ok(())
}
