//! Embeds what the tool carries in itself, so that one file is enough to build a machine: the
//! device executable, the demo's program, the UEFI stub (all from the directory that
//! `BERTH_ASSETS` names; `make` fills it), and the state file system's template, made here.
//!
//! What is missing is left out, so that `cargo check` works on a clean clone; the tool says so
//! when it needs it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use berth_slots::state_template;

/// Names of the files, as `assets.rs` asks for them.
const FILES: [&str; 3] = ["init", "demo", "stub.efi"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=BERTH_ASSETS");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut table = String::from("const EMBEDDED: &[(&str, &[u8])] = &[\n");
    if let Some(directory) = env::var_os("BERTH_ASSETS") {
        for name in FILES {
            let path = Path::new(&directory).join(name);
            println!("cargo::rerun-if-changed={}", path.display());
            if path.exists() {
                embed(&mut table, name, &path);
            }
        }
    }
    if let Some(template) = state_template(&out) {
        let path = out.join("state.template");
        fs::write(&path, template).expect("OUT_DIR can be written");
        embed(&mut table, "state.template", &path);
    }
    table.push_str("];\n");
    fs::write(out.join("embedded.rs"), table).expect("OUT_DIR can be written");
}

fn embed(table: &mut String, name: &str, path: &Path) {
    writeln!(table, "    ({name:?}, include_bytes!({path:?})),").expect("a String takes it");
}

/// The template, when this computer has mke2fs.
fn state_template(out: &Path) -> Option<Vec<u8>> {
    let program = ["/usr/sbin/mke2fs", "/sbin/mke2fs", "/usr/bin/mke2fs"]
        .into_iter()
        .find(|path| Path::new(path).exists())?;
    let config = out.join("mke2fs.conf");
    fs::write(&config, state_template::MKE2FS_CONFIG).expect("OUT_DIR can be written");
    let image = out.join("state.ext4");
    let file = fs::File::create(&image).expect("OUT_DIR can be written");
    file.set_len(state_template::FILE_SYSTEM_BYTES)
        .expect("OUT_DIR can hold a sparse file");
    let made = Command::new(program)
        .args(state_template::MKE2FS_ARGUMENTS)
        .arg(&image)
        .env("MKE2FS_CONFIG", &config)
        .env("E2FSPROGS_FAKE_TIME", state_template::MKE2FS_TIME)
        .env("LC_ALL", "C")
        .output()
        .expect("mke2fs starts");
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr).replace('\n', " ");
        println!("cargo::warning=mke2fs cannot make the state template: {said}");
        return None;
    }
    let bytes = fs::read(&image).expect("the file that mke2fs wrote can be read");
    fs::remove_file(&image).expect("OUT_DIR can be written");
    match state_template::encode(&bytes) {
        Ok(template) => Some(template),
        Err(error) => {
            println!("cargo::warning=no state template: {error}");
            None
        }
    }
}
