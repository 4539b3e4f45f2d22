//! Registries, good ones (Debian's docker-registry, with and without TLS) and bad ones.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_oci::{Digest, Error, Image, Options, Reference, RegistryError, resolve};
use berth_tree::Spool;

use crate::by_hand::{Layer, Tar, config, manifest, options, unpack};
use crate::listing::{assert_same, of_tree};
use crate::server::{Answer, Request, Server};
use crate::tools::{have, path, run, umoci_image};

/// Debian's registry, ended when dropped.
struct DockerRegistry {
    process: Child,
    host: String,
    _work: tempfile::TempDir,
}

impl DockerRegistry {
    /// With a certificate and its key, it speaks TLS.
    fn start(tls: Option<(&Path, &Path)>) -> Self {
        let work = tempfile::tempdir().expect("dir");
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").expect("port");
            free.local_addr().expect("address").port()
        };
        let tls = tls.map_or(String::new(), |(certificate, key)| {
            let (certificate, key) = (certificate.display(), key.display());
            format!("  tls:\n    certificate: {certificate}\n    key: {key}\n")
        });
        let settings = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:{port}\n{tls}",
            work.path().display()
        );
        let file = work.path().join("config.yml");
        fs::write(&file, settings).expect("settings");
        let process = Command::new("docker-registry")
            .args(["serve", path(&file)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry");
        let registry = Self {
            process,
            host: format!("localhost:{port}"),
            _work: work,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        registry
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.process.kill().expect("kill");
        self.process.wait().expect("wait");
    }
}

fn resolved(reference: &str, options: &Options) -> Result<berth_oci::Resolved, Error> {
    resolve(&reference.parse::<Reference>()?, None, options)
}

#[test]
fn an_image_from_a_registry_is_the_image_that_was_pushed() {
    if !have(&["umoci", "skopeo", "docker-registry"]) {
        return;
    }
    let work = tempfile::tempdir().expect("dir");
    let layout = umoci_image(work.path());
    let registry = DockerRegistry::start(None);
    let source = format!("oci:{}:v1", layout.display());
    for (format, tag) in [("oci", "oci"), ("v2s2", "docker")] {
        let target = format!("docker://{}/team/web:{tag}", registry.host);
        run(
            "skopeo",
            &[
                "--insecure-policy",
                "copy",
                "--dest-tls-verify=false",
                "--format",
                format,
                &source,
                &target,
            ],
        );
    }
    let mut options = options();
    options.registry.cache = Some(work.path().join("cache"));
    let (original, spool) = unpack(&source, &options).expect("layout");
    let expected = of_tree(&original.tree, &spool);
    let reference = format!("{}/team/web:oci", registry.host);
    let (image, spool) = unpack(&reference, &options).expect("oci");
    assert_eq!(image.digest, original.digest);
    assert_same(&of_tree(&image.tree, &spool), &expected);
    let (docker, spool) =
        unpack(&format!("{}/team/web:docker", registry.host), &options).expect("docker");
    assert_same(&of_tree(&docker.tree, &spool), &expected);

    let by_digest = format!("{}/team/web@{}", registry.host, image.digest);
    assert_eq!(
        resolved(&by_digest, &options).expect("digest").digest(),
        &image.digest
    );
    let error = resolved(&format!("{}/team/web:none", registry.host), &options).expect_err("tag");
    assert!(
        matches!(error, Error::Registry(RegistryError::NotFound { .. })),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .to_lowercase()
            .contains("manifest unknown"),
        "{error}"
    );

    // With the digest from a lock file and a warm cache, nobody is asked at all.
    drop(registry);
    let reference: Reference = reference.parse().expect("reference");
    let locked = resolve(&reference, Some(&image.digest), &options).expect("locked");
    let mut spool = Spool::new_in(work.path()).expect("spool");
    let again = locked.unpack(&mut spool).expect("unpack");
    assert_same(&of_tree(&again.tree, &spool), &expected);
    let error = resolve(&reference, None, &options).expect_err("the tag needs the registry");
    assert!(
        matches!(error, Error::Registry(RegistryError::Unreachable { .. })),
        "{error}"
    );
}

#[test]
fn a_private_authority_must_be_named() {
    if !have(&["skopeo", "docker-registry", "openssl"]) {
        return;
    }
    let work = tempfile::tempdir().expect("dir");
    let (certificate, key) = (work.path().join("ca.pem"), work.path().join("key.pem"));
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            path(&key),
            "-out",
            path(&certificate),
        ],
    );
    let registry = DockerRegistry::start(Some((&certificate, &key)));
    let layout = work.path().join("layout");
    crate::by_hand::layout(
        &layout,
        &[Layer::plain(Tar::default().file("f", "x").end())],
    );
    let source = format!("oci:{}", layout.display());
    let target = format!("docker://{}/x:1", registry.host);
    run(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "--dest-tls-verify=false",
            &source,
            &target,
        ],
    );
    let reference = format!("{}/x:1", registry.host);
    let mut options = options();
    let error = resolved(&reference, &options).expect_err("unknown authority");
    assert!(
        matches!(error, Error::Registry(RegistryError::Certificate { .. })),
        "{error}"
    );
    options.registry.ca_files = vec![certificate];
    assert_eq!(
        resolved(&reference, &options)
            .expect("known")
            .layers()
            .len(),
        1
    );
    options.registry.ca_files = vec![key];
    let error = resolved(&reference, &options)
        .expect_err("not a certificate")
        .to_string();
    assert!(
        error.contains("key.pem") && error.contains("PEM"),
        "{error}"
    );
}

