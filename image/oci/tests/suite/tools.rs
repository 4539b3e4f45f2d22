//! Images made by other people's tools are read as those tools read them: umoci and skopeo as
//! producers, GNU tar and umoci's unpacking as the oracle. Skips loudly where a tool is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_oci::{Options, Reference, resolve};
use berth_tree::Kind;

use crate::by_hand::unpack;
use crate::listing::{assert_same, of_disk, of_tree};

/// Runs a tool; false, loudly, when it is not installed.
pub(crate) fn have(tools: &[&str]) -> bool {
    for tool in tools {
        if Command::new(tool).arg("--version").output().is_err() {
            eprintln!("SKIPPED: {tool} is not installed");
            return false;
        }
    }
    true
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .env("XDG_RUNTIME_DIR", "/nonexistent")
        .output()
        .expect(program);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("path")
}

/// A tree with what images have: links of both kinds, set-id bits, long names, a sparse file.
fn sample(root: &Path) {
    for dir in [
        "bin",
        "etc",
        "var/empty",
        "usr/share/doc",
        "opt/replaced",
        "srv/opaque",
    ] {
        fs::create_dir_all(root.join(dir)).expect("dir");
    }
    fs::write(root.join("bin/busybox"), vec![b'b'; 300_000]).expect("file");
    fs::hard_link(root.join("bin/busybox"), root.join("bin/sh")).expect("hard link");
    fs::set_permissions(root.join("bin/busybox"), fs::Permissions::from_mode(0o4755))
        .expect("mode");
    std::os::unix::fs::symlink("usr/share", root.join("share")).expect("symlink");
    std::os::unix::fs::symlink("../../etc/passwd", root.join("usr/share/pw")).expect("symlink");
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nweb:x:7:8::/srv:\n",
    )
    .expect("file");
    fs::write(root.join("opt/replaced/file"), "below").expect("file");
    fs::write(root.join("srv/opaque/below"), "below").expect("file");
    fs::write(root.join("etc/gone"), "gone").expect("file");
    let long = format!("usr/share/doc/{}/{}", "d".repeat(90), "n".repeat(200));
    fs::create_dir_all(root.join(&long).parent().expect("parent")).expect("dir");
    fs::write(root.join(&long), "long").expect("file");
    let sparse = fs::File::create(root.join("var/sparse")).expect("sparse");
    sparse.set_len(5 << 20).expect("size");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 3 << 20).expect("data");
}

/// An OCI layout with two layers, made by umoci.
pub(crate) fn umoci_image(work: &Path) -> PathBuf {
    let (root, layout) = (work.join("rootfs"), work.join("layout"));
    fs::create_dir_all(&root).expect("root");
    sample(&root);
    let image = format!("{}:v1", layout.display());
    run("umoci", &["init", "--layout", path(&layout)]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["insert", "--image", &image, path(&root), "/"]);
    run(
        "umoci",
        &[
            "config",
            "--image",
            &image,
            "--config.user",
            "web",
            "--config.entrypoint",
            "/bin/sh",
            "--config.env",
            "A=b",
        ],
    );
    // The second layer takes away, replaces and adds, through umoci's own unpacking.
    let bundle = work.join("bundle");
    run("umoci", &["unpack", "--image", &image, path(&bundle)]);
    let below = bundle.join("rootfs");
    fs::remove_file(below.join("etc/gone")).expect("remove");
    fs::remove_dir_all(below.join("opt/replaced")).expect("remove");
    fs::write(below.join("opt/replaced"), "now a file").expect("file");
    fs::write(below.join("usr/share/added"), "added").expect("file");
    run("umoci", &["repack", "--image", &image, path(&bundle)]);
    run(
        "umoci",
        &[
            "insert",
            "--opaque",
            "--image",
            &image,
            path(&root.join("etc")),
            "/srv/opaque",
        ],
    );
    layout
}

