//! What the log role promises, with real pipes and files.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread;

use super::*;

/// A container's output and a log role that reads it.
struct Bench {
    directory: tempfile::TempDir,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    role: Option<thread::JoinHandle<io::Result<()>>>,
}

impl Bench {
    fn keeping(keep_bytes: u64) -> Self {
        let mut bench = Self {
            directory: tempfile::tempdir().expect("a directory"),
            stdout: None,
            stderr: None,
            role: None,
        };
        bench.start(keep_bytes);
        bench
    }

    fn start(&mut self, keep_bytes: u64) {
        let (stdout, write_stdout) = files::pipe(0).expect("a pipe");
        let (stderr, write_stderr) = files::pipe(0).expect("a pipe");
        (self.stdout, self.stderr) = (Some(write_stdout), Some(write_stderr));
        let source = Source {
            name: "web".into(),
            keep_bytes,
            stdout,
            stderr,
        };
        let directory = self.directory.path().to_owned();
        self.role = Some(thread::spawn(move || run(&directory, vec![source])));
    }

    fn write(&self, stream: Stream, mut bytes: &[u8]) {
        let pipe = match stream {
            Stream::Stdout => self.stdout.as_ref(),
            Stream::Stderr => self.stderr.as_ref(),
        };
        while !bytes.is_empty() {
            let written = files::write(pipe.expect("open").as_fd(), bytes).expect("written");
            bytes = &bytes[written..];
        }
    }

    /// Closes the pipes and waits until the role has read everything.
    fn finish(&mut self) {
        (self.stdout, self.stderr) = (None, None);
        let role = self.role.take().expect("started");
        role.join().expect("no panic").expect("no error");
    }

    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.directory.path().join(name)).unwrap_or_default()
    }

    /// What one stream of the container's wrote, as far as it was kept.
    fn kept(&self, stream: Stream) -> Vec<u8> {
        let mut kept = Vec::new();
        for name in ["web.1", "web"] {
            for line in self.file(name).split(|byte| *byte == b'\n') {
                match Record::parse(line) {
                    Some(record) if record.stream == stream => {
                        kept.extend_from_slice(record.content);
                        if record.full {
                            kept.push(b'\n');
                        }
                    }
                    _ => {}
                }
            }
        }
        kept
    }
}

use record::Record;

#[test]
fn both_streams_are_kept_byte_for_byte() {
    let mut bench = Bench::keeping(8 << 20);
    let mut everything: Vec<u8> = (0..=255).collect();
    everything.extend(std::iter::repeat_n(b'x', 100_000));
    everything.extend(b"\n\n\nend without a newline");
    bench.write(Stream::Stdout, &everything);
    bench.write(Stream::Stderr, b"a warning\n");
    bench.finish();
    assert_eq!(bench.kept(Stream::Stdout), everything);
    assert_eq!(bench.kept(Stream::Stderr), b"a warning\n");
}

#[test]
fn the_newest_is_kept_and_never_more_than_asked_for() {
    let keep_bytes = 64 << 10;
    let mut bench = Bench::keeping(keep_bytes);
    let mut written = Vec::new();
    for line in 0..20_000 {
        written.extend(format!("line {line}\n").bytes());
    }
    bench.write(Stream::Stdout, &written);
    bench.finish();
    let (newer, older) = (bench.file("web").len(), bench.file("web.1").len());
    assert!((newer + older) as u64 <= keep_bytes, "{newer} + {older}");
    assert!(older as u64 > keep_bytes / 4, "{older}");
    let kept = bench.kept(Stream::Stdout);
    assert!(!kept.is_empty() && written.ends_with(&kept));
}

#[test]
fn a_role_that_is_started_again_goes_on_where_the_last_one_ended() {
    let mut bench = Bench::keeping(8 << 20);
    bench.write(Stream::Stdout, b"before ");
    bench.finish();
    bench.start(8 << 20);
    bench.write(Stream::Stdout, b"and after\n");
    bench.finish();
    assert_eq!(bench.kept(Stream::Stdout), b"before and after\n");
}

