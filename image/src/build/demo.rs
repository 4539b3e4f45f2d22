//! The demo that the tool carries: a machine whose container shows the machine's status. Its
//! image is made here, by our own writer, from the one program that the tool embeds.

use std::io::Write;
use std::path::Path;

use berth_oci::{Execution, NewImage};
use berth_tree::{Kind, Metadata, Node, Spool, Tree};

use super::error::BuildError;
use super::userland;
use crate::assets::Asset;
use crate::config::{self, Config, Mistakes};

/// How a configuration names the demo's image.
pub(super) const REFERENCE: &str = "berth:demo";

/// The image's file among the temporary ones.
pub(super) const ARCHIVE_NAME: &str = "demo.tar";

const CONFIG: &str = include_str!("../../../examples/demo/berth.toml");

/// The demo's configuration.
///
/// # Errors
/// Never in a tool that passed its tests.
pub fn demo() -> Result<Config, Mistakes> {
    config::parse("demo/berth.toml", CONFIG)
}

/// Writes the demo's image as an OCI archive.
pub(super) fn write_image(output: impl Write, temporary: &Path) -> Result<(), BuildError> {
    let program = Asset::Demo.bytes()?;
    let mut spool = Spool::new_in(temporary).map_err(userland::spool_error(temporary))?;
    let content = spool
        .store(&program)
        .map_err(userland::spool_error(temporary))?;
    let mut tree = Tree::new(Metadata::system(0o755));
    tree.insert(
        b"/demo",
        Node {
            metadata: Metadata::system(0o755),
            kind: Kind::File(content),
        },
    )
    .map_err(userland::UserlandError::from)?;
    let image = NewImage {
        execution: Execution {
            entrypoint: vec!["/demo".to_owned()],
            exposed_ports: ["8080/tcp".to_owned()].into(),
            user: "65532:65532".to_owned(),
            ..Execution::default()
        },
        created_by: "the berth tool's own demo".to_owned(),
        ..NewImage::default()
    };
    berth_oci::write_oci_archive(&tree, &spool, &image, temporary, output)?;
    Ok(())
}
