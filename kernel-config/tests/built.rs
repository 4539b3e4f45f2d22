//! What the built `cloud` kernel promises: the configuration that its fragments ask for, the
//! hardening that docs/hardening.md describes, and its size. It has a main of its own because the
//! kernel's makefile starts this executable to pack the payload, if the kernel is not cached yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use berth_kernel_config::{
    Console, Kernel, Profile, Request, check, default_directory, ensure, payload_role,
};

/// The judge, if it is installed: <https://github.com/a13xp0p0v/kernel-hardening-checker>.
const CHECKER: &str = "kernel-hardening-checker";
/// How many of its recommendations must be met at least.
const CHECKER_OK: usize = 242;

/// The image as one `xz --x86 --lzma2=preset=9e` stream, bytes. The whole system may have
/// 6,000,000, and the userland grows.
const COMPRESSED_AT_MOST: u64 = 4_700_000;

type Check = fn(&Kernel, &str) -> Result<Outcome, String>;

enum Outcome {
    Held,
    Skipped(String),
}

#[rustfmt::skip]
const CHECKS: &[(&str, Check)] = &[
    ("the_configuration_is_what_the_fragments_ask_for", as_the_fragments_ask),
    ("what_defends_the_kernel_is_on", defences_are_on),
    ("what_weakens_the_kernel_is_off", weaknesses_are_off),
    ("a_broken_kernel_restarts_the_machine", a_broken_kernel_restarts),
    ("the_page_about_hardening_is_true", the_page_is_true),
    ("the_checker_misses_nothing_but_what_the_page_explains", the_checker_agrees),
    ("the_compressed_kernel_leaves_room_for_the_userland", small_enough),
];