#[test]
fn a_log_that_cannot_be_written_loses_output_but_never_blocks_the_container() {
    let mut bench = Bench::keeping(8 << 20);
    // A directory in the file's place: neither can be opened.
    let path = bench.directory.path().join("web");
    std::fs::create_dir(&path).expect("made");
    bench.write(Stream::Stdout, &vec![b'x'; 1 << 20]);
    bench.finish();
    assert!(path.is_dir());
}

#[test]
fn what_was_lost_is_told_when_the_log_can_be_written_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("web");
    std::fs::create_dir(&path).expect("made");
    let mut log = File::new(directory.path(), "web", 1 << 20);
    log.append(since_1970(), Stream::Stdout, b"lost\n");
    std::fs::remove_dir(&path).expect("removed");
    log.append(since_1970(), Stream::Stdout, b"kept\n");
    assert_eq!(
        tail(directory.path(), "web", 9),
        ["[5 bytes of output were lost]", "kept"]
    );
}

#[test]
fn the_last_lines_are_shown_without_what_could_steer_a_terminal() {
    let mut bench = Bench::keeping(8 << 20);
    bench.write(Stream::Stdout, b"first\nsecond\n\x1b[2Jclear\x07\n");
    bench.write(Stream::Stderr, b"error: no such");
    bench.finish();
    let mut lines = tail(bench.directory.path(), "web", 3);
    // The two pipes may be read in either order.
    lines.sort();
    assert_eq!(lines.len(), 3);
    assert!(lines.contains(&"error: no such".to_owned()) || lines.contains(&"second".to_owned()));
    assert!(
        lines.contains(&"\u{fffd}[2Jclear\u{fffd}".to_owned()),
        "{lines:?}"
    );
    assert!(tail(bench.directory.path(), "db", 3).is_empty());
}

/// A file system of this size and a path to its root; `None`, and a loud line, when the test may
/// not make one.
fn small(size: &std::ffi::CStr) -> Option<(OwnedFd, PathBuf)> {
    use crate::sys::mounts;
    let made = mounts::file_system(c"tmpfs").and_then(|context| {
        mounts::parameter(context.as_fd(), c"size", Some(size))?;
        mounts::create(
            context.as_fd(),
            mounts::NOSUID | mounts::NODEV | mounts::NOEXEC,
        )
    });
    if made.is_err() {
        let name = thread::current().name().unwrap_or_default().to_owned();
        // Not eprintln: the test runner would keep it to itself.
        let _ = writeln!(io::stderr(), "NOT TESTED, needs root: {name}");
    }
    let mount = made.ok()?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
    Some((mount, path))
}

#[test]
fn a_log_without_room_drops_its_oldest_and_keeps_the_newest() {
    let Some((_mount, directory)) = small(c"256k") else {
        return;
    };
    // It may keep what there is no room for: all is found out in writing.
    let mut log = File::new(&directory, "web", 1 << 30);
    let mut last = String::new();
    for line in 0..20_000 {
        last = format!("line {line}");
        log.append(since_1970(), Stream::Stdout, format!("{last}\n").as_bytes());
    }
    assert_eq!(tail(&directory, "web", 1), [last]);
    // Nothing is torn, and nothing is missing in between.
    let text = std::fs::read_to_string(directory.join("web")).expect("text");
    let kept: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    let first: usize = kept[0].parse().expect("a number");
    let expected: Vec<String> = (first..20_000).map(|line| line.to_string()).collect();
    assert_eq!(kept, expected);
}

#[test]
fn a_log_without_room_gives_up_the_file_before_first() {
    let Some((_mount, directory)) = small(c"64k") else {
        return;
    };
    std::fs::write(directory.join("web.1"), vec![b'x'; 40 << 10]).expect("written");
    let mut log = File::new(&directory, "web", 1 << 30);
    log.append(since_1970(), Stream::Stdout, b"first\n");
    for _ in 0..3 {
        log.append(since_1970(), Stream::Stdout, &[b'x'; 8 << 10]);
    }
    log.append(since_1970(), Stream::Stdout, b"\nlast\n");
    assert!(!directory.join("web.1").exists());
    let lines = tail(&directory, "web", 9);
    assert_eq!(lines.last().map(String::as_str), Some("last"));
    let text = std::fs::read_to_string(directory.join("web")).expect("text");
    assert!(
        text.lines()
            .next()
            .is_some_and(|line| line.ends_with(" first"))
    );
}

