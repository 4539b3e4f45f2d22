//! Every kind of mistake, with the exact place and words that the user sees.

use super::*;

use berth_provision::UpdatePolicy;

const HEAD: &str = "schema = 1\n[image]\nname = \"t\"\nversion = \"1\"\n";

fn mistakes(text: &str) -> Vec<String> {
    match parse("berth.toml", text) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.to_string().lines().map(str::to_owned).collect(),
    }
}

/// The mistakes of a container section, whose first line is line 5 of the file.
fn container_mistakes(section: &str) -> Vec<String> {
    mistakes(&format!("{HEAD}{section}"))
}

#[test]
fn a_machine_that_halts_cannot_leave_a_failed_update() {
    let text = |policy: &str| {
        format!(
            "schema = 1\non_failure = \"halt\"\n[image]\nname = \"t\"\nversion = \"1\"\n\
             [update]\nurl = \"http://u.example/t\"\ntrust = \"root.json\"\n{policy}"
        )
    };
    let found = mistakes(&text("policy = \"stage\"\n"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("berth.toml:2:"), "{found:?}");
    assert!(found[0].contains("contradict each other"), "{found:?}");
    assert_eq!(mistakes(&text("policy = \"off\"\n")), [""; 0]);
}

#[test]
fn a_whole_file_is_read() {
    let text = r#"
schema = 1
hostname = "edge-{serial}"
on_failure = "halt"
[image]
name = "edge"
version = "1.4.0"
profile = "micro"
formats = ["qcow2"]
kernel = "6.12.117"
[network.lan]
match = { driver = "virtio_net" }
addresses = ["192.0.2.7/24"]
gateway = "192.0.2.1"
dns = ["192.0.2.1"]
routes = [{ to = "198.51.100.0/24", via = "192.0.2.2" }]
[container.web]
image = "oci:web"
source = "baked"
command = ["nginx"]
environment = { MODE = "prod" }
user = "101:101"
network = "host"
expose = ["8080/tcp"]
mounts = [{ volume = "www", target = "/srv" }, { tmpfs = "/tmp", size = "64M" }, { status = true, target = "/run/berth" }]
cap_add = ["net_bind_service", "CHOWN"]
resources = { cpus = 1.5, memory = "256M", pids = 200 }
after = ["network", "container:db", "container:db:healthy"]
health = { http = "http://:80/" }
restart = { policy = "on-failure", backoff = "1s..60s" }
stop = { signal = "SIGQUIT", timeout = "3s" }
log = { keep = "1M" }
[container.db]
image = "oci-archive:db.tar"
health = { exec = ["pg_isready"], every = "30s", timeout = "2s", fails = 1, start = "1m" }
"#;
    let config = parse("berth.toml", text).expect("a correct file");
    assert_eq!(config.hostname, "edge-{serial}");
    assert_eq!(config.on_failure, OnFailure::Halt);
    assert_eq!(config.image.profile, Profile::Micro);
    assert_eq!(config.image.formats, [DiskFormat::Qcow2]);
    assert_eq!(config.networks.len(), 1);
    let [web, db] = &config.containers[..] else {
        panic!("two containers, found {}", config.containers.len());
    };
    assert_eq!(web.cap_add, ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"]);
    assert_eq!(web.cpu_millis, Some(1500));
    assert_eq!(web.memory_bytes, Some(256 << 20));
    assert_eq!(web.after, ["db"]);
    assert_eq!(web.after_healthy, ["db"]);
    assert!(web.after_network);
    assert_eq!(web.mounts.len(), 3);
    assert!(web.mounts[2].read_only, "the status is never writable");
    assert_eq!(web.stop_signal, Some(3));
    assert_eq!(web.restart.backoff_max_ms, 60_000);
    assert!(db.read_only && db.user_namespace && !db.privileged);
    assert_eq!(db.network, NetworkMode::None);
}

#[test]
fn every_mistake_of_a_file_is_listed_at_once_in_order() {
    let found = mistakes(
        "schema = 2\nhostnam = \"x\"\n[image]\nname = \"T\"\n[container.web]\nimage = 7\ncomand = []\n",
    );
    assert_eq!(
        found,
        [
            "berth.toml:1:10: schema: expected 1, the version of this format, found the number 2",
            "berth.toml:2:1: unknown key \"hostnam\" at the top level; did you mean \"hostname\"?",
            "berth.toml:3:1: [image] needs version, like version = \"1.0.0\"",
            "berth.toml:4:8: name: expected at most 63 of a-z, 0-9, '-', '_' and '.', starting \
             with a letter or digit, found \"T\"",
            "berth.toml:6:9: image: expected a string, found the number 7",
            "berth.toml:7:1: unknown key \"comand\" in [container.web]; did you mean \"command\"?",
        ]
    );
}

#[test]
fn text_that_is_not_toml_says_where() {
    let found = mistakes("schema = 1\nname = \"open\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("berth.toml:2:") && found[0].contains("not valid TOML"),
        "{found:?}"
    );
    let found = mistakes("schema = 1\nschema = 1\n");
    assert!(
        found[0].starts_with("berth.toml:2:1: not valid TOML: duplicate key"),
        "{found:?}"
    );
}

#[test]
fn what_the_file_must_have_is_named() {
    assert_eq!(
        mistakes(""),
        [
            "berth.toml:1:1: an image needs a section [image] with name and version",
            "berth.toml:1:1: the file must say which format it follows: schema = 1",
        ]
    );
    assert_eq!(
        container_mistakes("[container.web]\n"),
        ["berth.toml:5:12: [container.web] needs image = IMAGE"]
    );
}

#[test]
fn keys_that_are_not_built_yet_are_refused_by_name() {
    for (section, place, key) in [
        ("[job.migrate]\nimage = \"oci:m\"\n", "5:2", "job"),
        (
            "[container.a]\nimage = \"oci:a\"\nports = [\"80:80\"]\n",
            "7:1",
            "ports",
        ),
        (
            "[container.a]\nimage = \"oci:a\"\nsecrets = []\n",
            "7:1",
            "secrets",
        ),
        ("[network.lan]\ndhcp4 = true\nvlan = 7\n", "7:1", "vlan"),
    ] {
        assert_eq!(
            container_mistakes(section),
            [format!(
                "berth.toml:{place}: \"{key}\" is not supported yet; remove it"
            )]
        );
    }
}

#[test]
fn values_that_are_not_built_yet_are_refused_by_name() {
    for (line, expected) in [
        (
            "network = \"bridge\"",
            "7:11: network: \"bridge\" is not supported yet; use \"none\" or \"host\"",
        ),
        (
            "network = \"container:b\"",
            "7:11: network: \"container:b\" is not supported yet; use \"none\" or \"host\"",
        ),
        (
            "source = \"pull\"",
            "7:10: source: \"pull\" is not supported yet; use \"baked\"",
        ),
    ] {
        assert_eq!(
            container_mistakes(&format!("[container.a]\nimage = \"oci:a\"\n{line}\n")),
            [format!("berth.toml:{expected}")]
        );
    }
    assert_eq!(
        mistakes("schema=1\n[image]\nname='t'\nversion='1'\nformats=['raw','iso']\n"),
        ["berth.toml:5:16: formats: the format \"iso\" is not supported yet"]
    );
}

#[test]
fn wrong_values_of_a_container_say_what_was_expected() {
    for (line, expected) in [
        (
            "command = \"nginx\"",
            "7:11: command: expected a list of strings, like [\"nginx\", \"-g\", \"daemon \
             off;\"], found the string \"nginx\"",
        ),
        (
            "command = [\"nginx\", 7]",
            "7:21: command: expected a string, found the number 7",
        ),
        (
            "environment = { PORT = 80 }",
            "7:24: PORT: expected a string, found the number 80; quote it",
        ),
        (
            "user = \"a:b:c\"",
            "7:8: user: expected a user like \"101:101\" or \"www-data\", found \"a:b:c\"",
        ),
        (
            "expose = [\"70000\"]",
            "7:11: expose: expected a TCP port like \"8080\", found \"70000\"",
        ),
        (
            "cap_add = [\"NET_BIND_SERVIC\"]",
            "7:12: cap_add: \"NET_BIND_SERVIC\" is no capability; did you mean \
             \"NET_BIND_SERVICE\"?",
        ),
        (
            "cap_add = [\"ALL\"]",
            "7:12: cap_add: name each capability; privileged = true gives all of them",
        ),
        (
            "resources = { memory = \"64MB\" }",
            "7:24: memory: expected a size like \"64K\", \"256M\" or \"2G\" (of 1024 each), \
             found \"64MB\"",
        ),
        (
            "resources = { cpus = 0 }",
            "7:22: cpus: expected a number of CPUs from 0.01 to 1024, like 1.5, found the number 0",
        ),
        (
            "resources = { pids = -1 }",
            "7:22: pids: expected a whole number from 1 to 4194304, found the number -1",
        ),
        (
            "resources = { memroy = \"64M\" }",
            "7:15: unknown key \"memroy\" in resources of [container.a]; did you mean \"memory\"?",
        ),
        (
            "stop = { timeout = \"10\" }",
            "7:20: timeout: expected a duration like \"500ms\", \"10s\", \"3m\" or \"2h\", found \
             \"10\"",
        ),
        (
            "stop = { signal = \"SIGFOO\" }",
            "7:19: signal: expected a signal like \"SIGTERM\" or \"15\", found \"SIGFOO\"",
        ),
        (
            "restart = { backoff = \"9s..1s\" }",
            "7:23: backoff: expected a first pause above zero and at most the longest, found \
             \"9s..1s\"",
        ),
        (
            "mounts = [{ volume = \"a\" }]",
            "7:11: mounts[0] of [container.a] needs target = PATH",
        ),
        (
            "mounts = [{ volume = \"a\", target = \"/x/../y\" }]",
            "7:36: target: expected an absolute path below / without '.' and '..', found \
             \"/x/../y\"",
        ),
        (
            "mounts = [{ volume = \"a\", tmpfs = \"/x\" }]",
            "7:11: mounts[0] of [container.a] needs exactly one of volume = NAME, tmpfs = PATH \
             and status = true",
        ),
        (
            "mounts = [{ bind = \"/etc\", target = \"/x\" }]",
            "7:13: \"bind\" is not supported yet; remove it",
        ),
        (
            "mounts = [{ tmpfs = \"/x\" }, { volume = \"v\", target = \"/x\" }]",
            "7:45: mounts[1] of [container.a]: /x is mounted twice",
        ),
        (
            "privileged = true\ncap_add = [\"CHOWN\"]",
            "8:1: cap_add: privileged = true already gives everything; use one of them",
        ),
        (
            "after = [\"container:b\"]",
            "7:10: after: there is no [container.b]",
        ),
        (
            "after = [\"container:a\"]",
            "7:10: after: a container cannot wait for itself",
        ),
        (
            "after = [\"container:a:healty\"]",
            "7:10: after: expected \"network\", \"container:NAME\" or \"container:NAME:healthy\", \
             found \"container:a:healty\"",
        ),
        (
            "read_only = 1",
            "7:13: read_only: expected true or false, found the number 1",
        ),
        (
            "devices = [\"/etc/passwd\"]",
            "7:12: devices: expected a path below /dev, found \"/etc/passwd\"",
        ),
    ] {
        assert_eq!(
            container_mistakes(&format!("[container.a]\nimage = \"oci:a\"\n{line}\n")),
            [format!("berth.toml:{expected}")],
            "{line}"
        );
    }
}

#[test]
fn containers_that_wait_for_each_other_are_refused() {
    let found = container_mistakes(
        "[container.a]\nimage = \"oci:a\"\nafter = [\"container:b\"]\n[container.b]\nimage = \
         \"oci:b\"\nafter = [\"container:a\"]\n",
    );
    assert_eq!(
        found,
        [
            "berth.toml:7:1: after: container \"a\" waits, through others, for itself",
            "berth.toml:10:1: after: container \"b\" waits, through others, for itself",
        ]
    );
}

#[test]
fn waiting_for_health_needs_a_check_and_makes_circles_too() {
    let pair = |a: &str, b: &str| {
        container_mistakes(&format!(
            "[container.a]\nimage = \"oci:a\"\n{a}\n[container.b]\nimage = \"oci:b\"\n{b}\n"
        ))
    };
    let waits = "after = [\"container:b:healthy\"]";
    let check = "health = { tcp = \":1\" }";
    assert_eq!(
        pair(waits, ""),
        ["berth.toml:7:10: after: [container.b] has no health, so it is never found healthy"]
    );
    assert!(pair(waits, check).is_empty());
    let circle = pair(waits, &format!("{check}\nafter = [\"container:a\"]"));
    assert_eq!(circle.len(), 2, "{circle:?}");
}

#[test]
fn wrong_networks_say_what_was_expected() {
    for (lines, expected) in [
        (
            "",
            "5:10: [network.lan] needs dhcp4 = true or addresses = [\"ADDRESS/BITS\"]",
        ),
        (
            "addresses = [\"192.0.2.7\"]",
            "6:14: addresses: \"192.0.2.7\" is not an IPv4 address with a prefix, like \
             192.0.2.7/24",
        ),
        (
            "addresses = [\"192.0.2.7/24\"]\ngateway = \"203.0.113.1\"",
            "7:1: gateway: 203.0.113.1 is in none of the networks of addresses",
        ),
        (
            "dhcp4 = true\nmatch = { name = \"eth0\" }",
            "7:11: interfaces are not matched by name, which changes between kernels: use \
             driver, mac or path",
        ),
        (
            "dhcp4 = true\nmatch = { mac = \"52:54\" }",
            "7:17: mac: expected an address like \"52:54:00:12:34:56\", found \"52:54\"",
        ),
    ] {
        assert_eq!(
            container_mistakes(&format!("[network.lan]\n{lines}\n")),
            [format!("berth.toml:{expected}")],
            "{lines}"
        );
    }
}

#[test]
fn an_absent_network_table_means_dhcp_and_an_empty_one_means_none() {
    let config = parse("berth.toml", HEAD).expect("no network");
    assert!(config.networks.len() == 1 && config.networks[0].dhcp4);
    let config = parse("berth.toml", &format!("{HEAD}[network]\n")).expect("empty network");
    assert!(config.networks.is_empty());
}

#[test]
fn bytes_that_nobody_would_write_are_mistakes_and_not_panics() {
    for text in [
        "\u{feff}",
        "a.b.c.d = [[[[[[]]]]]]",
        "[container]\nx = 1",
        "container = 7",
        "[image.name]\nx = 1",
        "[[container.web]]\nimage = \"x\"",
        "schema = 0x1\n[image]\nname = \"\"\nversion = \"ä\"\n",
        "\0",
        "hostname = \"\\u0000\"",
    ] {
        assert!(!mistakes(text).is_empty(), "{text:?}");
    }
    let deep = format!("x = {}", "[".repeat(100_000));
    assert!(!mistakes(&deep).is_empty());
}

#[test]
fn an_update_section_is_read_whole() {
    let text = format!(
        r#"{HEAD}
[container.web]
image = "oci:web"
[update]
url = "https://updates.example:8443/edge/"
policy = "auto"
window = "22:30-04:00"
every = "15m"
wave = 1
trust = "keys/root.json"
ca = "ca.pem"
proxy = "http://proxy.example:3128"
rate = "2M"
bundles = true
without_trial = true
commit = {{ healthy = ["web"], for = "20s", within = "3m" }}
"#
    );
    let config = parse("berth.toml", &text).expect("a correct file");
    let section = config.update.expect("the section");
    let update = section.update;
    assert_eq!(
        update.url.as_deref(),
        Some("https://updates.example:8443/edge")
    );
    assert!(update.bundles && update.without_trial);
    assert_eq!(update.policy, UpdatePolicy::Auto);
    let window = update.window.expect("a window");
    assert_eq!((window.from, window.to), (22 * 60 + 30, 4 * 60));
    assert_eq!(update.every_ms, 900_000);
    assert_eq!(update.wave, Some(1));
    assert_eq!(update.healthy, Some(vec!["web".to_owned()]));
    assert_eq!((update.hold_ms, update.within_ms), (20_000, 180_000));
    assert_eq!(update.proxy.as_deref(), Some("proxy.example:3128"));
    assert_eq!(update.rate, Some(2 << 20));
    assert!(update.ca);
    assert_eq!(section.trust.value, "keys/root.json");
}

#[test]
fn every_mistake_of_an_update_section_has_its_place() {
    let found = container_mistakes(
        "[update]\nurl = \"ftp://x/\"\npolicy = \"now\"\nwindow = \"2-5\"\nevery = \"1s\"\n\
         wave = 0\nproxy = \"x\"\nrate = \"1K\"\ncommit = { healthy = [\"db\"], within = \"0s\" }\n\
         trusts = \"root.json\"\n",
    );
    let expected = [
        ("5:1", "[update] needs trust"),
        ("6:7", "url: expected http://HOST/PATH"),
        ("7:10", "policy: expected \"off\", \"stage\" or \"auto\""),
        ("8:10", "window: expected a time of day"),
        ("9:9", "every: expected at least \"10s\""),
        ("10:8", "wave: expected a whole number from 1 to 100"),
        ("11:9", "proxy: expected http://HOST:PORT"),
        ("12:8", "rate: expected at least \"16K\""),
        ("13:23", "healthy: there is no [container.db]"),
        ("13:30", "within: a new version needs more time"),
        (
            "14:1",
            "unknown key \"trusts\" in [update]; did you mean \"trust\"?",
        ),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, (place, words)) in found.iter().zip(expected) {
        assert!(
            line.starts_with(&format!("berth.toml:{place}: ")) && line.contains(words),
            "{line:?} is not {place} {words:?}"
        );
    }
}

#[test]
fn a_machine_may_be_updated_by_what_is_plugged_into_it_and_by_nothing_else() {
    let section = "[update]\ntrust = \"r\"\nbundles = true\n";
    let config = parse("berth.toml", &format!("{HEAD}{section}")).expect("a correct file");
    let update = config.update.expect("the section").update;
    assert!(update.bundles && update.url.is_none() && !update.without_trial);
}

#[test]
fn an_update_section_that_cannot_work_is_refused() {
    for (section, words) in [
        ("url = \"https://x/\"\ntrust = \"r\"\n", "https needs ca = "),
        (
            "url = \"http://x/\"\ntrust = \"r\"\nca = \"c\"\n",
            "ca: only a url with https://",
        ),
        (
            "url = \"http://x/\"\ntrust = \"r\"\nwindow = \"01:00-02:00\"\n",
            "window: only policy = \"auto\"",
        ),
        ("trust = \"r\"\n", "[update] needs url, like"),
        (
            "trust = \"r\"\nbundles = true\nproxy = \"p:1\"\n",
            "proxy: without url there is no server",
        ),
    ] {
        let found = container_mistakes(&format!("[update]\n{section}"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(words), "{found:?}");
    }
}
