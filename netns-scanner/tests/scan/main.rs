//! The three sources against one namespace with real sockets in it. Needs root: namespaces are made
//! and entered, a BPF iterator is loaded.

#[cfg(feature = "go")]
mod go;
mod listeners;
mod room;

use flow_model::{Endpoint, FiveTuple, Role, Slot, Transport};
use netns_scanner::deadline::Deadlines;
use netns_scanner::{
    Looked, Scanner, ScannerConfig, Seeded, Silent, Socket, Source, Target, Want, dump_by_procfs, dump_by_sock_diag,
    seeds,
};
use room::{Room, Talk, by_iterator, check_each_source, connections, expected, inside, lines, talk};
use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, mpsc};
use std::time::Duration;

#[test]
fn three_sources_tell_the_same() {
    for address in ["127.0.0.1", "::1"] {
        let room = Room::new();
        let talk = talk(&room, address);
        let expected = expected(&talk);
        let found = by_iterator(&room);
        assert!(found.iter().all(|socket| socket.pid == std::process::id()), "the holder of the sockets is named");
        assert_eq!(lines(&seeds(Slot(1), &found)), expected, "iterator");
        let found = room.netns.run(dump_by_sock_diag).expect("enter").expect("sock_diag");
        assert_eq!(lines(&seeds(Slot(1), &found)), expected, "sock_diag");
        let found = dump_by_procfs(room.holder.id(), room.netns.id().ino).expect("procfs");
        assert_eq!(lines(&seeds(Slot(1), &found)), expected, "procfs");
    }
}

#[test]
fn each_source_serves_the_background_scan() {
    let rooms: Vec<(Room, Talk)> = (0..6)
        .map(|_| {
            let room = Room::new();
            let talk = talk(&room, "127.0.0.1");
            (room, talk)
        })
        .collect();
    for (source, used) in [
        (None, Source::Iterator),
        (Some(Source::Iterator), Source::Iterator),
        (Some(Source::SockDiag), Source::SockDiag),
        (Some(Source::Procfs), Source::Procfs),
    ] {
        let config = ScannerConfig { source, ..ScannerConfig::default() };
        let (sender, receiver) = mpsc::channel::<Seeded>();
        let scanner = Scanner::start(config, Deadlines::default(), move |seeded| {
            let _ = sender.send(seeded);
            Ok(())
        })
        .expect("start");
        for (slot, (room, _)) in rooms.iter().enumerate() {
            scanner.enqueue(room.target(slot as u32));
        }
        let mut slots = BTreeSet::new();
        let mut sources = BTreeSet::new();
        for _ in 0..rooms.len() {
            let seeded = receiver.recv_timeout(Duration::from_secs(30)).expect("each target is answered");
            let (_, talk) = &rooms[seeded.slot.0 as usize];
            assert_eq!(lines(&connections(&seeded)), expected(talk), "{source:?}");
            slots.insert(seeded.slot);
            sources.insert(seeded.source.as_str());
        }
        assert_eq!(slots.len(), rooms.len());
        assert!(sources.contains(used.as_str()), "{sources:?}");
        // The last answer comes just before it is counted.
        while scanner.progress().done < 6 {
            std::thread::yield_now();
        }
        assert_eq!((scanner.progress().total, scanner.progress().failed), (6, 0));
    }
}

#[test]
fn a_process_that_is_gone_loses_one_item_and_not_the_scan() {
    let gone = Room::new();
    let target = gone.target(1);
    drop(gone);
    let room = Room::new();
    let talk = talk(&room, "127.0.0.1");
    let config = ScannerConfig { source: Some(Source::Procfs), ..ScannerConfig::default() };
    let (sender, receiver) = mpsc::channel::<Seeded>();
    let scanner = Scanner::start(config, Deadlines::default(), move |seeded| {
        let _ = sender.send(seeded);
        Ok(())
    })
    .expect("start");
    // Newest first: the dead one is taken up before the one that lives.
    scanner.enqueue(room.target(2));
    scanner.enqueue(target);
    let seeded = receiver.recv_timeout(Duration::from_secs(30)).expect("the living one is answered");
    assert_eq!(seeded.slot, Slot(2));
    assert_eq!(lines(&connections(&seeded)), expected(&talk));
    while scanner.progress().done < 2 {
        std::thread::yield_now();
    }
    assert_eq!(scanner.progress().failed, 1);
}

