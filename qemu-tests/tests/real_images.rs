//! Images that people run, made by other tools and taken from three kinds of places, run as they
//! are and answer real clients.

use std::fs;

use berth_qemu_tests::image::{self, Image};
use berth_qemu_tests::real::{RealImage, Registry};
use berth_qemu_tests::{Disk, Error, Machine, TestResult, clients, process, within};

const NGINX: RealImage = RealImage {
    name: "nginx",
    package: "nginx-light",
    files: &[],
    config: &[
        "--config.entrypoint=nginx",
        "--config.cmd=-g",
        "--config.cmd=daemon off;",
        "--config.exposedports=80/tcp",
    ],
};

const REDIS: RealImage = RealImage {
    name: "redis",
    package: "redis-server",
    files: &[],
    config: &[
        "--config.entrypoint=redis-server",
        "--config.cmd=--protected-mode",
        "--config.cmd=no",
        "--config.user=redis",
        "--config.workingdir=/var/lib/redis",
        "--config.exposedports=6379/tcp",
    ],
};

const POSTGRES: RealImage = RealImage {
    name: "postgres",
    package: "postgresql-15",
    files: &[(
        "usr/local/bin/start",
        "755",
        "#!/bin/sh\n\
         set -e\n\
         if [ ! -s \"$PGDATA/PG_VERSION\" ]; then\n\
         initdb --no-sync --auth=trust --username=postgres\n\
         echo 'host all all 0.0.0.0/0 trust' >> \"$PGDATA/pg_hba.conf\"\n\
         fi\n\
         exec postgres -c listen_addresses='*'\n",
    )],
    config: &[
        "--config.entrypoint=/usr/local/bin/start",
        "--config.env=PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin",
        "--config.env=PGDATA=/var/lib/postgresql/data",
        "--config.user=postgres",
        "--config.exposedports=5432/tcp",
        "--config.stopsignal=SIGINT",
    ],
};

#[test]
fn nginx_redis_and_postgres_from_a_directory_an_archive_and_a_registry_answer() -> TestResult {
    let image = build()?;
    let machine = Machine::named("real-images")
        .direct(image.kernel(), image.command_line()?)
        .memory(512)
        .disk(Disk::of(image.disk()).grown_to(8 << 30))
        .forward(80)
        .forward(6379)
        .forward(5432)
        .headless()
        .observed()
        .start()?;
    machine.console().ready(within(30))?;

    let page = machine.http(80, "/", within(20))?;
    if page.status != 200 || !page.text().contains("Welcome to nginx!") {
        return Err(machine.broken(&format!("nginx: {} {}", page.status, page.text())));
    }

    let commands = ["PING", "SET promise kept", "GET promise"];
    let answers = clients::redis(machine.port(6379)?, &commands, within(20))?;
    if answers != ["+PONG", "+OK", "kept"] {
        return Err(machine.broken(&format!("redis: {answers:?}")));
    }

    // The first start makes the data base, which takes its time on an emulated processor.
    let answer = clients::postgres(machine.port(5432)?, "select 6 * 7", within(60));
    let answer = answer.map_err(|error| {
        let log = machine.ask("cat /run/berth/log/postgres", within(5));
        machine.broken(&format!("{error}: {}", log.unwrap_or_default()))
    })?;
    if answer != ["42"] {
        return Err(machine.broken(&format!("postgres: {answer:?}")));
    }
    machine.shut_down(within(30))?;

    let console = machine.console();
    for name in ["nginx", "redis", "postgres"] {
        let ended = console
            .lines()
            .into_iter()
            .any(|line| line.is_container(name, "exited") && line.get("status") == Some("0"));
        if !ended {
            return Err(machine.broken(&format!("{name} did not end well when it was asked to")));
        }
    }
    Ok(())
}

fn build() -> Result<Image, Error> {
    let scratch = tempfile::tempdir().map_err(Error::file("creating", "a directory"))?;
    let registry = Registry::start(scratch.path())?;
    let archive = scratch.path().join("redis.tar");
    REDIS.docker_archive(&archive)?;
    let toml = format!(
        r#"schema = 1
[image]
name = "real"
version = "1"
formats = ["raw"]

[container.nginx]
image = "oci:{nginx}"
network = "host"
cap_add = ["CHOWN", "NET_BIND_SERVICE", "SETGID", "SETUID"]
mounts = [
    {{ tmpfs = "/var/lib/nginx", size = "16M", mode = "0755" }},
    {{ tmpfs = "/var/log/nginx", size = "16M", mode = "0755" }},
    {{ tmpfs = "/run", size = "1M", mode = "0755" }},
]
resources = {{ memory = "128M", pids = 64 }}
stop = {{ signal = "SIGQUIT", timeout = "20s" }}

[container.redis]
image = "docker-archive:{redis}"
network = "host"
mounts = [{{ volume = "redis", target = "/var/lib/redis" }}]
resources = {{ memory = "128M", pids = 64 }}

[container.postgres]
image = "{postgres}"
network = "host"
mounts = [
    {{ volume = "postgres", target = "/var/lib/postgresql" }},
    {{ tmpfs = "/var/run/postgresql", size = "1M", mode = "1777" }},
    {{ tmpfs = "/tmp", size = "16M" }},
]
resources = {{ memory = "256M", pids = 64 }}
stop = {{ signal = "SIGINT", timeout = "60s" }}
"#,
        nginx = NGINX.oci_directory()?.display(),
        redis = archive.display(),
        postgres = registry.push(&POSTGRES)?,
    );
    let config = scratch.path().join("berth.toml");
    fs::write(&config, toml).map_err(Error::file("writing", &config))?;
    let out = berth_qemu_tests::target_directory()
        .join("qemu-tests")
        .join("real-out");
    let mut build = std::process::Command::new(image::berth()?);
    build.arg("build").arg(&config).arg("--out").arg(&out);
    process::run(&mut build)?;
    Ok(Image::at(out))
}
