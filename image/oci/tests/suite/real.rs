//! A whole distribution as an image: thousands of files of every kind, unpacked as umoci does.

use std::fs;

use crate::by_hand::{options, unpack};
use crate::listing::{assert_same, of_disk, of_tree};
use crate::tools::{have, path, run};

#[test]
fn a_debian_is_unpacked_as_umoci_does() {
    if std::env::var_os("BERTH_TEST_LONG").is_none() {
        eprintln!("SKIPPED: a long test; BERTH_TEST_LONG=1 (make test-long) runs it");
        return;
    }
    if !have(&["mmdebstrap", "umoci"]) {
        return;
    }
    let work = tempfile::tempdir().expect("dir");
    let (tar, layout) = (work.path().join("debian.tar"), work.path().join("layout"));
    run("mmdebstrap", &["--variant=apt", "bookworm", path(&tar)]);
    let image = format!("{}:debian", layout.display());
    run("umoci", &["init", "--layout", path(&layout)]);
    run("umoci", &["new", "--image", &image]);
    run(
        "umoci",
        &["raw", "add-layer", "--image", &image, path(&tar)],
    );
    fs::remove_file(&tar).expect("remove");
    let (unpacked, spool) = unpack(&format!("oci:{image}"), &options()).expect("unpack");
    assert!(unpacked.layers[0].entries > 3000);
    let bundle = work.path().join("bundle");
    run("umoci", &["unpack", "--image", &image, path(&bundle)]);
    assert_same(
        &of_tree(&unpacked.tree, &spool),
        &of_disk(&bundle.join("rootfs")),
    );
}
