//! Layers and archives of people who mean harm, or whose disk failed: each is refused with a
//! sentence that names the image, the layer and the entry.

use std::io::Write;

use berth_oci::{Digest, Error};

use crate::by_hand::{Header, Layer, Tar, layout, options, unpack, unpack_layers, unpack_tars};

/// Refused, naming the layer and the entry, for a reason with `why` in it.
fn refused(tar: Vec<u8>, entry: &str, why: &str) {
    let digest = Digest::of(&tar);
    let error = unpack_tars(vec![tar]).expect_err(why);
    let text = error.to_string();
    assert!(matches!(error, Error::Entry { .. }), "{text}");
    for part in [why, entry, &digest.to_string(), "oci:/"] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn names_that_lead_out_of_the_image_are_refused() {
    let tar = Tar::default;
    refused(
        tar().file("/etc/passwd", "x").end(),
        "/etc/passwd",
        "absolute",
    );
    refused(
        tar().file("a/../../etc/passwd", "x").end(),
        "a/../../etc/passwd",
        "'..'",
    );
    refused(tar().dir("..").end(), "..", "'..'");
    refused(tar().file("", "x").end(), "\"\"", "empty");
    refused(tar().file("d/.wh...", "x").end(), ".wh...", "not a name");
    refused(tar().file(".wh.", "x").end(), ".wh.", "not a name");
    refused(
        tar().hard_link("h", "../../etc/shadow").end(),
        "../../etc/shadow",
        "'..'",
    );
    refused(
        tar().hard_link("h", "/etc/shadow").end(),
        "/etc/shadow",
        "not in the image",
    );
    refused(tar().hard_link("h", "h").end(), "\"h\"", "not in the image");
    refused(
        tar().dir("d").hard_link("h", "d").end(),
        "\"d\"",
        "directory",
    );
    refused(tar().hard_link("h", "").end(), "\"h\"", "directory");
    let nul = tar().pax(&[("path", b"a\0b")]).file("x", "x").end();
    refused(nul, "\"\"", "NUL");
}

#[test]
fn links_only_ever_lead_inside_the_image() {
    // The host's /etc must not be seen, and nothing can be put there.
    let tar = Tar::default()
        .symlink("escape", "../../../../../../etc")
        .file("escape/passwd", "ours")
        .symlink("host", "/etc/passwd")
        .hard_link("copy", "host")
        .end();
    let (image, _) = unpack_tars(vec![tar]).expect("unpack");
    assert!(image.tree.lookup(b"etc/passwd").is_some());
    assert_eq!(
        image.tree.lookup(b"copy"),
        image.tree.lookup(b"host"),
        "a link to the link"
    );
}

#[test]
fn links_in_a_circle_are_refused() {
    let tar = Tar::default()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", "x")
        .end();
    refused(tar, "a/x", "circle");
    let tar = Tar::default()
        .symlink("a", "a/a/a/a/a")
        .file("a/x", "x")
        .end();
    refused(tar, "a/x", "circle");
}

#[test]
fn names_and_links_that_linux_cannot_hold_are_refused() {
    let long = "n".repeat(256);
    let tar = Tar::default()
        .pax(&[("path", long.as_bytes())])
        .file("x", "x")
        .end();
    refused(tar, "nnn", "255");
    let deep = "d/".repeat(3000);
    let tar = Tar::default()
        .pax(&[("path", deep.as_bytes())])
        .dir("x")
        .end();
    refused(tar, "d/d/d", "4096");
    let target = "t".repeat(5000);
    let tar = Tar::default()
        .pax(&[("linkpath", target.as_bytes())])
        .symlink("x", "y")
        .end();
    refused(tar, "\"x\"", "target");
    refused(Tar::default().symlink("x", "").end(), "\"x\"", "target");
    // Through links, directories could be nested without end.
    let mut tar = Tar::default();
    let deep = "d/".repeat(500);
    for (name, target) in [("l1", ""), ("l2", "l1/"), ("l3", "l2/")] {
        tar = tar
            .pax(&[("linkpath", format!("{target}{deep}").as_bytes())])
            .symlink(name, "x");
    }
    refused(tar.file("l3/x", "x").end(), "l3/x", "deeper");
}

#[test]
fn a_file_is_nobodys_parent_and_the_root_is_a_directory() {
    refused(
        Tar::default().file("f", "x").file("f/g", "x").end(),
        "f/g",
        "not a directory",
    );
    refused(Tar::default().symlink("./", "x").end(), "./", "root");
}

#[test]
fn what_has_no_meaning_in_an_image_is_refused() {
    let mut device = Header::new("dev", b'3');
    device.device = (4096, 0);
    refused(Tar::default().header(&device).end(), "dev", "device number");
    refused(
        Tar::default().header(&Header::new("m", b'M')).end(),
        "\"m\"",
        "type",
    );
    let owner = Tar::default()
        .pax(&[("uid", b"4294967295")])
        .file("f", "x")
        .end();
    refused(owner, "\"f\"", "owner");
}

#[test]
fn sizes_are_not_believed() {
    for size in [1 << 20, 1 << 40, u64::MAX >> 1, u64::MAX] {
        let mut header = Header::new("huge", b'0');
        header.size = size;
        let tar = Tar::default().header(&header).raw(&[1; 700]).cut();
        let error = unpack_tars(vec![tar]).expect_err("huge").to_string();
        assert!(error.contains("huge"), "{error}");
    }
    let mut header = Header::new("pax", b'x');
    header.size = 1 << 32;
    refused(Tar::default().header(&header).end(), "", "extended header");
    let mut long_name = Header::new("././@LongLink", b'L');
    long_name.size = 5 << 20;
    refused(
        Tar::default().header(&long_name).end(),
        "",
        "extended header",
    );
}

#[test]
fn sparse_maps_that_do_not_add_up_are_refused() {
    let map = |map: &[u8], size: &[u8]| {
        Tar::default()
            .pax(&[("GNU.sparse.map", map), ("GNU.sparse.size", size)])
            .file("sparse", "12345678")
            .end()
    };
    unpack_tars(vec![map(b"4,8", b"100")]).expect("a good map");
    for (bad, size) in [
        (&b"0,9"[..], &b"100"[..]),
        (b"0,4", b"100"),
        (b"0,4,2,4", b"100"),
        (b"96,8", b"100"),
        (b"18446744073709551615,8", b"100"),
        (b"0,8,1", b"100"),
        (b"x", b"100"),
    ] {
        refused(map(bad, size), "sparse", "sparse");
    }
    let numbers = "9".repeat(1000);
    let endless = Tar::default()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"9"),
        ])
        .file("sparse", &numbers)
        .end();
    refused(endless, "sparse", "sparse");
}

