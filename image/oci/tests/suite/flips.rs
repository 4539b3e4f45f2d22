//! Random damage: whatever bits are flipped, and wherever an archive is cut, the answer is an
//! image or an error, never a panic; and never another image than the digests say.

use std::path::Path;

use berth_oci::{Digest, Options};

use crate::by_hand::{Header, Layer, Tar, options, unpack, unpack_layers};

/// Marsaglia's xorshift: the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("index")
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = b"0123456789/.=\n\0 "[self.below(16)],
                2 => bytes[at] = u8::try_from(self.below(256)).expect("byte"),
                _ => {
                    let from = self.below(bytes.len());
                    bytes[at] = bytes[from];
                }
            }
        }
        if self.below(8) == 0 {
            let keep = self.below(bytes.len()) + 1;
            bytes.truncate(keep);
        }
    }
}

fn rich_layer() -> Vec<u8> {
    let mut long = Header::new("././@LongLink", b'L');
    long.mode = 0;
    Tar::default()
        .dir("d")
        .data(long, &b"very/long/name".repeat(20))
        .file("short", "text")
        .pax(&[
            ("path", b"pax/name"),
            ("SCHILY.xattr.user.a", b"b"),
            ("LIBARCHIVE.xattr.user.c", b"aGVsbG8="),
            ("mtime", b"17.5"),
        ])
        .file("x", "data")
        .pax(&[("GNU.sparse.map", b"0,2,9,2"), ("GNU.sparse.size", b"20")])
        .file("sparse", "1234")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"30"),
            ("GNU.sparse.name", b"real"),
        ])
        .data(
            Header::new("y", b'0'),
            &[b"1\n5\n4\n".to_vec(), vec![0; 506], b"1234".to_vec()].concat(),
        )
        .symlink("l", "d")
        .file("l/z", "z")
        .hard_link("h", "l/z")
        .file("d/.wh.z", "")
        .header(&Header::new("fifo", b'6'))
        .end()
}

fn small_limits() -> Options {
    let mut options = options();
    options.limits.unpacked_bytes = 1 << 20;
    options.limits.archive_bytes = 1 << 20;
    options
}

#[test]
fn a_damaged_layer_never_panics() {
    let mut random = Random(0x5eed_0001);
    let good = rich_layer();
    unpack_layers(&[Layer::plain(good.clone())], &small_limits()).expect("undamaged");
    let mut accepted = 0;
    // The damage is below the digests, as if the image's maker had meant it.
    for _ in 0..2000 {
        let mut bad = good.clone();
        random.damage(&mut bad);
        accepted += u32::from(unpack_layers(&[Layer::plain(bad)], &small_limits()).is_ok());
    }
    assert!(
        (1..2000).contains(&accepted),
        "{accepted} of 2000: the damage is too small or too large"
    );
}

#[test]
fn a_damaged_archive_never_panics_and_never_yields_another_image() {
    let mut random = Random(0x5eed_0002);
    let work = tempfile::tempdir().expect("dir");
    let (good, expected) = archive(work.path());
    let file = work.path().join("damaged");
    for kind in ["oci-archive", "docker-archive"] {
        let reference = format!("{kind}:{}", file.display());
        for _ in 0..1000 {
            let mut bad = good.clone();
            random.damage(&mut bad);
            std::fs::write(&file, bad).expect("write");
            if let Ok((image, _)) = unpack(&reference, &small_limits()) {
                assert_eq!(image.layers[0].diff_id, expected);
            }
        }
    }
}

/// An archive that is an OCI layout and what `docker save` writes at once.
fn archive(work: &Path) -> (Vec<u8>, Digest) {
    let layer = Layer::plain(rich_layer());
    let diff_id = layer.diff_id.clone();
    let dir = work.join("layout");
    crate::by_hand::layout(&dir, std::slice::from_ref(&layer));
    let config = Digest::of(&crate::by_hand::config(std::slice::from_ref(&layer)));
    let mut tar = Tar::default();
    for name in ["oci-layout", "index.json"] {
        tar = tar.data(
            Header::new(name, b'0'),
            &std::fs::read(dir.join(name)).expect("read"),
        );
    }
    for blob in std::fs::read_dir(dir.join("blobs/sha256")).expect("blobs") {
        let blob = blob.expect("blob");
        let name = format!("blobs/sha256/{}", blob.file_name().to_string_lossy());
        tar = tar.data(
            Header::new(name, b'0'),
            &std::fs::read(blob.path()).expect("read"),
        );
    }
    let saved = format!(
        r#"[{{"Config":"blobs/sha256/{}","RepoTags":["x:1"],"Layers":["blobs/sha256/{}"]}}]"#,
        config.hex(),
        diff_id.hex()
    );
    (tar.file("manifest.json", &saved).end(), diff_id)
}
