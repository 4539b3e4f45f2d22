//! Unpacks an image and says what that took: the command behind the figures for this crate.
//! `cargo run --release -p berth-oci --example unpack -- oci:DIR`

use std::time::Instant;

use berth_oci::{Options, Reference, resolve};
use berth_tree::Spool;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).ok_or("usage: unpack REFERENCE")?;
    let start = Instant::now();
    let reference: Reference = name.parse()?;
    let mut spool = Spool::new_in(&std::env::temp_dir())?;
    let image = resolve(&reference, None, &Options::default())?.unpack(&mut spool)?;
    for layer in &image.layers {
        println!(
            "{} {} bytes stored, {} unpacked, {} entries",
            layer.digest, layer.size, layer.tar_bytes, layer.entries
        );
    }
    println!("{} in {:.2} s", image.digest, start.elapsed().as_secs_f64());
    let status = std::fs::read_to_string("/proc/self/status")?;
    for line in status.lines().filter(|line| line.starts_with("VmHWM")) {
        println!("peak memory {}", line.trim_start_matches("VmHWM:").trim());
    }
    Ok(())
}
