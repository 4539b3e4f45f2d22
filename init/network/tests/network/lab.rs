//! A small network of its own for each test: a machine with one cable and two servers on a
//! switch, each in a network namespace, all removed afterwards.

use std::io::{self, BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

use crate::server::Asked;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who is on the switch.
pub(crate) const MACHINE: &str = "machine";
pub(crate) const ONE: &str = "one";
pub(crate) const TWO: &str = "two";
const SWITCH: &str = "switch";
const HOSTS: [(&str, u32); 3] = [(MACHINE, 10), (ONE, 11), (TWO, 12)];

pub(crate) struct Lab {
    prefix: String,
    directory: TempDir,
}

impl Lab {
    /// `None`, and a loud line, when the test may not make namespaces.
    pub(crate) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            // Not eprintln: the test runner would keep it to itself.
            let _ = writeln!(io::stderr(), "NOT TESTED, needs root: {name}");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            prefix: format!("bnt{}-{count}", std::process::id()),
            directory: tempfile::tempdir().unwrap(),
        };
        for host in [SWITCH, MACHINE, ONE, TWO] {
            run(&["netns", "add", &lab.namespace(host)]);
        }
        lab.ip(SWITCH, "link add bridge type bridge");
        lab.ip(SWITCH, "link set bridge up");
        for (host, number) in HOSTS {
            lab.plug(host, "eth0", number);
        }
        for (host, last) in [(ONE, 1), (TWO, 2)] {
            lab.ip(host, &format!("addr add 10.77.0.{last}/24 dev eth0"));
            lab.ip(host, "link set eth0 up");
            lab.ip(host, "route add default dev eth0");
        }
        lab.ip(MACHINE, "link set eth0 up");
        lab.wait_for_switch();
        Some(lab)
    }

    /// Gives a host an interface with a cable to the switch.
    pub(crate) fn plug(&self, host: &str, name: &str, number: u32) {
        let port = format!("{host}{number}");
        // Numbers that differ at the two ends: the kernel then reports carriers without delay.
        run(&[
            "link",
            "add",
            name,
            "index",
            &number.to_string(),
            "netns",
            &self.namespace(host),
            "type",
            "veth",
            "peer",
            "name",
            &port,
            "index",
            &(number + 50).to_string(),
            "netns",
            &self.namespace(SWITCH),
        ]);
        self.ip(SWITCH, &format!("link set {port} master bridge"));
        self.ip(SWITCH, &format!("link set {port} up"));
    }

    /// Waits until the switch forwards on every port: like a real one it drops what comes at
    /// once after a carrier.
    fn wait_for_switch(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self
            .ip(SWITCH, "-d link show")
            .matches("state forwarding")
            .count()
            < HOSTS.len()
        {
            assert!(Instant::now() < deadline, "the switch does not forward");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Pulls the machine's cable out or puts it in.
    pub(crate) fn cable(&self, state: &str) {
        self.ip(SWITCH, &format!("link set {MACHINE}10 {state}"));
    }

    /// Runs ip(8) for a host; what it prints.
    pub(crate) fn ip(&self, host: &str, arguments: &str) -> String {
        let namespace = self.namespace(host);
        let mut line = vec!["-n", &namespace];
        line.extend(arguments.split(' '));
        run(&line)
    }

    /// The machine's IPv4 addresses, as ip(8) prints them.
    pub(crate) fn addresses(&self) -> String {
        self.ip(MACHINE, "-o -4 addr show")
    }

    pub(crate) fn routes(&self) -> String {
        self.ip(MACHINE, "-4 route show")
    }

    pub(crate) fn mac(&self) -> String {
        let shown = self.ip(MACHINE, "-o link show dev eth0");
        let words: Vec<&str> = shown.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "link/ether").unwrap();
        words[at + 1].to_owned()
    }

    /// Leaves what an earlier boot would have: the lease of `address` on the state partition.
    pub(crate) fn remember(&self, address: &str) {
        let lease = format!(
            r#"{{"address":"{address}/24","server":"10.77.0.1","began_ms":1,"lasts":60,"renew":30,
                "rebind":50,"routes":[],"dns":[],"ntp":[],"domain":null,"mtu":null}}"#
        );
        let name = format!("{}.lease", self.mac().replace(':', ""));
        std::fs::create_dir(self.file("state")).unwrap();
        std::fs::write(self.file("state").join(name), lease).unwrap();
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the agent on the machine with these networks.
    pub(crate) fn agent(&self, networks: &str) -> Process {
        let program = std::env::current_exe().unwrap();
        let program = program
            .parent()
            .unwrap()
            .with_file_name("examples/network-agent");
        assert!(
            program.exists(),
            "cargo build -p berth-network --examples makes {program:?}"
        );
        let config = self.file("networks.json");
        std::fs::write(&config, networks).unwrap();
        self.spawn(MACHINE, &program, &[&config, self.directory.path()])
    }

    /// Starts dnsmasq as a host's DHCP server and waits until it serves.
    pub(crate) fn dnsmasq(&self, host: &str, options: &[&str]) -> Process {
        let leases = format!(
            "--dhcp-leasefile={}",
            self.file(&format!("{host}.leases")).display()
        );
        let always = [
            "--keep-in-foreground",
            "--log-facility=-",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=eth0",
            "--except-interface=lo",
            "--bind-interfaces",
            "--no-ping",
            "--pid-file=",
            "--no-hosts",
            "--no-resolv",
            "--user=root",
            &leases,
        ];
        let arguments: Vec<&Path> = always
            .iter()
            .chain(options)
            .map(|option| Path::new(*option))
            .collect();
        let mut server = self.spawn(host, Path::new("dnsmasq"), &arguments);
        server.wait("sockets bound");
        server
    }

    /// Answers a host's DHCP requests with whatever messages `answer` makes.
    pub(crate) fn serve(
        &self,
        host: &str,
        mut answer: impl FnMut(Asked) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Serving {
        let namespace =
            std::fs::File::open(format!("/run/netns/{}", self.namespace(host))).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let (ready, wait) = channel();
        let thread = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let socket = UdpSocket::bind("0.0.0.0:67").unwrap();
            socket.set_broadcast(true).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            ready.send(()).unwrap();
            let mut buffer = [0; 2048];
            while !end.load(Ordering::Relaxed) {
                let Ok(len) = socket.recv(&mut buffer) else {
                    continue;
                };
                for message in answer(Asked::read(&buffer[..len])) {
                    socket.send_to(&message, "255.255.255.255:68").unwrap();
                }
            }
        });
        wait.recv_timeout(PATIENCE)
            .expect("the server's thread runs");
        Serving {
            ended,
            thread: Some(thread),
        }
    }

    /// Starts a program on a host.
    pub(crate) fn spawn(&self, host: &str, program: &Path, arguments: &[&Path]) -> Process {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(host)])
            .arg(program)
            .args(arguments);
        Process::start(command)
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in [MACHINE, ONE, TWO, SWITCH] {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.namespace(host)])
                .status();
        }
    }
}

