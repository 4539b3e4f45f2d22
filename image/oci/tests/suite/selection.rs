//! Which image is meant: platforms, nested indexes, tags, caps on documents.

use std::fs;

use berth_oci::{Digest, Platform, Reference, resolve};
use serde_json::{Value, json};

use crate::by_hand::{
    Layer, Tar, config, descriptor, layout, manifest, options, put_blob, put_index,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("dir"),
        }
    }

    /// A blob and its descriptor.
    fn put(&self, media_type: &str, bytes: &[u8]) -> Value {
        put_blob(self.dir.path(), &Digest::of(bytes), bytes);
        descriptor(media_type, bytes)
    }

    /// An image that differs from others by `text`; its descriptor.
    fn image(&self, text: &str, architecture: &str) -> Value {
        let layers = [Layer::plain(Tar::default().file("f", text).end())];
        put_blob(self.dir.path(), &layers[0].digest, &layers[0].stored);
        let config = String::from_utf8(config(&layers)).expect("json");
        let config = config.replace("amd64", architecture).into_bytes();
        put_blob(self.dir.path(), &Digest::of(&config), &config);
        self.put(MANIFEST, &manifest(&config, &layers))
    }

    fn reference(&self, tag: &str) -> Reference {
        format!("oci:{}{tag}", self.dir.path().display())
            .parse()
            .expect("reference")
    }

    fn digest(&self, tag: &str) -> Result<String, String> {
        resolve(&self.reference(tag), None, &options())
            .map(|found| found.digest().to_string())
            .map_err(|error| error.to_string())
    }
}

fn for_platform(mut image: Value, architecture: &str) -> Value {
    image["platform"] = json!({"os": "linux", "architecture": architecture});
    image
}

fn named(mut image: Value, name: &str) -> Value {
    image["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    image
}

#[test]
fn the_platform_is_found_through_nested_indexes() {
    let fixture = Fixture::new();
    let amd64 = fixture.image("amd64", "amd64");
    let arm64 = fixture.image("arm64", "arm64");
    let mut index = json!([
        for_platform(arm64.clone(), "arm64"),
        for_platform(amd64.clone(), "amd64")
    ]);
    for _ in 0..3 {
        let bytes = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": index}).to_string();
        index = json!([fixture.put(INDEX, bytes.as_bytes())]);
    }
    put_index(fixture.dir.path(), index.clone());
    assert_eq!(
        fixture.digest("").as_deref(),
        Ok(amd64["digest"].as_str().expect("digest"))
    );

    let mut options = options();
    options.platform = Platform {
        os: "linux".into(),
        architecture: "arm64".into(),
    };
    let found = resolve(&fixture.reference(""), None, &options).expect("arm64");
    assert_eq!(json!(found.digest()), arm64["digest"]);

    for _ in 0..3 {
        let bytes = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": index}).to_string();
        index = json!([fixture.put(INDEX, bytes.as_bytes())]);
    }
    put_index(fixture.dir.path(), index);
    let error = fixture.digest("").expect_err("too deep");
    assert!(error.contains("nesting"), "{error}");
}

#[test]
fn an_image_for_another_machine_is_refused_even_when_nothing_announced_it() {
    let fixture = Fixture::new();
    put_index(fixture.dir.path(), json!([fixture.image("x", "riscv64")]));
    let error = fixture.digest("").expect_err("riscv64");
    assert!(
        error.contains("linux/riscv64") && error.contains("linux/amd64"),
        "{error}"
    );
}

#[test]
fn tags_are_needed_only_where_several_images_are() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.image("1", "amd64"), fixture.image("2", "amd64"));
    put_index(fixture.dir.path(), json!([named(one.clone(), "v1")]));
    assert_eq!(fixture.digest("").ok().as_deref(), one["digest"].as_str());
    put_index(
        fixture.dir.path(),
        json!([named(one.clone(), "v1"), named(two.clone(), "v2")]),
    );
    assert_eq!(
        fixture.digest(":v2").ok().as_deref(),
        two["digest"].as_str()
    );
    let error = fixture.digest("").expect_err("ambiguous");
    assert!(error.contains("v1, v2"), "{error}");
    let error = fixture.digest(":v3").expect_err("unknown");
    assert!(error.contains("v1, v2") && error.contains("v3"), "{error}");
    put_index(fixture.dir.path(), json!([]));
    assert!(fixture.digest("").expect_err("empty").contains("no image"));
}

#[test]
fn documents_have_caps() {
    let fixture = Fixture::new();
    let layers = [Layer::plain(Tar::default().end())];
    layout(fixture.dir.path(), &layers);
    fixture.digest("").expect("a good layout");
    let mut options = options();
    options.limits.config_bytes = 10;
    let error = resolve(&fixture.reference(""), None, &options)
        .expect_err("config")
        .to_string();
    assert!(
        error.contains("configuration") && error.contains("10 bytes"),
        "{error}"
    );
    options.limits.manifest_bytes = 10;
    let error = resolve(&fixture.reference(""), None, &options)
        .expect_err("index")
        .to_string();
    assert!(error.contains("limit of 10 bytes"), "{error}");
    let mut options = crate::by_hand::options();
    options.limits.layers = 0;
    let error = resolve(&fixture.reference(""), None, &options)
        .expect_err("layers")
        .to_string();
    assert!(error.contains("0 layers"), "{error}");
}

#[test]
fn manifests_that_lie_are_refused() {
    let fixture = Fixture::new();
    let image = fixture.image("x", "amd64");
    let digest: Digest = image["digest"]
        .as_str()
        .expect("digest")
        .parse()
        .expect("digest");
    let blob = fixture.dir.path().join("blobs/sha256").join(digest.hex());
    let good = fs::read(&blob).expect("manifest");
    put_index(fixture.dir.path(), json!([image]));
    fs::write(&blob, [&good[..], b" "].concat()).expect("write");
    assert!(fixture.digest("").expect_err("longer").contains("bytes"));
    fs::write(&blob, good.iter().rev().copied().collect::<Vec<_>>()).expect("write");
    assert!(fixture.digest("").expect_err("other").contains("digest"));
    fs::remove_file(&blob).expect("remove");
    assert!(fixture.digest("").expect_err("none").contains("missing"));
    // One layer in the manifest, none in the configuration.
    let layers = [Layer::plain(Tar::default().end())];
    let config = config(&[]);
    fixture.put("", &config);
    put_index(
        fixture.dir.path(),
        json!([fixture.put(MANIFEST, &manifest(&config, &layers))]),
    );
    let error = fixture.digest("").expect_err("layers");
    assert!(error.contains("0 layers") && error.contains("1"), "{error}");
    fs::write(
        fixture.dir.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"2.0"}"#,
    )
    .expect("x");
    assert!(fixture.digest("").expect_err("version").contains("2.0"));
}
