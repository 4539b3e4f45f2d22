//! Images that we write: the same bytes each time, and what other tools and we ourselves read
//! from them is what was put in.

use std::fs;

use berth_oci::{Execution, NewImage, write_oci_archive, write_oci_dir};
use berth_tree::{DeviceNumber, Kind, Metadata, Node, Spool, Tree};

use crate::by_hand::{options, unpack};
use crate::listing::{assert_same, of_disk, of_tree};
use crate::tools::{have, path, run};

fn sample() -> (Tree, Spool) {
    let mut spool = Spool::new_in(&std::env::temp_dir()).expect("spool");
    let mut tree = Tree::new(Metadata::system(0o755));
    let mut file = |tree: &mut Tree, path: &str, text: &[u8], mode| {
        let kind = Kind::File(spool.store(text).expect("store"));
        let metadata = Metadata::system(mode);
        tree.insert(path.as_bytes(), Node { metadata, kind })
            .expect("insert")
    };
    tree.create_dirs(b"usr/bin", &Metadata::system(0o755))
        .expect("dirs");
    let web = file(&mut tree, "usr/bin/web", &[7; 100_000], 0o4755);
    file(&mut tree, "usr/empty", b"", 0o644);
    let bin = tree.lookup(b"usr/bin").expect("bin");
    tree.link_in(bin, b"also", web);
    let mut owned = Metadata::system(0o640);
    (owned.uid, owned.gid, owned.mtime) = (1000, 70_000_000, 1_700_000_000);
    owned.xattrs.insert(b"user.note".to_vec(), b"x".to_vec());
    let link = Kind::Symlink(b"usr/bin/web".to_vec());
    tree.insert(
        b"web",
        Node {
            metadata: Metadata::system(0o777),
            kind: link,
        },
    )
    .expect("link");
    let mine = Kind::File(spool.store(b"mine").expect("store"));
    tree.insert(
        b"mine",
        Node {
            metadata: owned,
            kind: mine,
        },
    )
    .expect("mine");
    let null = Kind::CharDevice(DeviceNumber { major: 1, minor: 3 });
    tree.insert(
        b"null",
        Node {
            metadata: Metadata::system(0o666),
            kind: null,
        },
    )
    .expect("null");
    (tree, spool)
}

fn description() -> NewImage {
    NewImage {
        execution: Execution {
            user: "65534".into(),
            entrypoint: vec!["/usr/bin/web".into()],
            env: vec!["A=b".into()],
            exposed_ports: ["8080/tcp".to_owned()].into(),
            stop_signal: "SIGINT".into(),
            ..Execution::default()
        },
        created_by: "by hand".into(),
        tag: Some("demo".into()),
        ..NewImage::default()
    }
}

#[test]
fn an_archive_is_the_same_each_time_and_reads_back() {
    let work = tempfile::tempdir().expect("dir");
    let (tree, spool) = sample();
    let mut first = Vec::new();
    let digest = write_oci_archive(&tree, &spool, &description(), work.path(), &mut first);
    let mut second = Vec::new();
    let (again, other_spool) = sample();
    write_oci_archive(
        &again,
        &other_spool,
        &description(),
        work.path(),
        &mut second,
    )
    .expect("write");
    assert!(first == second, "the bytes differ");

    let file = work.path().join("image.tar");
    fs::write(&file, &first).expect("write");
    let reference = format!("oci-archive:{}:demo", file.display());
    let (image, read) = unpack(&reference, &options()).expect("unpack");
    assert_eq!(image.digest, digest.expect("digest"));
    assert_eq!(image.config.config, description().execution);
    assert_eq!(image.layers[0].created_by, "by hand");
    assert_same(&of_tree(&image.tree, &read), &of_tree(&tree, &spool));
    assert_eq!(
        image.tree.lookup(b"usr/bin/also"),
        image.tree.lookup(b"usr/bin/web")
    );
    let mine = image.tree.node(image.tree.lookup(b"mine").expect("mine"));
    assert_eq!(mine.metadata.xattrs[&b"user.note"[..]], b"x");
}

#[test]
fn other_tools_read_what_we_write() {
    if !have(&["skopeo", "umoci"]) {
        return;
    }
    let work = tempfile::tempdir().expect("dir");
    let (tree, spool) = sample();
    let (dir, archive) = (work.path().join("layout"), work.path().join("image.tar"));
    write_oci_dir(&tree, &spool, &description(), &dir).expect("directory");
    let file = fs::File::create(&archive).expect("create");
    write_oci_archive(&tree, &spool, &description(), work.path(), file).expect("archive");
    let copy = format!("oci-archive:{}:demo", archive.display());
    let target = format!("dir:{}", work.path().join("copy").display());
    run("skopeo", &["--insecure-policy", "copy", &copy, &target]);

    let bundle = work.path().join("bundle");
    run(
        "umoci",
        &[
            "unpack",
            "--image",
            &format!("{}:demo", dir.display()),
            path(&bundle),
        ],
    );
    assert_same(&of_tree(&tree, &spool), &of_disk(&bundle.join("rootfs")));
}

#[test]
fn a_directory_appears_whole_or_not_at_all() {
    let work = tempfile::tempdir().expect("dir");
    let (tree, spool) = sample();
    let taken = work.path().join("taken");
    fs::create_dir(&taken).expect("dir");
    fs::write(taken.join("precious"), "x").expect("file");
    let error = write_oci_dir(&tree, &spool, &description(), &taken).expect_err("taken");
    assert!(error.to_string().contains("taken"), "{error}");
    let left: Vec<_> = fs::read_dir(work.path()).expect("read").collect();
    assert_eq!(left.len(), 1, "nothing half-written stays");
    assert!(taken.join("precious").exists());
}
