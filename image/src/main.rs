//! The berth command: images and a TOML file in, a bootable machine out

fn main() {}
