//! Probes over the network against servers that behave in every way that servers do.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use berth_containers::probe::Answer;
use berth_containers::spec::Probe;
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{UsageWho, getrusage};

use crate::lab::{Kind, Lab, PATIENCE, assert_bad};

/// A server on the loopback address of the machine, or of a container's network.
struct Server {
    port: u16,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new(answer: impl Fn(TcpStream) + Send + 'static) -> Self {
        Self::at("127.0.0.1:0", None, answer)
    }

    fn at(at: &str, namespace: Option<File>, answer: impl Fn(TcpStream) + Send + 'static) -> Self {
        let (ports, port) = mpsc::channel();
        let ends = Arc::new(AtomicBool::new(false));
        let (at, stop) = (at.to_owned(), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            if let Some(namespace) = namespace {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("joined");
            }
            let listener = TcpListener::bind(at).expect("a port");
            listener.set_nonblocking(true).expect("set");
            ports
                .send(listener.local_addr().expect("bound").port())
                .expect("heard");
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).expect("set");
                        answer(stream);
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Self {
            port: port.recv().expect("started"),
            ends,
            thread: Some(thread),
        }
    }

    fn saying(bytes: &'static [u8]) -> Self {
        Self::new(move |mut stream| {
            read_request(&mut stream);
            let _ = stream.write_all(bytes);
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        request.push(byte[0]);
    }
    String::from_utf8_lossy(&request).into_owned()
}

/// Waits until the other end has gone, whatever it wrote.
fn hang(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.read_to_end(&mut Vec::new());
}

fn http(port: u16) -> Probe {
    Probe::Http {
        address: None,
        port,
        path: "/healthz?deep".into(),
    }
}

fn tcp(port: u16) -> Probe {
    Probe::Tcp {
        address: None,
        port,
    }
}

fn host_network() -> Option<Lab> {
    Lab::new(Kind::default(), "")
}

#[test]
fn statuses_from_200_to_399_are_healthy_and_all_others_are_told() {
    let Some(mut lab) = host_network() else {
        return;
    };
    for (answer, status) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], None),
        (b"HTTP/1.0 204 No Content\r\n\r\n", None),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: http://192.0.2.1/\r\n\r\n",
            None,
        ),
        (b"HTTP/1.1 399", None),
        (b"HTTP/1.1 199 What\r\n\r\n", Some("status 199")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Some("status 400")),
        (
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
            Some("status 503"),
        ),
        (b"HTTP/1.1 999 \r\n\r\n", Some("status 999")),
    ] {
        let server = Server::saying(answer);
        let found = lab.ask(http(server.port));
        match status {
            None => assert_eq!(found, Answer::good(), "{answer:?}"),
            Some(status) => assert_bad(&found, status),
        }
    }
}

