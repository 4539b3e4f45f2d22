//! What layers mean: whiteouts, replacements, links through links, attributes, all compressions.

use std::io::Write;

use berth_oci::Image;
use berth_tree::{Kind, Spool};

use crate::by_hand::{Header, Layer, Tar, options, unpack_layers, unpack_tars};

/// The names in a directory, or a file's text, or a link's target.
fn show(image: &(Image, Spool), path: &str) -> String {
    let (Image { tree, .. }, spool) = image;
    let Some(node) = tree.lookup(path.as_bytes()) else {
        return "missing".to_owned();
    };
    match &tree.node(node).kind {
        Kind::Directory(entries) => {
            let names: Vec<_> = entries.keys().map(|n| String::from_utf8_lossy(n)).collect();
            names.join(" ")
        }
        Kind::File(content) => {
            String::from_utf8_lossy(&spool.read(content).expect("read")).into_owned()
        }
        Kind::Symlink(target) => String::from_utf8_lossy(target).into_owned(),
        other => format!("{other:?}"),
    }
}

fn below() -> Vec<u8> {
    Tar::default()
        .dir("d")
        .file("d/below", "1")
        .dir("d/sub")
        .file("d/sub/deep", "1")
        .file("f", "1")
        .hard_link("g", "f")
        .symlink("abs", "/d")
        .symlink("up", "../../../d/sub")
        .end()
}

#[test]
fn a_whiteout_hides_what_is_below_and_nothing_else() {
    let above = Tar::default()
        .file("d/.wh.below", "")
        .file(".wh.f", "")
        .file(".wh.not-there", "")
        .file("nowhere/.wh.x", "")
        .end();
    let image = unpack_tars(vec![below(), above]).expect("unpack");
    assert_eq!(show(&image, "d"), "sub");
    assert_eq!(show(&image, "f"), "missing");
    assert_eq!(show(&image, "g"), "1", "the file's other name stays");
    assert_eq!(show(&image, "nowhere"), "missing");
}

#[test]
fn an_opaque_directory_keeps_what_its_own_layer_put_there_in_any_order() {
    for first in [true, false] {
        let opaque = |tar: Tar| tar.file("d/.wh..wh..opq", "");
        let mut tar = Tar::default().dir("d");
        if first {
            tar = opaque(tar);
        }
        tar = tar
            .file("d/new", "2")
            .file("d/sub/new", "2")
            .hard_link("d/linked", "f");
        if !first {
            tar = opaque(tar);
        }
        let image = unpack_tars(vec![below(), tar.end()]).expect("unpack");
        assert_eq!(show(&image, "d"), "linked new sub", "opaque first: {first}");
        assert_eq!(show(&image, "d/sub"), "new", "opaque first: {first}");
        assert_eq!(show(&image, "d/linked"), "1");
    }
}

#[test]
fn a_whiteout_and_a_new_entry_of_one_name_leave_the_new_one() {
    let replaced = Tar::default()
        .file(".wh.d", "")
        .dir("d")
        .file("d/new", "2")
        .end();
    let image = unpack_tars(vec![below(), replaced]).expect("unpack");
    assert_eq!(show(&image, "d"), "new");
    let late = Tar::default()
        .dir("d")
        .file("d/new", "2")
        .file(".wh.d", "")
        .end();
    let image = unpack_tars(vec![below(), late]).expect("unpack");
    assert_eq!(show(&image, "d"), "new");
}

#[test]
fn a_whiteout_never_hides_a_file_of_its_own_layer() {
    // The lowest layer has nothing below; above it, what is below goes and the rest stays.
    let own = |tar: Tar| tar.file(".profile", "2").file("f", "2").file("d/new", "2");
    let marks = |tar: Tar| {
        tar.file(".wh..wh..opq", "")
            .file(".wh.f", "")
            .file("d/.wh..wh..opq", "")
            .file("d/.wh.new", "")
            .file(".wh.d", "")
    };
    let orders = [
        marks(own(Tar::default())).end(),
        own(marks(Tar::default())).end(),
    ];
    for tar in orders {
        for layers in [vec![tar.clone()], vec![below(), tar.clone()]] {
            let which = layers.len() - 1;
            let image = unpack_tars(layers).expect("unpack");
            assert_eq!(show(&image, ""), ".profile d f", "in layer {which}");
            assert_eq!(show(&image, "f"), "2", "in layer {which}");
            assert_eq!(show(&image, "d"), "new", "in layer {which}");
        }
    }
}

#[test]
fn files_replace_directories_and_directories_files() {
    let above = Tar::default()
        .file("d", "now a file")
        .dir("f")
        .file("f/in", "2")
        .end();
    let image = unpack_tars(vec![below(), above]).expect("unpack");
    assert_eq!(show(&image, "d"), "now a file");
    assert_eq!(show(&image, "f"), "in");
    assert_eq!(show(&image, "g"), "1");
}

#[test]
fn parents_that_are_links_are_followed_inside_the_image() {
    let above = Tar::default()
        .file("abs/through-absolute", "2")
        .file("up/through-parents", "2")
        .file("abs/.wh.below", "")
        .symlink("dangling", "var/made")
        .file("dangling/x", "2")
        .hard_link("h", "abs/through-absolute")
        .end();
    let image = unpack_tars(vec![below(), above]).expect("unpack");
    assert_eq!(show(&image, "d"), "sub through-absolute");
    assert_eq!(show(&image, "d/sub"), "deep through-parents");
    assert_eq!(show(&image, "var/made/x"), "2");
    assert_eq!(show(&image, "h"), "2");
    assert_eq!(show(&image, "abs"), "/d", "the link itself stays");
}

