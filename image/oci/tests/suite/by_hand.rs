//! Images made byte by byte: what no tool would write.

use std::fs;
use std::path::Path;

use berth_oci::{Digest, Error, Image, Options, Reference, resolve};
use berth_tree::Spool;
use serde_json::{Value, json};

/// A tar file under construction.
#[derive(Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

/// One header; [`Header::new`] has sensible fields, tests spoil them.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) name: Vec<u8>,
    pub(crate) flag: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
}

impl Header {
    pub(crate) fn new(name: impl AsRef<[u8]>, flag: u8) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            flag,
            link: Vec::new(),
            mode: if flag == b'5' { 0o755 } else { 0o644 },
            uid: 0,
            size: 0,
            device: (0, 0),
        }
    }

    pub(crate) fn bytes(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &self.name);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, format!("{:07o}", self.uid).as_bytes());
        put(116, b"0000000");
        if self.size >> 33 == 0 {
            put(124, format!("{:011o}", self.size).as_bytes());
        } else {
            put(124, &[0x80, 0, 0, 0]);
            put(128, &self.size.to_be_bytes());
        }
        put(136, b"00000000017");
        put(148, b"        ");
        put(156, &[self.flag]);
        put(157, &self.link);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}", self.device.0).as_bytes());
        put(337, format!("{:07o}", self.device.1).as_bytes());
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

impl Tar {
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn header(self, header: &Header) -> Self {
        self.raw(&header.bytes())
    }

    /// A header and its data, padded.
    pub(crate) fn data(self, mut header: Header, data: &[u8]) -> Self {
        header.size = data.len() as u64;
        let padding = data.len().next_multiple_of(512) - data.len();
        self.header(&header).raw(data).raw(&vec![0; padding])
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.header(&Header::new(name, b'5'))
    }

    pub(crate) fn file(self, name: &str, data: &str) -> Self {
        self.data(Header::new(name, b'0'), data.as_bytes())
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(name, target, b'2')
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(name, target, b'1')
    }

    fn link(self, name: &str, target: &str, flag: u8) -> Self {
        let mut header = Header::new(name, flag);
        header.link = target.as_bytes().to_vec();
        self.header(&header)
    }

    /// An extended header for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let len = (body + 1..)
                .find(|len| body + len.to_string().len() == *len)
                .expect("len");
            data.extend_from_slice(format!("{len} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.data(Header::new("pax", b'x'), &data)
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }

    /// Without the end mark.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.0
    }
}

/// A layer as stored, and what its uncompressed bytes hash to.
pub(crate) struct Layer {
    pub(crate) stored: Vec<u8>,
    pub(crate) diff_id: Digest,
    pub(crate) digest: Digest,
    pub(crate) media_type: &'static str,
}

pub(crate) const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

impl Layer {
    pub(crate) fn plain(tar: Vec<u8>) -> Self {
        Self {
            diff_id: Digest::of(&tar),
            digest: Digest::of(&tar),
            stored: tar,
            media_type: PLAIN,
        }
    }

    pub(crate) fn compressed(tar: &[u8], stored: Vec<u8>) -> Self {
        Self {
            diff_id: Digest::of(tar),
            digest: Digest::of(&stored),
            stored,
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }
}

/// A descriptor of `bytes`.
pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

/// The configuration of an image of these layers.
pub(crate) fn config(layers: &[Layer]) -> Vec<u8> {
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
    json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/x"]},
           "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string()
    .into_bytes()
}

/// The manifest of an image of these layers.
pub(crate) fn manifest(config: &[u8], layers: &[Layer]) -> Vec<u8> {
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.stored.len()}))
        .collect();
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
           "config": descriptor("application/vnd.oci.image.config.v1+json", config), "layers": layers})
    .to_string()
    .into_bytes()
}

/// Puts a blob into a layout; the name is what `digest` says, whatever the bytes are.
pub(crate) fn put_blob(layout: &Path, digest: &Digest, bytes: &[u8]) {
    let dir = layout.join("blobs").join(digest.algorithm().name());
    fs::create_dir_all(&dir).expect("blobs");
    fs::write(dir.join(digest.hex()), bytes).expect("blob");
}

/// Writes `index.json` and `oci-layout`.
pub(crate) fn put_index(layout: &Path, manifests: Value) {
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    fs::write(layout.join("index.json"), index.to_string()).expect("index");
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .expect("layout");
}

/// A layout directory with one image.
pub(crate) fn layout(path: &Path, layers: &[Layer]) -> Digest {
    let config = config(layers);
    let manifest = manifest(&config, layers);
    for layer in layers {
        put_blob(path, &layer.digest, &layer.stored);
    }
    put_blob(path, &Digest::of(&config), &config);
    put_blob(path, &Digest::of(&manifest), &manifest);
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    put_index(path, json!([descriptor(manifest_type, &manifest)]));
    Digest::of(&manifest)
}

/// Options that look at nothing of the user's.
pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.registry.cache = None;
    options.registry.auth_file = None;
    options.registry.backoff = std::time::Duration::from_millis(5);
    options
}

/// Resolves and unpacks.
pub(crate) fn unpack(reference: &str, options: &Options) -> Result<(Image, Spool), Error> {
    let reference: Reference = reference.parse()?;
    let mut spool = Spool::new_in(&std::env::temp_dir()).expect("spool");
    let image = resolve(&reference, None, options)?.unpack(&mut spool)?;
    Ok((image, spool))
}

/// An image of these layers, unpacked.
pub(crate) fn unpack_layers(layers: &[Layer], options: &Options) -> Result<(Image, Spool), Error> {
    let dir = tempfile::tempdir().expect("dir");
    layout(dir.path(), layers);
    unpack(&format!("oci:{}", dir.path().display()), options)
}

/// The same, of plain layers.
pub(crate) fn unpack_tars(tars: Vec<Vec<u8>>) -> Result<(Image, Spool), Error> {
    let layers: Vec<Layer> = tars.into_iter().map(Layer::plain).collect();
    unpack_layers(&layers, &options())
}
