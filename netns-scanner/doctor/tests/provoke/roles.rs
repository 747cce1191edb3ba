//! What the processes in the rooms do: each goes on until its test ends it. The load comes by the
//! variable `LOAD`; with the same load and without the fault the same role is the healthy twin.

use std::io::{Read, Write, stdin, stdout};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

fn load() -> String {
    std::env::var("LOAD").expect("played by another test")
}

fn say(word: &str) {
    // At a line's end of its own, whatever the harness wrote before.
    let mut out = stdout();
    writeln!(out, "\n{word}").and_then(|()| out.flush()).expect("the test listens");
}

fn hear() -> String {
    let mut line = String::new();
    stdin().read_line(&mut line).expect("the test speaks");
    line.trim().to_owned()
}

fn forever() -> ! {
    loop {
        thread::park();
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Clients come all the time; "slow" accepts nobody. Where they are accepted each waits for the one
/// before it, so that the queue never has two.
#[test]
#[ignore = "a role for other tests"]
fn accepts() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
    listener.bind(&local(8080).into()).and_then(|()| listener.listen(4)).expect("listen");
    let listener = TcpListener::from(listener);
    let (told, heard) = std::sync::mpsc::channel();
    let is_slow = load() == "slow";
    if !is_slow {
        thread::spawn(move || listener.incoming().for_each(|client| drop(told.send(client))));
    } else {
        // Descriptors leak on purpose: nobody accepts, and the socket stays.
        std::mem::forget(listener);
    }
    thread::spawn(move || {
        loop {
            if is_slow {
                let _ = TcpStream::connect_timeout(&local(8080), Duration::from_millis(5));
            } else {
                let _client = TcpStream::connect(local(8080)).expect("there is room");
                let _accepted = heard.recv().expect("it is accepted");
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    thread::sleep(Duration::from_millis(50));
    say("ready");
    forever();
}

/// Datagrams come all the time, to a small buffer; "slow" reads none of them.
#[test]
#[ignore = "a role for other tests"]
fn receives() {
    let load = load();
    let (port, reads) = load.split_once(' ').expect("a port and how it reads");
    let address = local(port.parse().expect("a port"));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).expect("socket");
    socket.bind(&address.into()).expect("bind");
    let (told, heard) = std::sync::mpsc::channel();
    if reads == "slow" {
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        std::mem::forget(socket);
    } else {
        let socket = UdpSocket::from(socket);
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while socket.recv(&mut buffer).is_ok() {
                let _ = told.send(());
            }
        });
    }
    let sender = UdpSocket::bind(local(0)).expect("bind");
    say("ready");
    loop {
        let sent = sender.send_to(&[7; 200], address);
        assert!(reads == "slow" || sent.is_ok(), "{sent:?}");
        // Waits for the reader where there is one, so that it never has more than one to read.
        if reads == "slow" {
            thread::sleep(Duration::from_millis(1));
        } else {
            heard.recv().expect("what loopback takes arrives");
        }
    }
}

/// Sockets that come and go all the time, on ports of all sizes: some of them stand before any other
/// socket in the kernel's table, which begins at another port in each namespace.
#[test]
#[ignore = "a role for other tests"]
fn comes_and_goes() {
    say("ready");
    loop {
        let ports = (2000..65_000).step_by(9000);
        let some: Vec<UdpSocket> = ports.filter_map(|port| UdpSocket::bind(local(port)).ok()).collect();
        drop(some);
    }
}

/// Holds so many connections to one server.
#[test]
#[ignore = "a role for other tests"]
fn connects() {
    let listener = TcpListener::bind(local(80)).expect("listen");
    let count: usize = load().parse().expect("a number");
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(TcpStream::connect(local(80)).expect("a port is left"));
        held.push(listener.accept().expect("accept").0);
    }
    say("ready");
    forever();
}

/// A client of connections that the server has closed; "polls" asks them again and again.
#[test]
#[ignore = "a role for other tests"]
fn is_left() {
    let listener = TcpListener::bind(local(80)).expect("listen");
    let load = load();
    let (count, what) = load.split_once(' ').expect("a number and what to do");
    let connect = |_| {
        let client = TcpStream::connect(local(80)).expect("connect");
        let server = listener.accept().expect("accept").0;
        (client, server)
    };
    let pairs: Vec<(TcpStream, TcpStream)> = (0..count.parse().expect("a number")).map(connect).collect();
    let (mut clients, servers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let mut held = Some(servers);
    if what != "open-polls" {
        held = None;
    }
    say("ready");
    let mut byte = [0];
    for client in &clients {
        client.set_nonblocking(true).expect("non-blocking");
    }
    while what.ends_with("polls") {
        for client in &mut clients {
            let _ = client.read(&mut byte);
        }
    }
    let _held = (held, clients);
    forever();
}

/// A server and a client that talk as fast as they can. The first word of the load is where it
/// listens, the second whom it asks, "-" for nobody.
#[test]
#[ignore = "a role for other tests"]
fn talks() {
    let load = load();
    let (listens, asks) = load.split_once(' ').expect("two addresses");
    if listens != "-" {
        let listener = TcpListener::bind(listens).expect("listen");
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || answer(stream.expect("accept")));
            }
        });
    }
    if asks != "-" {
        let stream = TcpStream::connect(asks).expect("connect");
        thread::spawn(move || ask(stream));
    }
    say("ready");
    forever();
}

fn answer(mut stream: TcpStream) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).is_ok() {}
}