/// An image as a registry serves it.
struct Served {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Layer,
}

impl Served {
    fn new() -> Self {
        let text = "0123456789".repeat(20_000);
        let layer = Layer::plain(Tar::default().file("f", &text).end());
        let config = config(std::slice::from_ref(&layer));
        Self {
            manifest: manifest(&config, std::slice::from_ref(&layer)),
            config,
            layer,
        }
    }

    fn is_layer(&self, request: &Request) -> bool {
        request.target.ends_with(&self.layer.digest.to_string())
    }

    fn answer(&self, request: &Request) -> Answer {
        let body = if request.target.contains("/manifests/") {
            &self.manifest
        } else if request
            .target
            .ends_with(&Digest::of(&self.config).to_string())
        {
            &self.config
        } else if self.is_layer(request) {
            &self.layer.stored
        } else {
            let error = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"never heard of it"}]}"#;
            return Answer::new(404, error);
        };
        Answer::new(200, body.clone())
    }
}

fn fetch(server: &Server, options: &Options) -> Result<Image, Error> {
    unpack(&format!("{}/x:1", server.host()), options).map(|(image, _)| image)
}

#[test]
fn a_transfer_that_breaks_off_is_continued_where_it_stopped() {
    let served = Served::new();
    let server = Server::start(move |request| {
        let whole = served.answer(request);
        match (served.is_layer(request), request.from()) {
            (false, _) => whole,
            (true, None) => whole.cut_at(50_000),
            (true, Some(from)) => {
                let bytes = &served.layer.stored;
                let rest = bytes[from..].to_vec();
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                let keep = rest.len().min(50_000);
                Answer::new(206, rest)
                    .header("Content-Range", range)
                    .cut_at(keep)
            }
        }
    });
    // More interruptions than tries: each brought something.
    let mut options = options();
    options.registry.attempts = 2;
    fetch(&server, &options).expect("in the end");
    let starts: Vec<_> = server.seen().iter().filter_map(Request::from).collect();
    assert_eq!(starts, [50_000, 100_000, 150_000, 200_000]);
}

#[test]
fn a_server_that_always_starts_over_is_given_up_with_what_came() {
    let served = Served::new();
    let server = Server::start(move |request| match served.is_layer(request) {
        true => served.answer(request).cut_at(1000),
        false => served.answer(request),
    });
    let mut options = options();
    options.registry.attempts = 3;
    let error = fetch(&server, &options).expect_err("truncated");
    assert!(
        matches!(
            error,
            Error::Registry(RegistryError::Transfer { bytes: 1000, .. })
        ),
        "{error}"
    );
    assert_eq!(server.count("/blobs/sha256"), 1 + 3);
}

