//! A directory with everything that a build needs and that is small: a configuration, an image
//! made by our own writer, a file that plays the kernel, parts that play the tool's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use berth_oci::{Execution, NewImage};
use berth_tree::{Kind, Metadata, Node, Spool, Tree};

/// Where Debian and Ubuntu keep the stub.
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// A correct configuration for [`Fixture::image`].
pub(crate) const CONFIG: &str = r#"schema = 1
[image]
name = "test"
version = "1.2.3"
[container.web]
image = "oci:image"
network = "host"
mounts = [{ tmpfs = "/tmp/x" }, { volume = "data", target = "/data" }]
"#;

/// A directory that goes away with the test.
#[derive(Debug)]
pub(crate) struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    /// Everything in place. `None`, said loudly, on a computer without systemd-stub.
    pub(crate) fn new() -> Option<Self> {
        if !Path::new(STUB).exists() {
            eprintln!("SKIPPED: {STUB} is missing (package systemd-boot-efi)");
            return None;
        }
        let fixture = Self {
            directory: tempfile::tempdir().expect("a directory"),
        };
        let assets = fixture.path("assets");
        fs::create_dir(&assets).expect("assets");
        fs::copy(STUB, assets.join("stub.efi")).expect("stub");
        for (name, bytes) in [
            ("init", &b"init"[..]),
            ("demo", b"demo"),
            ("state.template", b"template"),
        ] {
            fs::write(assets.join(name), bytes).expect(name);
        }
        fs::write(fixture.path("kernel"), kernel()).expect("kernel");
        fs::write(fixture.path("berth.toml"), CONFIG).expect("configuration");
        fixture.image("image", b"#!/bin/server\n");
        Some(fixture)
    }

    /// Everything in place to publish, as small as it can be: keys, and a kernel of a few KiB.
    pub(crate) fn small() -> Option<Self> {
        let fixture = Self::new()?;
        let kernel = &kernel()[..16 << 10];
        fs::write(fixture.path("kernel"), kernel).expect("kernel");
        assert!(fixture.berth(&["keys", "new"]).status.success());
        Some(fixture)
    }

    /// Builds a version of its own content into a directory of its name.
    pub(crate) fn version(&self, version: &str, more: &str) {
        let config = CONFIG.replace("1.2.3", version);
        let config = config.replace("[container.web]", &format!("{more}\n[container.web]"));
        fs::write(self.path("berth.toml"), config).expect("configuration");
        let output = self.build(&["--out", version, "--update-lock"]);
        assert!(output.status.success(), "{}", said(&output));
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes an image in the OCI directory `name`, whose program has these bytes.
    pub(crate) fn image(&self, name: &str, program: &[u8]) {
        self.image_with(name, program, |_, _, _| {});
    }

    /// The same, with what somebody does to it, who is given the program as well.
    pub(crate) fn image_with(
        &self,
        name: &str,
        program: &[u8],
        change: impl FnOnce(&mut Tree, &Node, &mut NewImage),
    ) {
        let mut spool = Spool::new_in(self.directory.path()).expect("spool");
        let content = spool.store(program).expect("store");
        let mut tree = Tree::new(Metadata::system(0o755));
        tree.create_dirs(b"bin", &Metadata::system(0o755))
            .expect("bin");
        let node = Node {
            metadata: Metadata::system(0o755),
            kind: Kind::File(content),
        };
        tree.insert(b"bin/server", node.clone()).expect("server");
        let mut image = NewImage {
            execution: Execution {
                entrypoint: vec!["/bin/server".to_owned()],
                exposed_ports: ["80/tcp".to_owned()].into(),
                ..Execution::default()
            },
            created: Some("2020-01-01T00:00:00Z".to_owned()),
            ..NewImage::default()
        };
        change(&mut tree, &node, &mut image);
        let path = self.path(name);
        if path.exists() {
            fs::remove_dir_all(&path).expect("the old image");
        }
        berth_oci::write_oci_dir(&tree, &spool, &image, &path).expect("an image");
    }

    /// The command, in this directory, with these parts.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command
            .current_dir(self.directory.path())
            .env("BERTH_ASSETS", self.path("assets"))
            .env("HOME", self.directory.path())
            .env_remove("SOURCE_DATE_EPOCH");
        command
    }

    /// Runs the command with arguments.
    pub(crate) fn berth(&self, arguments: &[&str]) -> Output {
        self.command()
            .args(arguments)
            .output()
            .expect("the command starts")
    }

    /// Builds with the file that plays the kernel.
    pub(crate) fn build(&self, more: &[&str]) -> Output {
        let arguments = [&["build", "berth.toml", "--kernel", "kernel"], more].concat();
        self.berth(&arguments)
    }
}

/// Bytes that begin as a kernel with an EFI stub does: MZ, PE signature, COFF header for x86-64,
/// optional header of PE32+.
fn kernel() -> Vec<u8> {
    let mut kernel: Vec<u8> = (0..300_000_u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    kernel[..2].copy_from_slice(b"MZ");
    kernel[0x3c..0x40].copy_from_slice(&0x40_u32.to_le_bytes());
    kernel[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
    kernel[0x58..0x5a].copy_from_slice(&0x020b_u16.to_le_bytes());
    kernel
}

/// What a command said to people.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