fn ask(mut stream: TcpStream) {
    let mut byte = [0];
    while stream.write_all(&byte).and_then(|()| stream.read_exact(&mut byte)).is_ok() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A client that sends a request each time that it is told to, and does not wait for the answer.
#[test]
#[ignore = "a role for other tests"]
fn sends() {
    say("here");
    let address = hear();
    let mut stream = TcpStream::connect(address).expect("connect");
    say("ready");
    loop {
        hear();
        stream.write_all(b"request").expect("the kernel takes it");
        say("sent");
    }
}

/// A server that reads and never answers.
#[test]
#[ignore = "a role for other tests"]
fn serves() {
    let listener = TcpListener::bind("0.0.0.0:80").expect("listen");
    say("ready");
    let mut held = Vec::new();
    for stream in listener.incoming() {
        held.push(stream);
    }
}

/// Holds a socket, and eats so many MiB in a child when it is told to.
#[test]
#[ignore = "a role for other tests"]
fn eats() {
    let _socket = TcpListener::bind(local(80)).expect("listen");
    say("ready");
    loop {
        let mib = hear();
        let eaten = std::process::Command::new("sh")
            .args(["-c", &format!("head -c {mib}m /dev/zero | tail | wc -c > /dev/null")])
            .status();
        assert!(eaten.is_ok());
        say("eaten");
    }
}

/// Holds a socket, and uses a whole processor or none.
#[test]
#[ignore = "a role for other tests"]
fn spins() {
    let _socket = TcpListener::bind(local(80)).expect("listen");
    say("ready");
    while load() == "spins" {
        std::hint::spin_loop();
    }
    forever();
}

/// So many flows are followed, and more of them begin all the time.
#[test]
#[ignore = "a role for other tests"]
fn is_followed() {
    crate::table::fill(load().parse().expect("a number"));
    say("ready");
    crate::table::send_forever();
}

/// A client that opens one more connection with a short word on it when it is told to "open", and else
/// says a long one on those that had none. Nobody has to answer.
#[test]
#[ignore = "a role for other tests"]
fn pours() {
    say("here");
    let address = hear();
    let mut opened: Vec<TcpStream> = Vec::new();
    let mut poured = Vec::new();
    say("ready");
    loop {
        if hear() == "open" {
            let mut stream = TcpStream::connect(&address).expect("connect");
            stream.set_nodelay(true).and_then(|()| stream.write_all(&[7; 301])).expect("the kernel takes it");
            opened.push(stream);
        } else {
            for mut stream in opened.drain(..) {
                stream.write_all(&[7; 20_000]).expect("the kernel takes it");
                poured.push(stream);
            }
        }
        say("sent");
    }
}

/// A client of a server at this address. It "polls": a request after the other on one connection; it
/// "opens" one for each; or it "watches": events come, and it makes room for them.
#[test]
#[ignore = "a role for other tests"]
fn asks() {
    let load = load();
    let (what, address) = load.split_once(' ').expect("what it does, and an address");
    let listener = TcpListener::bind(address).expect("listen");
    let watched = what == "watches";
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("accept");
            thread::spawn(move || if watched { tell(stream) } else { answer(stream) });
        }
    });
    let mut stream = TcpStream::connect(address).expect("connect");
    if watched {
        say("ready");
        let (mut event, room) = ([0; 4096], [7; 48]);
        while stream.read_exact(&mut event).and_then(|()| stream.write_all(&room)).is_ok() {}
    }
    let mut byte = [7];
    for request in 0.. {
        if what == "opens" {
            stream = TcpStream::connect(address).expect("connect");
        }
        stream.write_all(&byte).and_then(|()| stream.read_exact(&mut byte)).expect("it answers");
        if request == 200 {
            say("ready");
        }
        if request > 200 {
            thread::sleep(Duration::from_millis(if what == "opens" { 20 } else { 1 }));
        }
    }
}

fn tell(mut stream: TcpStream) {
    while stream.write_all(&[7; 4096]).is_ok() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Holds a socket, and opens files until there are so many.
#[test]
#[ignore = "a role for other tests"]
fn holds_files() {
    let _socket = TcpListener::bind(local(80)).expect("listen");
    let wanted: u64 = load().parse().expect("a number");
    let mut files = Vec::new();
    while std::fs::metadata("/proc/self/fd").expect("our own").len() < wanted {
        files.push(std::fs::File::open("/dev/null").expect("there is room"));
    }
    say("ready");
    forever();
}

/// Asks for datagrams to be sent to so many neighbours that nobody is.
#[test]
#[ignore = "a role for other tests"]
fn meets() {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
    let count: u8 = load().parse().expect("a number");
    say("ready");
    loop {
        for host in 1..=count {
            // Refused where nobody answered before.
            let _ = socket.send_to(b"x", (Ipv4Addr::new(10, 9, 1, host), 9));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Holds so many inotify instances with a watch each, looks as doctor does, and ends.
#[test]
#[ignore = "a role for other tests"]
fn watches_files() {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let watch = |_| {
        let instance = Inotify::init(InitFlags::IN_CLOEXEC).expect("an instance");
        instance.add_watch("/", AddWatchFlags::IN_DELETE_SELF).expect("a watch");
        instance
    };
    let held: Vec<Inotify> = (0..load().parse().expect("a number")).map(watch).collect();
    let checks = vec![doctor::CheckId::InotifyLimit];
    let report = doctor::examine(&doctor::Asked { checks, ..doctor::Asked::default() });
    let said = match report.findings.as_slice() {
        [found] => format!("{:?}: {}", found.severity, found.summary),
        _ if report.not_made.is_empty() => "fine".to_owned(),
        _ => format!("{report:?}"),
    };
    say(&format!("said {said}"));
    drop(held);
}