#[test]
fn what_umoci_packs_is_unpacked_as_umoci_does() {
    if !have(&["umoci"]) {
        return;
    }
    let work = tempfile::tempdir().expect("dir");
    let layout = umoci_image(work.path());
    let reference = format!("oci:{}:v1", layout.display());
    let (image, spool) = unpack(&reference, &Options::default()).expect("unpack");
    assert_eq!(image.layers.len(), 3);
    assert_eq!(image.config.config.user, "web");
    assert_eq!(
        image.config.config.env.last().map(String::as_str),
        Some("A=b")
    );

    let oracle = work.path().join("oracle");
    let name = format!("{}:v1", layout.display());
    run("umoci", &["unpack", "--image", &name, path(&oracle)]);
    assert_same(
        &of_tree(&image.tree, &spool),
        &of_disk(&oracle.join("rootfs")),
    );

    let tree = &image.tree;
    assert_eq!(
        tree.lookup(b"bin/sh"),
        tree.lookup(b"bin/busybox"),
        "hard links"
    );
    assert!(tree.lookup(b"etc/gone").is_none() && tree.lookup(b"srv/opaque/below").is_none());
    let layer = |path: &[u8]| image.attribution.layer_of(tree.lookup(path).expect("node"));
    assert_eq!(
        (
            layer(b"bin/sh"),
            layer(b"opt/replaced"),
            layer(b"srv/opaque/passwd")
        ),
        (0, 1, 2)
    );
    let user = berth_oci::resolve_user(tree, &spool, &image.config.config.user).expect("user");
    assert_eq!((user.uid, user.gid), (7, 8));
}

#[test]
fn the_same_image_is_the_same_in_every_container_format() {
    if !have(&["umoci", "skopeo"]) {
        return;
    }
    let work = tempfile::tempdir().expect("dir");
    let layout = umoci_image(work.path());
    let (oci, docker) = (work.path().join("oci.tar"), work.path().join("docker.tar"));
    let source = format!("oci:{}:v1", layout.display());
    let copy = |target: &str| {
        run("skopeo", &["--insecure-policy", "copy", &source, target]);
    };
    copy(&format!("oci-archive:{}:v1", oci.display()));
    copy(&format!("docker-archive:{}:web:2", docker.display()));
    run("gzip", &["-k", path(&docker)]);

    let options = Options::default();
    let (first, spool) = unpack(&source, &options).expect("oci");
    let expected = of_tree(&first.tree, &spool);
    let mut docker_digests = Vec::new();
    for reference in [
        format!("oci:{}", layout.display()),
        format!("oci-archive:{}", oci.display()),
        format!("oci-archive:{}:v1", oci.display()),
        format!("docker-archive:{}", docker.display()),
        format!("docker-archive:{}:web:2", docker.display()),
        format!(
            "docker-archive:{}:docker.io/library/web:2",
            docker.display()
        ),
        format!("docker-archive:{}.gz", docker.display()),
    ] {
        let (image, spool) = unpack(&reference, &options).expect(&reference);
        assert_same(&of_tree(&image.tree, &spool), &expected);
        assert_eq!(image.config.config, first.config.config, "{reference}");
        match reference.starts_with("docker") {
            true => docker_digests.push(image.digest),
            false => assert_eq!(image.digest, first.digest, "{reference}"),
        }
    }
    // The digest that stands for a saved image is the one that skopeo gives it.
    let output = Command::new("skopeo")
        .args([
            "inspect",
            "--format",
            "{{.Digest}}",
            &format!("docker-archive:{}", docker.display()),
        ])
        .output()
        .expect("skopeo");
    let skopeo = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    for digest in docker_digests {
        assert_eq!(digest.to_string(), skopeo);
    }

    for (reference, says) in [
        (format!("oci:{}:v2", layout.display()), "only v1"),
        (
            format!("docker-archive:{}:other", docker.display()),
            "only docker.io/library/web:2",
        ),
        (
            format!("oci-archive:{}", docker.display()),
            "use docker-archive:",
        ),
        (format!("oci:{}", docker.display()), "not a directory"),
        (
            format!("oci-archive:{}.none", docker.display()),
            "cannot open",
        ),
    ] {
        let error = unpack(&reference, &options)
            .expect_err(&reference)
            .to_string();
        assert!(
            error.contains(says) && error.contains(path(work.path())),
            "{error}"
        );
    }
}