#[test]
fn bombs_go_off_harmlessly() {
    let mut options = options();
    options.limits.unpacked_bytes = 1 << 20;
    let mut zeros = Vec::new();
    let mut encoder = flate2::write::GzEncoder::new(&mut zeros, flate2::Compression::best());
    let mut header = Header::new("zeros", b'0');
    header.size = 8 << 20;
    encoder.write_all(&header.bytes()).expect("write");
    encoder.write_all(&vec![0; 8 << 20]).expect("write");
    encoder.finish().expect("finish");
    let bomb = Layer::compressed(b"not reached", zeros);
    let error = unpack_layers(&[bomb], &options)
        .expect_err("bomb")
        .to_string();
    assert!(error.contains("more than 1048576 bytes"), "{error}");

    // Holes cost nothing in the archive, but are written out.
    let hole = Tar::default()
        .pax(&[
            ("GNU.sparse.map", b"0,1"),
            ("GNU.sparse.size", b"1099511627776"),
        ])
        .file("hole", "x")
        .end();
    let error = unpack_layers(&[Layer::plain(hole)], &options)
        .expect_err("hole")
        .to_string();
    assert!(
        error.contains("hole") && error.contains("more than 1048576 bytes"),
        "{error}"
    );

    // Padding behind the end mark counts, too; and what is larger as stored is not even opened.
    let mut padded = Tar::default().file("f", "x").end();
    padded.resize(2 << 20, 0);
    let zstd = zstd::encode_all(&padded[..], 3).expect("zstd");
    let layer = Layer::compressed(&padded, zstd);
    let error = unpack_layers(&[layer], &options)
        .expect_err("padding")
        .to_string();
    assert!(error.contains("more than 1048576 bytes"), "{error}");
    let error = unpack_layers(&[Layer::plain(padded)], &options)
        .expect_err("large")
        .to_string();
    assert!(error.contains("limit of 1048576 bytes"), "{error}");

    options.limits.entries = 100;
    let many = (0..101)
        .fold(Tar::default(), |tar, n| tar.dir(&format!("d{n}")))
        .end();
    let error = unpack_layers(&[Layer::plain(many)], &options)
        .expect_err("many")
        .to_string();
    assert!(
        error.contains("d100") && error.contains("100 entries"),
        "{error}"
    );
}