fn run(arguments: &[&str]) -> String {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("ip(8) of iproute2");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "ip {}: {error}",
        arguments.join(" ")
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A program whose lines are watched; killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    /// Everything it has said so far.
    pub(crate) said: Vec<String>,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let streams: [Box<dyn io::Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self {
            child,
            lines,
            said: Vec::new(),
        }
    }

    /// Waits for the next line with `text` in it.
    pub(crate) fn wait(&mut self, text: &str) -> String {
        self.wait_for(text, |line| line.contains(text))
    }

    /// Waits for the next line that has all of `texts` in it.
    pub(crate) fn wait_all(&mut self, texts: &[&str]) -> String {
        self.wait_for(&texts.join(" … "), |line| {
            texts.iter().all(|text| line.contains(text))
        })
    }

    fn wait_for(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if fits(&line) {
                        return line;
                    }
                }
                Err(error) => panic!("no {what:?} ({error}) in:\n{}", self.said.join("\n")),
            }
        }
    }

    /// Everything said until now.
    pub(crate) fn catch_up(&mut self) -> String {
        loop {
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return self.said.join("\n");
                }
            }
        }
    }

    /// Kills it as the kernel would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A hand-written server; ends when dropped.
pub(crate) struct Serving {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let result = self.thread.take().map(JoinHandle::join);
        if matches!(result, Some(Err(_))) && !std::thread::panicking() {
            panic!("the hand-written server failed");
        }
    }
}