#[test]
fn the_request_is_one_that_every_server_understands() {
    let Some(mut lab) = host_network() else {
        return;
    };
    let (requests, request) = mpsc::channel();
    let server = Server::new(move |mut stream| {
        requests.send(read_request(&mut stream)).expect("heard");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    });
    assert_eq!(lab.ask(http(server.port)), Answer::good());
    let request = request.recv_timeout(PATIENCE).expect("a request");
    let host = format!("\r\nHost: 127.0.0.1:{}\r\n", server.port);
    assert!(
        request.starts_with("GET /healthz?deep HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains(&host) && request.contains("\r\nConnection: close\r\n"));
}

#[test]
fn a_port_that_nothing_listens_on_is_told() {
    let Some(mut lab) = host_network() else {
        return;
    };
    let port = Server::new(drop).port;
    let says = format!("nothing listens on port {port}");
    assert_bad(&lab.ask(http(port)), &says);
    assert_bad(&lab.ask(tcp(port)), &says);
}

#[test]
fn a_connection_is_enough_for_a_tcp_probe() {
    let Some(mut lab) = host_network() else {
        return;
    };
    let server = Server::new(drop);
    assert_eq!(lab.ask(tcp(server.port)), Answer::good());
    assert_bad(
        &lab.ask(http(server.port)),
        "it closed the connection without",
    );
}

#[test]
fn a_server_that_accepts_and_says_nothing_costs_the_timeout_and_no_more() {
    let Some(mut lab) = host_network() else {
        return;
    };
    let server = Server::new(hang);
    let start = Instant::now();
    let found = lab.ask_within(http(server.port), 400);
    assert_bad(&found, "within 400 ms");
    assert!(start.elapsed() >= Duration::from_millis(400));
}

#[test]
fn a_server_that_drips_byte_by_byte_cannot_prolong_its_time() {
    let Some(mut lab) = host_network() else {
        return;
    };
    let server = Server::new(|mut stream| {
        read_request(&mut stream);
        for byte in b"HTTP/1.1 200 OK\r\n\r\n" {
            std::thread::sleep(Duration::from_millis(100));
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    });
    assert_bad(&lab.ask_within(http(server.port), 500), "within 500 ms");
}

#[test]
fn garbage_is_no_answer() {
    let Some(mut lab) = host_network() else {
        return;
    };
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"\x15\x03\x01\x00\x02\x02\x50",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 OK 200\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
    ] {
        let server = Server::saying(garbage);
        assert_bad(&lab.ask(http(server.port)), "its answer is not HTTP");
    }
    for (start, says) in [
        (&b""[..], "closed the connection without"),
        (b"HTTP/1.1 2", "closed the connection within"),
    ] {
        let server = Server::saying(start);
        assert_bad(&lab.ask(http(server.port)), says);
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let Some(mut lab) = host_network() else {
        return;
    };
    let server = Server::new(|mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream
            .write_all(b"X-More: and more, and more, and more\r\n")
            .is_ok()
        {}
    });
    let start = Instant::now();
    assert_eq!(lab.ask(http(server.port)), Answer::good());
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "long before its timeout"
    );

    let server = Server::new(|mut stream| {
        read_request(&mut stream);
        while stream.write_all(b"HTTP/1.1").is_ok() {}
    });
    assert_bad(&lab.ask(http(server.port)), "not HTTP");
}

#[test]
fn a_container_with_its_own_network_is_asked_there_and_nowhere_else() {
    let own = Kind {
        own_network: true,
        ..Kind::default()
    };
    let Some(mut lab) = Lab::new(own, "") else {
        return;
    };
    let outside = Server::saying(b"HTTP/1.1 200 OK\r\n\r\n");
    assert_bad(&lab.ask(http(outside.port)), "nothing listens");

    let namespace = |lab: &Lab| File::open(format!("/proc/{}/ns/net", lab.pid())).expect("there");
    let answer = |mut stream: TcpStream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    };
    // Its loopback interface is up, for both families; a name is not needed for either.
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let inside = Server::at(at, Some(namespace(&lab)), answer);
        assert_eq!(lab.ask(http(inside.port)), Answer::good(), "{at}");
    }
    let inside = Server::at("[::1]:0", Some(namespace(&lab)), answer);
    let at_v6 = Probe::Tcp {
        address: Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        port: inside.port,
    };
    assert_eq!(lab.ask(at_v6), Answer::good());
    // An address that leads nowhere from in there.
    let nowhere = Probe::Tcp {
        address: Some(IpAddr::from([192, 0, 2, 1])),
        port: 80,
    };
    assert_bad(&lab.ask(nowhere), "no connection to port 80");
}

#[test]
fn a_container_that_has_ended_is_told_and_nothing_hangs() {
    let Some(mut lab) = host_network() else {
        return;
    };
    lab.end();
    assert_bad(&lab.ask(tcp(80)), "its network cannot be joined");
}

#[test]
fn who_reads_the_answer_has_no_privilege_left() {
    let Some(mut lab) = host_network() else {
        return;
    };
    let (reached, reach) = mpsc::channel();
    let server = Server::new(move |stream| {
        reached.send(()).expect("heard");
        hang(stream);
    });
    let prober = lab.prober(http(server.port), 2_000);
    reach.recv_timeout(PATIENCE).expect("it connects");
    let status = std::fs::read_to_string(format!("/proc/{}/status", prober.pid())).expect("runs");
    for line in [
        "Uid:\t65534\t65534\t65534\t65534",
        "Gid:\t65534\t65534\t65534\t65534",
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(
            status.lines().any(|found| found == line),
            "{line}: {status}"
        );
    }
    assert_bad(&prober.answer(), "within 2000 ms");
}

/// Run alone and with `--release --nocapture`, the figures of docs/yardsticks.md.
#[test]
fn a_probe_costs_little() {
    let Some(mut lab) = host_network() else {
        return;
    };
    let (reached, reach) = mpsc::channel();
    let silent = Server::new(move |stream| {
        reached.send(()).expect("heard");
        hang(stream);
    });
    let prober = lab.prober(http(silent.port), 1_000);
    reach.recv_timeout(PATIENCE).expect("it connects");
    let status = std::fs::read_to_string(format!("/proc/{}/status", prober.pid())).expect("runs");
    let anonymous = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok())
        .expect("its memory");
    assert!(anonymous < 1024, "{anonymous} KiB are its own");
    assert_bad(&prober.answer(), "within");

    let count = 50;
    let server = Server::saying(b"HTTP/1.1 200 OK\r\n\r\n");
    let before = children_us();
    for _ in 0..count {
        assert_eq!(lab.ask(http(server.port)), Answer::good());
    }
    let each_us = (children_us() - before) / count;
    println!("anonymous_kib={anonymous} cpu_us={each_us}");
}

/// Processor time of all children that have ended.
fn children_us() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage");
    let us = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    us(usage.user_time()) + us(usage.system_time())
}