#[test]
fn a_lock_file_outlives_its_tag_and_never_accepts_another_image() {
    if !have(&["umoci", "skopeo"]) {
        return;
    }
    let work = tempfile::tempdir().expect("dir");
    let layout = umoci_image(work.path());
    let reference: Reference = format!("oci:{}:v1", layout.display())
        .parse()
        .expect("reference");
    let options = Options::default();
    let locked = resolve(&reference, None, &options)
        .expect("resolve")
        .digest()
        .clone();
    let name = format!("{}:v1", layout.display());
    run(
        "umoci",
        &["config", "--image", &name, "--config.user", "root"],
    );
    let moved = resolve(&reference, None, &options)
        .expect("moved")
        .digest()
        .clone();
    assert_ne!(moved, locked);
    let still = resolve(&reference, Some(&locked), &options).expect("locked");
    assert_eq!(
        (still.digest(), still.config().config.user.as_str()),
        (&locked, "web")
    );
    // umoci's own garbage collection takes the old manifest away.
    run("umoci", &["gc", "--layout", path(&layout)]);
    let error = resolve(&reference, Some(&locked), &options)
        .expect_err("gone")
        .to_string();
    assert!(
        error.contains(&moved.to_string()) && error.contains("lock file"),
        "{error}"
    );
}

#[test]
fn gnu_tar_in_all_its_formats_is_read() {
    if !have(&["tar"]) {
        return;
    }
    let work = tempfile::tempdir().expect("dir");
    let root = work.path().join("root");
    fs::create_dir(&root).expect("root");
    sample(&root);
    run("mkfifo", &[path(&root.join("fifo"))]);
    let formats: [&[&str]; 6] = [
        &["--format=gnu"],
        &["--format=posix"],
        &["--format=gnu", "--sparse"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
    ];
    for format in formats {
        let tar = work.path().join("layer.tar");
        let mut arguments = vec!["-C", path(&root), "-cf", path(&tar)];
        arguments.extend(format);
        arguments.push(".");
        run("tar", &arguments);
        let archive = work.path().join("image.tar");
        docker_archive(&fs::read(&tar).expect("layer"), &archive);
        let reference = format!("docker-archive:{}", archive.display());
        let (image, spool) = unpack(&reference, &Options::default()).expect("unpack");
        assert_same(&of_tree(&image.tree, &spool), &of_disk(&root));
        let sparse = image.tree.lookup(b"var/sparse").expect("sparse");
        let Kind::File(content) = &image.tree.node(sparse).kind else {
            panic!("not a file");
        };
        let on_disk = fs::read(root.join("var/sparse")).expect("sparse");
        assert!(
            spool.read(content).expect("content") == on_disk,
            "{format:?}: sparse data"
        );
    }
}

/// What `docker save` wrote of old, with one layer.
fn docker_archive(layer: &[u8], output: &Path) {
    let work = tempfile::tempdir().expect("dir");
    let diff_id = berth_oci::Digest::of(layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    fs::write(work.path().join("config.json"), config).expect("config");
    fs::write(work.path().join("layer.tar"), layer).expect("layer");
    let manifest = r#"[{"Config":"config.json","RepoTags":null,"Layers":["layer.tar"]}]"#;
    fs::write(work.path().join("manifest.json"), manifest).expect("manifest");
    run("tar", &["-C", path(work.path()), "-cf", path(output), "."]);
}
