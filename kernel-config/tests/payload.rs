//! The payload's frame, judged by the reference decompressor.

use std::io::Write;
use std::process::{Command, Stdio};

use berth_kernel_config::store;

#[test]
fn zstd_accepts_the_frame_and_gives_the_content_back() {
    for size in [0, 1, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 1_000_003] {
        let content: Vec<u8> = (0..size).map(|at: usize| (at * 31 % 251) as u8).collect();
        let frame = store(&content).unwrap();
        let child = Command::new("zstd")
            .args(["--decompress", "--stdout"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("SKIPPED: zstd is not installed; nobody judged the payload's frame");
            return;
        };
        let mut input = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || input.write_all(&frame));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success(), "{size} bytes");
        assert_eq!(output.stdout, content);
    }
}