#[test]
fn one_containers_flood_takes_no_other_containers_log() {
    let Some((_mount, directory)) = small(c"512k") else {
        return;
    };
    let output = || files::pipe(0).expect("a pipe");
    let (flood, quiet, errors) = (output(), output(), [output(), output()]);
    let [flood_errors, quiet_errors] = errors;
    let source = |name: &str, keep_bytes, stdout, stderr| Source {
        name: name.into(),
        keep_bytes,
        stdout,
        stderr,
    };
    let sources = vec![
        source("flood", 1 << 30, flood.0, flood_errors.0),
        source("quiet", 64 << 10, quiet.0, quiet_errors.0),
    ];
    drop((flood_errors.1, quiet_errors.1));
    let at = directory.clone();
    let role = thread::spawn(move || run(&at, sources));
    let say = |pipe: &OwnedFd, line: usize| {
        let text = format!("line {line} {:100}\n", "");
        files::write(pipe.as_fd(), text.as_bytes()).expect("written");
    };
    say(&quiet.1, 0);
    for line in 0..20_000 {
        say(&flood.1, line);
    }
    say(&quiet.1, 1);
    drop((flood.1, quiet.1));
    role.join().expect("no panic").expect("no error");
    assert_eq!(tail(&directory, "quiet", 9), ["line 0", "line 1"]);
    assert_eq!(tail(&directory, "flood", 1), ["line 19999"]);
    // Its share is used.
    let size = |name: &str| std::fs::metadata(directory.join(name)).map_or(0, |data| data.len());
    let kept = size("flood") + size("flood.1");
    assert!((200 << 10..=416 << 10).contains(&kept), "{kept}");
}

#[test]
fn logs_that_want_more_than_there_is_share_what_is_left_by_those_that_want_little() {
    let most = |wanted: &[u64], room| most_of_each(wanted.iter().copied(), room);
    assert_eq!(most(&[], 100), u64::MAX);
    assert_eq!(most(&[60, 40], 100), u64::MAX);
    assert_eq!(most(&[1 << 40], 100), 100);
    assert_eq!(most(&[1 << 40, 20, 1 << 30], 100), 40);
    assert_eq!(most(&[50, 50, 50, 50], 100), 25);
    assert_eq!(most(&[u64::MAX, u64::MAX], u64::MAX), u64::MAX / 2);
    assert_eq!(most(&[1, 1], 0), 0);
}

#[test]
fn a_container_that_empties_its_own_output_never_makes_the_role_wait() {
    let (pipe, _write) = files::pipe(0).expect("a pipe");
    let input = Input::new(pipe, Stream::Stdout, 0).expect("an input");
    let flags = nix::fcntl::fcntl(&input.pipe, nix::fcntl::FcntlArg::F_GETFL).expect("flags");
    assert_ne!(flags & libc::O_NONBLOCK, 0, "reading would wait here");
    // As if poll had told of something that another reader was faster to take.
    assert_eq!(input.read(&mut [0; 8]), Some(&[][..]));
}

#[test]
fn only_the_reading_end_of_a_containers_output_does_not_wait() {
    let mut bench = Bench::keeping(8 << 20);
    bench.write(Stream::Stdout, &vec![b'x'; 1 << 20]);
    let pipe = bench.stdout.as_ref().expect("open");
    let flags = nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_GETFL).expect("flags");
    assert_eq!(flags & libc::O_NONBLOCK, 0);
    bench.finish();
    assert_eq!(bench.kept(Stream::Stdout).len(), 1 << 20);
}

#[test]
fn descriptors_that_are_not_there_are_told_by_name() {
    let error = inherited(900, [("web", 1)].into_iter()).expect_err("closed");
    assert!(
        error
            .to_string()
            .starts_with("the output of web, descriptor 900: ")
    );
}