#[test]
fn a_server_that_falls_silent_is_not_waited_for_for_ever() {
    let served = Served::new();
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let first = served.is_layer(request) && tries.fetch_add(1, Ordering::SeqCst) == 0;
        match first {
            true => served.answer(request).hanging_at(10),
            false => served.answer(request),
        }
    });
    let mut options = options();
    options.registry.stall_timeout = Duration::from_millis(300);
    fetch(&server, &options).expect("the second try");
}

#[test]
fn wrong_bytes_are_refused_and_leave_nothing_in_the_cache() {
    let served = Served::new();
    let layer = served.layer.digest.clone();
    let server = Server::start(move |request| match served.is_layer(request) {
        true => Answer::new(200, vec![b'x'; served.layer.stored.len()]),
        false => served.answer(request),
    });
    let cache = tempfile::tempdir().expect("dir");
    let mut options = options();
    options.registry.cache = Some(cache.path().to_owned());
    let error = fetch(&server, &options).expect_err("wrong");
    assert!(
        matches!(&error, Error::WrongDigest { expected, .. } if *expected == layer),
        "{error}"
    );
    assert!(error.to_string().contains(&server.host()), "{error}");
    assert!(!cache.path().join("sha256").join(layer.hex()).exists());
    let left: Vec<_> = fs::read_dir(cache.path())
        .expect("read")
        .map(|e| e.expect("e").file_name())
        .collect();
    assert_eq!(left, ["sha256"], "no unfinished file stays");
}

#[test]
fn a_manifest_that_is_not_the_one_asked_for_is_refused() {
    let served = Served::new();
    let server = Server::start(move |request| served.answer(request));
    let wanted = Digest::of(b"something else");
    let error = resolved(&format!("{}/x@{wanted}", server.host()), &options()).expect_err("other");
    assert!(
        matches!(&error, Error::WrongDigest { expected, .. } if *expected == wanted),
        "{error}"
    );
}

#[test]
fn a_damaged_cache_is_repaired_from_the_registry() {
    let served = Served::new();
    let layer = served.layer.digest.clone();
    let server = Server::start(move |request| served.answer(request));
    let cache = tempfile::tempdir().expect("dir");
    let mut options = options();
    options.registry.cache = Some(cache.path().to_owned());
    fetch(&server, &options).expect("cold");
    let blob = cache.path().join("sha256").join(layer.hex());
    let good = fs::read(&blob).expect("cached");
    fetch(&server, &options).expect("warm");
    assert_eq!(
        server.count(&layer.to_string()),
        1,
        "the second time came from the cache"
    );
    fs::write(&blob, b"damaged").expect("damage");
    fetch(&server, &options).expect("repaired");
    assert!(fs::read(&blob).expect("cached") == good);
    fs::remove_dir_all(cache.path()).expect("delete the cache");
    fetch(&server, &options).expect("without it");
}

#[test]
fn builds_at_the_same_time_share_a_cache() {
    let served = Served::new();
    let server = Server::start(move |request| served.answer(request));
    let cache = tempfile::tempdir().expect("dir");
    let mut options = options();
    options.registry.cache = Some(cache.path().to_owned());
    let digests: Vec<Digest> = std::thread::scope(|scope| {
        let build = || fetch(&server, &options).expect("build").digest;
        let builds: Vec<_> = (0..8).map(|_| scope.spawn(build)).collect();
        builds
            .into_iter()
            .map(|build| build.join().expect("join"))
            .collect()
    });
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    let blobs = fs::read_dir(cache.path().join("sha256"))
        .expect("read")
        .count();
    assert_eq!(
        (blobs, fs::read_dir(cache.path()).expect("read").count()),
        (3, 1)
    );
}

