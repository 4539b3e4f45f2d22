//! The worst files that the caps let through take no more memory than the caps promise. Alone in
//! its file, because the kernel counts for the whole process.

use berth_chance::peak_kib;
use berth_trust::Limits;
use berth_trust::json::Value;

/// What `Limits` promises for one file.
const PROMISED_KIB: u64 = 8 << 10;

#[test]
fn the_worst_file_takes_no_more_memory_than_promised() {
    let limits = Limits::default();
    let most = usize::try_from(limits.targets_bytes).expect("a length");
    let fill = |unit: &str, values: usize| {
        let count = ((limits.values - 1) / values).min((most - 2) / (unit.len() + 1));
        format!("[{}]", vec![unit; count].join(","))
    };
    let escapes = format!("\"{}\"", "\\u0001".repeat((most - 2) / 6));
    let worst = [
        fill("{\"\":0}", 2),
        fill("{\"\":[]}", 2),
        fill("\"0123456789\"", 1),
        fill("[[[[0]]]]", 5),
        format!("\"{}\"", "x".repeat(most - 2)),
        escapes,
    ];
    let before = peak_kib();
    for text in &worst {
        assert!(text.len() <= most);
        let value = Value::parse(text.as_bytes(), &limits).expect("within the caps");
        let signed = value.canonical();
        assert!(signed.len() <= most);
    }
    let grown = peak_kib() - before;
    println!("the worst file takes {grown} KiB besides its own bytes");
    assert!(grown <= PROMISED_KIB, "{grown} KiB");

    let beyond = format!("[{}]", vec!["0"; limits.values].join(","));
    let error = Value::parse(beyond.as_bytes(), &limits).expect_err("too many values");
    assert!(error.to_string().contains("too many values"));
}