fn main() -> ExitCode {
    if let Some(code) = payload_role() {
        return code;
    }
    let (kernel, config) = match built() {
        Ok(built) => built,
        Err(why) => {
            eprintln!("{why}");
            println!("0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, holds) in CHECKS {
        match holds(&kernel, &config) {
            Ok(Outcome::Held) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Ok(Outcome::Skipped(why)) => {
                eprintln!("SKIPPED: {name}: {why}");
                skipped += 1;
            }
            Err(why) => {
                println!("test {name} ... FAILED\n{why}");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    ExitCode::from(u8::from(failed > 0))
}

/// The kernel that every test of a machine starts, and its configuration.
fn built() -> Result<(Kernel, String), String> {
    let request = Request {
        profile: Profile::Cloud,
        version: None,
        source: std::env::var_os("BERTH_KERNEL_SOURCE").map(Into::into),
        cache: default_directory().ok_or("there is no home directory for the cache")?,
    };
    let mut console = Console::new();
    let kernel = ensure(&request, &mut |progress| console.show(progress))
        .map_err(|error| error.to_string())?;
    let config = fs::read_to_string(&kernel.config).map_err(|error| error.to_string())?;
    Ok((kernel, config))
}

fn as_the_fragments_ask(_: &Kernel, config: &str) -> Result<Outcome, String> {
    none(
        check(Profile::Cloud, config)
            .iter()
            .map(ToString::to_string),
    )
}

fn defences_are_on(_: &Kernel, config: &str) -> Result<Outcome, String> {
    let found = values(config);
    none(
        ON.split_whitespace()
            .filter(|symbol| value(&found, symbol) != "y")
            .map(|symbol| format!("CONFIG_{symbol} is not set")),
    )
}

fn weaknesses_are_off(_: &Kernel, config: &str) -> Result<Outcome, String> {
    let found = values(config);
    none(
        OFF.split_whitespace()
            .filter(|symbol| value(&found, symbol) != "n")
            .map(|symbol| format!("CONFIG_{symbol} is set")),
    )
}

fn a_broken_kernel_restarts(_: &Kernel, config: &str) -> Result<Outcome, String> {
    let found = values(config);
    let wanted = [
        ("PANIC_ON_OOPS", "y"),
        ("PANIC_TIMEOUT", "1"),
        ("BUG", "y"),
        ("BUG_ON_DATA_CORRUPTION", "y"),
        ("SOFTLOCKUP_DETECTOR", "y"),
        ("BOOTPARAM_SOFTLOCKUP_PANIC", "y"),
        ("HARDLOCKUP_DETECTOR", "y"),
        ("BOOTPARAM_HARDLOCKUP_PANIC", "y"),
        ("WATCHDOG_HANDLE_BOOT_ENABLED", "y"),
    ];
    none(
        wanted
            .iter()
            .filter(|(symbol, wanted)| value(&found, symbol) != *wanted)
            .map(|(symbol, wanted)| format!("CONFIG_{symbol} is not {wanted}")),
    )
}

/// Each row of the page's table says what the configuration has.
fn the_page_is_true(_: &Kernel, config: &str) -> Result<Outcome, String> {
    let found = values(config);
    let rows = exceptions()?;
    none(rows.iter().filter_map(|(symbol, here)| {
        let is = value(&found, symbol);
        let says = if here == "absent" { "n" } else { here };
        (is != says).then(|| format!("CONFIG_{symbol} is {is}; the page says {here}"))
    }))
}

fn the_checker_agrees(kernel: &Kernel, _: &str) -> Result<Outcome, String> {
    let run = Command::new(CHECKER)
        .args(["-m", "json", "-c"])
        .arg(&kernel.config)
        .output();
    let output = match run {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Outcome::Skipped(format!(
                "{CHECKER} is not installed; nobody else judged the kernel's hardening"
            )));
        }
        Err(error) => return Err(format!("{CHECKER} could not be started: {error}")),
    };
    let results: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{CHECKER} did not write JSON: {error}"))?;
    let met = |result: &&serde_json::Value| result["check_result_bool"] == true;
    let missed: BTreeSet<&str> = results
        .iter()
        .filter(|result| !met(result))
        .filter_map(|result| result["option_name"].as_str()?.strip_prefix("CONFIG_"))
        .collect();
    let explained = exceptions()?;
    let mut complaints: Vec<String> = missed
        .iter()
        .filter(|symbol| !explained.contains_key(**symbol))
        .map(|symbol| format!("CONFIG_{symbol} is missed, and docs/hardening.md does not say why"))
        .collect();
    let count = results.iter().filter(met).count();
    if count < CHECKER_OK {
        complaints.push(format!("{count} are met, and {CHECKER_OK} were promised"));
    }
    println!("{CHECKER}: {count} of {} are met", results.len());
    none(complaints.into_iter())
}

fn small_enough(kernel: &Kernel, _: &str) -> Result<Outcome, String> {
    let size = compressed(&kernel.bzimage)?;
    println!("the compressed kernel has {size} bytes");
    if size <= COMPRESSED_AT_MOST {
        return Ok(Outcome::Held);
    }
    Err(format!(
        "{size} bytes are more than {COMPRESSED_AT_MOST}: something grew, or a symbol is new"
    ))
}

fn compressed(image: &Path) -> Result<u64, String> {
    let image = fs::read(image).map_err(|error| error.to_string())?;
    let mut xz = Command::new("xz")
        .args(["--x86", "--lzma2=preset=9e", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("xz could not be started: {error}"))?;
    let mut input = xz.stdin.take().ok_or("xz has no input")?;
    let feed = std::thread::spawn(move || input.write_all(&image));
    let mut output = xz.stdout.take().ok_or("xz has no output")?;
    let size = io::copy(&mut output, &mut io::sink()).map_err(|error| error.to_string())?;
    feed.join()
        .map_err(|_| "xz was not fed")?
        .map_err(|error| error.to_string())?;
    let status = xz.wait().map_err(|error| error.to_string())?;
    if status.success() {
        Ok(size)
    } else {
        Err(format!("xz failed: {status}"))
    }
}

/// The table of docs/hardening.md: symbol, and what it says is here.
fn exceptions() -> Result<BTreeMap<String, String>, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hardening.md");
    let page = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut lines = page.lines();
    lines
        .find(|line| line.starts_with("| symbol |"))
        .ok_or("docs/hardening.md has no table of symbols")?;
    let rows: BTreeMap<String, String> = lines
        .skip(1)
        .map_while(|line| line.strip_prefix("| "))
        .filter_map(|row| {
            let mut cells = row.split('|').map(str::trim);
            Some((cells.next()?.to_owned(), cells.nth(1)?.to_owned()))
        })
        .collect();
    if rows.is_empty() {
        return Err("the table of docs/hardening.md is empty".to_owned());
    }
    Ok(rows)
}

/// The values of a configuration's symbols, without quotation marks.
fn values(config: &str) -> BTreeMap<&str, &str> {
    config
        .lines()
        .filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='))
        .map(|(symbol, value)| (symbol, value.trim_matches('"')))
        .collect()
}

fn value<'a>(values: &BTreeMap<&str, &'a str>, symbol: &str) -> &'a str {
    values.get(symbol).copied().unwrap_or("n")
}

/// Held if there are no complaints.
fn none(complaints: impl Iterator<Item = String>) -> Result<Outcome, String> {
    let complaints: Vec<_> = complaints.collect();
    if complaints.is_empty() {
        return Ok(Outcome::Held);
    }
    Err(complaints.join("\n"))
}

/// What makes the kernel harder to attack, and must be on.
const ON: &str = "\
    AMD_IOMMU BPF_UNPRIV_DEFAULT_OFF BUG BUG_ON_DATA_CORRUPTION CPU_MITIGATIONS DEBUG_NOTIFIERS \
    DEBUG_SG DEBUG_VIRTUAL DEBUG_WX EFI_DISABLE_PCI_DMA FORTIFY_SOURCE GCC_PLUGIN_LATENT_ENTROPY \
    GCC_PLUGIN_STACKLEAK HARDENED_USERCOPY HW_RANDOM_TPM INIT_ON_ALLOC_DEFAULT_ON \
    INIT_STACK_ALL_ZERO INTEL_IOMMU INTEL_IOMMU_DEFAULT_ON INTEL_IOMMU_SVM \
    IOMMU_DEFAULT_DMA_STRICT IOMMU_SUPPORT KFENCE LIST_HARDENED \
    LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY MICROCODE MITIGATION_GDS MITIGATION_IBPB_ENTRY \
    MITIGATION_IBRS_ENTRY MITIGATION_ITS MITIGATION_L1TF MITIGATION_MDS \
    MITIGATION_MMIO_STALE_DATA MITIGATION_PAGE_TABLE_ISOLATION MITIGATION_RETBLEED \
    MITIGATION_RETHUNK MITIGATION_RETPOLINE MITIGATION_RFDS MITIGATION_SLS MITIGATION_SPECTRE_BHI \
    MITIGATION_SPECTRE_V1 MITIGATION_SPECTRE_V2 MITIGATION_SRBDS MITIGATION_SRSO MITIGATION_SSB \
    MITIGATION_TAA MITIGATION_TSA MITIGATION_UNRET_ENTRY PAGE_TABLE_CHECK \
    PAGE_TABLE_CHECK_ENFORCED PROC_MEM_NO_FORCE RANDOMIZE_BASE RANDOMIZE_KSTACK_OFFSET_DEFAULT \
    RANDOMIZE_MEMORY RANDOM_KMALLOC_CACHES RANDSTRUCT_FULL RESET_ATTACK_MITIGATION SCHED_CORE \
    SCHED_STACK_END_CHECK SECCOMP SECCOMP_FILTER SECURITY SECURITY_DMESG_RESTRICT \
    SECURITY_LANDLOCK SECURITY_LOCKDOWN_LSM SECURITY_LOCKDOWN_LSM_EARLY SECURITY_YAMA \
    SHUFFLE_PAGE_ALLOCATOR SLAB_BUCKETS SLAB_FREELIST_HARDENED SLAB_FREELIST_RANDOM \
    STACKPROTECTOR STACKPROTECTOR_STRONG STATIC_USERMODEHELPER STRICT_KERNEL_RWX SYN_COOKIES \
    THREAD_INFO_IN_TASK UBSAN_BOUNDS UBSAN_TRAP VMAP_STACK WERROR X86_INTEL_TSX_MODE_OFF \
    X86_KERNEL_IBT X86_MCE X86_MCE_AMD X86_MCE_INTEL X86_UMIP X86_USER_SHADOW_STACK \
    ZERO_CALL_USED_REGS";

/// What makes it easier, and must be off.
const OFF: &str = "\
    ACPI_CONFIGFS ACPI_TABLE_UPGRADE BINFMT_MISC BLK_DEV_FD BLK_DEV_IO_TRACE BLK_DEV_UBLK \
    BLK_DEV_WRITE_MOUNTED CACHESTAT_SYSCALL CHECKPOINT_RESTORE COMPAT COMPAT_BRK COMPAT_VDSO \
    COREDUMP CRASH_DUMP CRYPTO_USER_API CRYPTO_USER_API_AEAD CRYPTO_USER_API_HASH \
    CRYPTO_USER_API_RNG CRYPTO_USER_API_SKCIPHER DEBUG_FS DEBUG_KMEMLEAK DEVMEM DEVPORT \
    EFI_CUSTOM_SSDT_OVERLAYS EFI_TEST ENABLE_DEFAULT_TRACERS FAIL_FUTEX FAULT_INJECTION FB FTRACE \
    FUNCTION_TRACER GENERIC_TRACER HIBERNATION HIST_TRIGGERS HWPOISON_INJECT IA32_EMULATION \
    INET_DIAG INPUT_EVBUG IOMMU_DEFAULT_DMA_LAZY IOMMU_DEFAULT_PASSTHROUGH IO_URING IP_DCCP \
    IP_SCTP KALLSYMS KCMP KCOV KEXEC KEXEC_FILE KGDB KPROBES KPROBE_EVENTS KSM LATENCYTOP \
    LDISC_AUTOLOAD LEGACY_PTYS LEGACY_TIOCSTI LIVEPATCH LKDTM MAGIC_SYSRQ MAGIC_SYSRQ_SERIAL \
    MEM_SOFT_DIRTY MMIOTRACE MMIOTRACE_TEST MODIFY_LDT_SYSCALL MODULES MODULE_FORCE_LOAD MPTCP \
    NOTIFIER_ERROR_INJECTION N_GSM PREEMPTIRQ_TRACEPOINTS PROC_KCORE PROC_PAGE_MONITOR \
    PROC_VMCORE PROVE_LOCKING PROVIDE_OHCI1394_DMA_INIT PTDUMP_DEBUGFS PUNIT_ATOM_DEBUG RSEQ \
    SECCOMP_CACHE_DEBUG SLAB_MERGE_DEFAULT SMB_SERVER STACK_TRACER STAGING TEST_DEBUG_VIRTUAL \
    TIPC TLS UPROBE_EVENTS USELIB USERFAULTFD VT X86_16BIT X86_CPUID X86_IOPL_IOPERM X86_MSR \
    X86_VSYSCALL_EMULATION X86_X32_ABI";