#[test]
fn a_layer_that_is_cut_anywhere_is_refused() {
    let tar = Tar::default()
        .file("first", "1")
        .data(Header::new("last", b'0'), &[7; 5000])
        .end();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&tar).expect("write");
    let gzip = encoder.finish().expect("finish");
    let zstd = zstd::encode_all(&tar[..], 3).expect("zstd");
    for stored in [&tar, &gzip, &zstd] {
        for keep in [0, 1, 100, stored.len() / 2, stored.len() - 1] {
            let whole = Layer::compressed(&tar, stored.clone());
            let dir = tempfile::tempdir().expect("dir");
            layout(dir.path(), std::slice::from_ref(&whole));
            let blob = dir.path().join("blobs/sha256").join(whole.digest.hex());
            std::fs::write(&blob, &stored[..keep]).expect("cut");
            let reference = format!("oci:{}", dir.path().display());
            let error = unpack(&reference, &options()).expect_err("cut").to_string();
            assert!(error.contains("truncated"), "{keep}: {error}");
            // And if its maker says that this is how long it should be:
            let cut = Layer::compressed(&tar, stored[..keep].to_vec());
            assert!(
                unpack_layers(&[cut], &options()).is_err(),
                "{keep} of {}",
                stored.len()
            );
        }
    }
}

#[test]
fn bytes_that_are_not_the_ones_asked_for_are_refused() {
    let good = Tar::default().file("f", "good").end();
    let evil = Tar::default().file("f", "evil").end();
    let dir = tempfile::tempdir().expect("dir");
    let layer = Layer::plain(good.clone());
    layout(dir.path(), std::slice::from_ref(&layer));
    let blob = dir.path().join("blobs/sha256").join(layer.digest.hex());
    let reference = format!("oci:{}", dir.path().display());
    std::fs::write(&blob, &evil).expect("write");
    let error = unpack(&reference, &options()).expect_err("evil");
    assert!(matches!(&error, Error::WrongDigest { actual, .. } if *actual == Digest::of(&evil)));
    std::fs::write(&blob, [good.clone(), vec![0]].concat()).expect("write");
    let error = unpack(&reference, &options()).expect_err("longer");
    assert!(matches!(error, Error::WrongSize { .. }), "{error}");
    // A wrong diff_id is a lie of the configuration.
    let liar = Layer {
        diff_id: Digest::of(&evil),
        ..Layer::plain(good)
    };
    let error = unpack_layers(&[liar], &options())
        .expect_err("liar")
        .to_string();
    assert!(
        error.contains("uncompressed") && error.contains("damaged"),
        "{error}"
    );
}

#[test]
fn archives_that_are_not_images_are_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("archive");
    let try_both = |bytes: &[u8], says: &str| {
        std::fs::write(&file, bytes).expect("write");
        for kind in ["oci-archive", "docker-archive"] {
            let reference = format!("{kind}:{}", file.display());
            let error = unpack(&reference, &options()).expect_err(says).to_string();
            assert!(
                error.contains(says) && error.contains(&reference),
                "{kind}: {error}"
            );
        }
    };
    try_both(b"", "missing");
    try_both(b"hello, this is not a tar file", "truncated");
    try_both(&[b'x'; 2000], "malformed");
    try_both(b"\xfd7zXZ\0...", "xz");
    try_both(b"\x1f\x8b\x08\0nonsense", "decompress");
    try_both(&Tar::default().file("a", "b").end(), "missing");
    let circle = Tar::default()
        .symlink("oci-layout", "x")
        .symlink("x", "oci-layout");
    let circle = circle.symlink("manifest.json", "./x").end();
    try_both(&circle, "circle");
    let saved = |json: &str| Tar::default().file("manifest.json", json).end();
    for (json, says) in [
        ("{}", "malformed"),
        ("[]", "no image"),
        (r#"[{"Config":"../../../etc/passwd"}]"#, "etc/passwd"),
        (r#"[{"Config":"c"},{"Config":"d"}]"#, "several"),
    ] {
        std::fs::write(&file, saved(json)).expect("write");
        let reference = format!("docker-archive:{}", file.display());
        let error = unpack(&reference, &options()).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}