#[test]
fn a_directory_that_comes_again_keeps_its_content_and_takes_the_new_owner() {
    let mut header = Header::new("d", b'5');
    (header.uid, header.mode) = (7, 0o2770);
    let above = Tar::default().header(&header).end();
    let image = unpack_tars(vec![below(), above]).expect("unpack");
    assert_eq!(show(&image, "d"), "below sub");
    let d = image.0.tree.lookup(b"d").expect("d");
    let metadata = &image.0.tree.node(d).metadata;
    assert_eq!(
        (metadata.uid, metadata.mode, metadata.mtime),
        (7, 0o2770, 15)
    );
    assert_eq!(image.0.attribution.layer_of(d), 1);
}

#[test]
fn missing_parents_are_roots_and_0755() {
    let image = unpack_tars(vec![Tar::default().file("a/b/c", "1").end()]).expect("unpack");
    let a = image.0.tree.lookup(b"a/b").expect("a/b");
    assert_eq!(
        image.0.tree.node(a).metadata,
        berth_tree::Metadata::system(0o755)
    );
}

#[test]
fn the_last_of_several_entries_of_one_name_counts() {
    let tar = Tar::default()
        .file("x", "1")
        .file("./x", "2")
        .dir("x/")
        .file("x//y", "3")
        .end();
    let image = unpack_tars(vec![tar]).expect("unpack");
    assert_eq!(show(&image, "x"), "y");
}

#[test]
fn the_root_may_have_an_entry_under_any_of_its_names() {
    for name in ["/", ".", "./"] {
        let mut header = Header::new(name, b'5');
        header.mode = 0o700;
        let image = unpack_tars(vec![Tar::default().header(&header).end()]).expect("unpack");
        let tree = &image.0.tree;
        assert_eq!(tree.node(tree.root()).metadata.mode, 0o700, "{name}");
    }
}

#[test]
fn attributes_times_devices_and_large_ids_arrive() {
    let mut null = Header::new("dev/null", b'3');
    null.device = (1, 3);
    let mut disk = Header::new("dev/disk", b'4');
    disk.device = (259, 1_048_575);
    let tar = Tar::default()
        .pax(&[
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02=\n\0"),
            ("LIBARCHIVE.xattr.user.a%3Db", b"aGVsbG8"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("mtime", b"1700000000.123456789"),
            ("uid", b"3000000000"),
        ])
        .file("f", "x")
        .header(&null)
        .header(&disk)
        .header(&Header::new("fifo", b'6'))
        .end();
    let (image, _) = unpack_tars(vec![tar]).expect("unpack");
    let kind = |path: &[u8]| &image.tree.node(image.tree.lookup(path).expect("node")).kind;
    let metadata = &image
        .tree
        .node(image.tree.lookup(b"f").expect("f"))
        .metadata;
    assert_eq!(metadata.uid, 3_000_000_000);
    assert_eq!(
        (metadata.mtime, metadata.mtime_nsec),
        (1_700_000_000, 123_456_789)
    );
    let names: Vec<_> = metadata
        .xattrs
        .keys()
        .map(|k| String::from_utf8_lossy(k))
        .collect();
    assert_eq!(
        names,
        ["security.capability", "user.a=b"],
        "no traces of an overlay"
    );
    assert_eq!(
        metadata.xattrs[&b"security.capability"[..]],
        b"\x01\0\0\x02=\n\0"
    );
    assert_eq!(metadata.xattrs[&b"user.a=b"[..]], b"hello");
    assert!(matches!(kind(b"dev/null"), Kind::CharDevice(d) if (d.major, d.minor) == (1, 3)));
    assert!(matches!(kind(b"dev/disk"), Kind::BlockDevice(d) if d.minor == 1_048_575));
    assert!(matches!(kind(b"fifo"), Kind::Fifo));
}

#[test]
fn every_compression_is_seen_from_the_bytes_whatever_the_media_type_says() {
    let tar = below();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("write");
        encoder.finish().expect("finish")
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).expect("zstd");
    let (left, right) = tar.split_at(700);
    for stored in [
        tar.clone(),
        gzip(&tar),
        // As pigz, stargz and zstd:chunked write: several members, and a skippable frame.
        [gzip(left), gzip(right)].concat(),
        zstd(&tar),
        [
            b"\x50\x2a\x4d\x18\x04\0\0\0skip".to_vec(),
            zstd(left),
            zstd(right),
        ]
        .concat(),
    ] {
        let layer = Layer::compressed(&tar, stored);
        let image = unpack_layers(&[layer], &options()).expect("unpack");
        assert_eq!(show(&image, "d/sub"), "deep");
        assert_eq!(image.0.layers[0].tar_bytes, tar.len() as u64);
    }
}

#[test]
fn an_old_tar_without_its_last_padding_or_end_mark_is_whole() {
    let mut cut = Tar::default().file("f", "text").cut();
    cut.truncate(512 + 4);
    let image = unpack_tars(vec![cut]).expect("unpack");
    assert_eq!(show(&image, "f"), "text");
}