#[test]
fn a_connection_that_nobody_accepted_yet_is_found_by_each_source() {
    let room = Room::new();
    let (listener, client) = room
        .netns
        .run(|_| {
            let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listen");
            let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
            (listener, client)
        })
        .expect("enter the room");
    let name = |address: std::net::SocketAddr| format!("{}:{}", address.ip(), address.port());
    let (near, far) = (name(client.local_addr().expect("address")), name(listener.local_addr().expect("address")));
    let expected = BTreeSet::from([
        (Transport::Tcp, near.clone(), far.clone(), Role::Client),
        (Transport::Tcp, far, near, Role::Server),
    ]);
    for source in [Source::Iterator, Source::SockDiag, Source::Procfs] {
        let (sender, receiver) = mpsc::channel::<Seeded>();
        let config = ScannerConfig { source: Some(source), ..ScannerConfig::default() };
        let scanner = Scanner::start(config, Deadlines::default(), move |seeded| {
            let _ = sender.send(seeded);
            Ok(())
        })
        .expect("start");
        scanner.enqueue(room.target(1));
        let seeded = receiver.recv_timeout(Duration::from_secs(30)).expect("answered");
        assert_eq!(lines(&connections(&seeded)), expected, "{source:?}");
    }
}

#[test]
fn work_waits_for_its_release_and_for_new_containers_and_what_is_forgotten_is_not_handed_on() {
    let room = Room::new();
    let _talk = talk(&room, "127.0.0.1");
    let (sender, receiver) = mpsc::channel::<Seeded>();
    let config = ScannerConfig { released: false, ..ScannerConfig::default() };
    let scanner = Scanner::start(config, Deadlines::default(), move |seeded| {
        let _ = sender.send(seeded);
        Ok(())
    })
    .expect("start");
    scanner.enqueue(room.target(1));
    scanner.enqueue(room.target(2));
    scanner.attaching();
    scanner.forget(Slot(1));
    assert_eq!((scanner.progress().done, scanner.progress().total), (1, 2));
    assert!(receiver.try_recv().is_err(), "not released");
    scanner.release();
    scanner.attached();
    let seeded = receiver.recv_timeout(Duration::from_secs(30)).expect("released");
    assert_eq!(seeded.slot, Slot(2));
    while scanner.progress().done < 2 {
        std::thread::yield_now();
    }
    assert!(receiver.try_recv().is_err(), "what was forgotten is not handed on");
}

#[test]
fn a_receiver_without_room_is_asked_again_and_then_the_loss_is_counted() {
    let room = Room::new();
    let talk = talk(&room, "127.0.0.1");
    let expected = expected(&talk).len() as u64;
    let (sender, receiver) = mpsc::channel::<Seeded>();
    // Long enough for three offers on an emulated machine.
    let config = ScannerConfig { patience: Duration::from_secs(1), ..ScannerConfig::default() };
    let mut offers = 0;
    let scanner = Scanner::start(config, Deadlines::default(), move |seeded| {
        offers += 1;
        if seeded.slot == Slot(1) && offers < 3 || seeded.slot == Slot(2) {
            return Err(seeded);
        }
        let _ = sender.send(seeded);
        Ok(())
    })
    .expect("start");
    scanner.enqueue(room.target(1));
    let seeded = receiver.recv_timeout(Duration::from_secs(30)).expect("the third offer is taken");
    assert_eq!(connections(&seeded).len() as u64, expected);
    scanner.enqueue(room.target(2));
    while scanner.progress().done < 2 {
        std::thread::yield_now();
    }
    assert_eq!((scanner.progress().seeds, scanner.progress().seeds_lost), (expected, expected));
}