#[test]
fn a_token_is_fetched_with_our_password_and_shown_to_the_registry_only() {
    let served = Served::new();
    let storage_layer = served.layer.stored.clone();
    // Where the blobs really are: it must see no credentials.
    let storage = Server::start(move |_| Answer::new(200, storage_layer.clone()));
    let storage_host = storage.host();
    let token_server = Server::start(|request| {
        // base64 of me:secret
        match request.header("authorization") {
            Some("Basic bWU6c2VjcmV0") => Answer::new(200, r#"{"token":"t0ken","expires_in":60}"#),
            _ => Answer::new(
                401,
                r#"{"errors":[{"code":"DENIED","message":"who are you"}]}"#,
            ),
        }
    });
    let realm = format!("http://{}/token?a=b", token_server.host());
    let server = Server::start(move |request| {
        if request.header("authorization") != Some("Bearer t0ken") {
            let challenge = format!(
                "Bearer realm=\"{realm}\",service=\"the registry\",scope=\"repository:x:pull\""
            );
            return Answer::new(401, "").header("WWW-Authenticate", challenge);
        }
        match served.is_layer(request) {
            true => Answer::new(307, "")
                .header("Location", format!("http://{storage_host}/blob?signed")),
            false => served.answer(request),
        }
    });
    let work = tempfile::tempdir().expect("dir");
    let auth = work.path().join("auth.json");
    let mut options = options();
    options.registry.auth_file = Some(auth.clone());

    fs::write(&auth, "{}").expect("auth");
    let error = fetch(&server, &options).expect_err("nobody");
    assert!(
        matches!(error, Error::Registry(RegistryError::Denied { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("who are you"), "{error}");

    let entry = format!(
        r#"{{"auths":{{"{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#,
        server.host()
    );
    fs::write(&auth, entry).expect("auth");
    fetch(&server, &options).expect("with a password");
    let asked = token_server.seen().last().expect("asked").target.clone();
    assert!(
        asked.contains("a=b") && asked.contains("service=the%20registry"),
        "{asked}"
    );
    assert!(asked.contains("scope=repository%3Ax%3Apull"), "{asked}");
    assert!(
        server
            .seen()
            .iter()
            .all(|r| r.header("authorization") != Some("Basic bWU6c2VjcmV0"))
    );
    let at_storage = storage.seen();
    assert_eq!(at_storage.len(), 1);
    assert_eq!(at_storage[0].header("authorization"), None);
    assert!(
        at_storage[0]
            .header("user-agent")
            .is_some_and(|agent| agent.starts_with("berth/"))
    );

    fs::write(&auth, "not json").expect("auth");
    let error = fetch(&server, &options).expect_err("malformed").to_string();
    assert!(
        error.contains("auth.json") && error.contains("line 1"),
        "{error}"
    );
}

/// A file with our password for a registry.
fn password_for(server: &Server, directory: &Path) -> PathBuf {
    let auth = directory.join("auth.json");
    let host = server.host();
    let entry = format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#);
    fs::write(&auth, entry).expect("auth");
    auth
}

#[test]
fn who_is_behind_a_redirect_is_told_no_password() {
    for status in [401, 403] {
        let served = Served::new();
        let thief = Server::start(|_| Answer::new(200, r#"{"token":"t0ken"}"#));
        let challenge = format!("Bearer realm=\"http://{}/token\"", thief.host());
        let storage = Server::start(move |_| {
            let body = r#"{"errors":[{"code":"EXPIRED","message":"too late"}]}"#;
            Answer::new(status, body).header("WWW-Authenticate", challenge.clone())
        });
        let blob = format!("http://{}/blob", storage.host());
        let location = blob.clone();
        let server = Server::start(move |request| match served.is_layer(request) {
            true => Answer::new(307, "").header("Location", location.clone()),
            false => served.answer(request),
        });
        let work = tempfile::tempdir().expect("dir");
        let auth = password_for(&server, work.path());
        let mut options = options();
        options.registry.auth_file = Some(auth);
        let error = fetch(&server, &options).expect_err("a challenge behind a redirect");
        assert_eq!(thief.seen().len(), 0, "{error}");
        assert_eq!(storage.seen().len(), 1, "{error}");
        let error = error.to_string();
        for part in [blob.as_str(), "redirect", "EXPIRED too late"] {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }
}

#[test]
fn a_registry_may_ask_for_the_password_itself() {
    let served = Served::new();
    let server = Server::start(move |request| match request.header("authorization") {
        Some("Basic bWU6c2VjcmV0") => served.answer(request),
        _ => Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let work = tempfile::tempdir().expect("dir");
    let auth = password_for(&server, work.path());
    let mut options = options();
    options.registry.auth_file = Some(auth);
    fetch(&server, &options).expect("with a password");
    options.registry.auth_file = None;
    let error = fetch(&server, &options).expect_err("without");
    assert!(error.to_string().contains("without credentials"), "{error}");
}

#[test]
fn nobody_sends_us_away_from_tls() {
    // 198.51.100.0/24 is nobody's: if this were followed, the test would time out, not pass.
    for (status, name, value) in [
        (307, "Location", "http://198.51.100.1/blob".to_owned()),
        (
            401,
            "WWW-Authenticate",
            "Bearer realm=\"http://198.51.100.1/token\"".to_owned(),
        ),
    ] {
        let server = Server::start(move |_| Answer::new(status, "").header(name, value.clone()));
        let error = fetch(&server, &options()).expect_err("unsafe");
        assert!(
            matches!(error, Error::Registry(RegistryError::Unsafe { .. })),
            "{error}"
        );
        assert!(error.to_string().contains("198.51.100.1"), "{error}");
    }
    let circle =
        Server::start(|request| Answer::new(302, "").header("Location", request.target.clone()));
    let error = fetch(&circle, &options()).expect_err("circle").to_string();
    assert!(error.contains("redirects"), "{error}");
}

#[test]
fn what_may_pass_is_tried_again_and_what_cannot_is_not() {
    let served = Served::new();
    let calls = AtomicUsize::new(0);
    let server = Server::start(move |request| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::new(503, ""),
        1 => Answer::new(429, "").header("Retry-After", "0"),
        2 => Answer::new(200, "half of").header("Content-Length", "500"),
        _ => served.answer(request),
    });
    fetch(&server, &options()).expect("the fourth time");

    let gone = Server::start(|_| {
        Answer::new(
            404,
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no \u0007x"}]}"#,
        )
    });
    let error = fetch(&gone, &options()).expect_err("404").to_string();
    assert!(
        error.contains("NAME_UNKNOWN no x") && error.contains(&gone.host()),
        "{error}"
    );
    assert_eq!(gone.seen().len(), 1);

    let broken = Server::start(|_| Answer::new(500, ""));
    let error = fetch(&broken, &options()).expect_err("500").to_string();
    assert!(error.contains("500"), "{error}");
    assert_eq!(broken.seen().len(), 4);
}

#[test]
fn answers_have_caps() {
    let server = Server::start(|_| Answer::new(200, vec![b' '; 5 << 20]));
    let error = fetch(&server, &options()).expect_err("large").to_string();
    assert!(error.contains("larger than the limit"), "{error}");
}

/// The proxy comes from the environment, which a test must not change for others: it runs itself.
#[test]
fn a_registry_is_reached_through_the_proxy() {
    const NAME: &str = "registries::a_registry_is_reached_through_the_proxy";
    if std::env::var_os("BERTH_TEST_BEHIND_PROXY").is_some() {
        let mut options = options();
        options.registry.attempts = 1;
        let error = resolved("registry.invalid/x:1", &options).expect_err("the proxy refuses");
        assert!(
            matches!(error, Error::Registry(RegistryError::Unreachable { .. })),
            "{error}"
        );
        return;
    }
    let proxy = Server::start(|_| Answer::new(403, ""));
    let child = |no_proxy: &str| {
        let status = Command::new(std::env::current_exe().expect("test"))
            .args(["--exact", NAME])
            .env("BERTH_TEST_BEHIND_PROXY", "1")
            .env("HTTPS_PROXY", format!("http://{}", proxy.host()))
            .env("NO_PROXY", no_proxy)
            .stdout(Stdio::null())
            .status()
            .expect("run");
        assert!(status.success());
    };
    child("");
    let seen = proxy.seen();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].target.as_str()),
        ("CONNECT", "registry.invalid:443")
    );
    child("registry.invalid");
    assert_eq!(proxy.seen().len(), seen.len(), "NO_PROXY was not heeded");
}