#[test]
fn a_namespace_without_ipv6_and_one_with_nothing_else_are_read_by_each_source() {
    let without = Room::new();
    inside(&without, "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
    check_each_source(&without, &talk(&without, "127.0.0.1"));
    let only = Room::new();
    inside(&only, "ip -4 addr flush dev lo && test -z \"$(ip -4 addr)\"");
    check_each_source(&only, &talk(&only, "::1"));
}

#[test]
fn a_v4_mapped_connection_is_told_as_ipv4_by_each_source() {
    let room = Room::new();
    let talk = room
        .netns
        .run(|_| {
            // A listener for both families: its end of an IPv4 connection is a v4-mapped address.
            let listener = TcpListener::bind("[::]:0").expect("listen");
            let port = listener.local_addr().expect("address").port();
            let client = TcpStream::connect(("127.0.0.1", port)).expect("connect");
            let (server, _) = listener.accept().expect("accept");
            let udp = UdpSocket::bind(("127.0.0.1", 0)).expect("bind");
            udp.connect(("127.0.0.1", 53)).expect("connect UDP");
            Talk { _listener: listener, client, _server: server, udp }
        })
        .expect("enter the room");
    check_each_source(&room, &talk);
}

#[test]
fn a_socket_is_of_the_cgroup_that_it_was_made_in() {
    let room = Room::new();
    let _talk = talk(&room, "127.0.0.1");
    let by_iterator = by_iterator(&room);
    let by_diag = room.netns.run(dump_by_sock_diag).expect("enter").expect("sock_diag");
    let cgroups = |sockets: &[Socket]| sockets.iter().map(|socket| socket.cgroup_id).collect::<BTreeSet<u64>>();
    assert_eq!(cgroups(&by_iterator), cgroups(&by_diag));
    assert_eq!(cgroups(&by_iterator).len(), 1, "all were made by this process");
    assert!(by_iterator.iter().all(|socket| socket.cgroup_id != 0));
}

#[test]
fn a_sweep_tells_which_connections_have_ended_and_nothing_of_those_that_wait_for_their_accept() {
    for source in [Source::Iterator, Source::SockDiag, Source::Procfs] {
        let room = Room::new();
        let [closes, stays] = [talk(&room, "127.0.0.1"), talk(&room, "::1")];
        let (listener, waits) = room
            .netns
            .run(|_| {
                let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listen");
                let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
                (listener, client)
            })
            .expect("enter the room");
        // All that was found, and one more that nobody ever had.
        let all = room.netns.run(dump_by_sock_diag).expect("enter").expect("sock_diag");
        let asked: Arc<[Silent]> = seeds(Slot(7), &all).iter().map(|seed| (seed.slot, seed.tuple)).collect();
        assert_eq!(asked.len(), 8, "two ends and UDP twice, and two ends of what waits");
        let gone: BTreeSet<FiveTuple> = {
            let of = |end: std::net::SocketAddr| Endpoint { ip: end.ip(), port: end.port() };
            let near = of(closes.client.local_addr().expect("address"));
            asked.iter().map(|(_, tuple)| *tuple).filter(|tuple| tuple.local == near || tuple.remote == near).collect()
        };
        let Talk { _listener, client, _server, udp } = closes;
        drop((client, _server));

        let config = ScannerConfig { source: Some(source), ..ScannerConfig::default() };
        let (sender, receiver) = mpsc::channel::<Seeded>();
        let scanner = Scanner::start(config, Deadlines::default(), move |seeded| {
            let _ = sender.send(seeded);
            Ok(())
        })
        .expect("start");
        // What is wanted of one namespace for two reasons comes twice.
        scanner.enqueue(Target { want: Want::Ended(Arc::clone(&asked)), ..room.target(1) });
        scanner.enqueue(room.target(1));
        let mut ended = None;
        for _ in 0..2 {
            let seeded = receiver.recv_timeout(Duration::from_secs(30)).expect("answered");
            match seeded.found {
                Looked::Ended(found) => ended = Some(found.into_iter().map(|(_, tuple)| tuple).collect()),
                found => assert!(matches!(&found, Looked::Seeds(seeds) if seeds.len() == 6), "{found:?}"),
            }
        }
        assert_eq!(ended, Some(gone), "{source:?}");
        while scanner.progress().sweeping > 0 || scanner.progress().done < 1 {
            std::thread::yield_now();
        }
        assert_eq!((scanner.progress().total, scanner.progress().done), (1, 1), "a sweep is no target");
        drop((stays, listener, waits, udp, _listener));
    }
}
