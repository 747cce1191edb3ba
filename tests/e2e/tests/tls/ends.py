"""Both ends of TLS handshakes, by OpenSSL, and what they have to say of each: a JSON object a line.

    ends.py matrix DIR                one of each kind, at the loopback address
    ends.py serve DIR ADDRESS         a server for what follows
    ends.py ask ADDRESS COUNT         so many handshakes in turn, of six kinds
"""
import json, socket, ssl, sys, threading

V = ssl.TLSVersion


def context(server, low, high=None, directory=None, ciphers="ALL:@SECLEVEL=0", alpn=None, curve=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    c.set_ciphers(ciphers)
    c.minimum_version, c.maximum_version = low, high or low
    if not server:
        c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    if directory:
        c.load_cert_chain(directory + "/cert.pem", directory + "/key.pem")
    if alpn:
        c.set_alpn_protocols(alpn)
    if curve:
        c.set_ecdh_curve(curve)
    return c


def talk(connection, tls):
    """A server's part; `tls` is a context, or bytes to say in place of a handshake."""
    try:
        if isinstance(tls, bytes):
            connection.recv(4096)
            connection.sendall(tls)
        else:
            connection = tls.wrap_socket(connection, server_side=True)
            connection.sendall(connection.recv(4))
    except (ssl.SSLError, OSError):
        pass
    connection.close()


def serve(listener, tls):
    while True:
        threading.Thread(target=talk, args=(listener.accept()[0], tls), daemon=True).start()


def listen(address, port):
    return socket.create_server((address, port), backlog=128)


def ask(address, port, name, tls, session=None):
    """One handshake, and four bytes each way. What came of it, and the session for another one."""
    said = {"port": port, "sni": name}
    raw = socket.create_connection((address, port))
    said["from"] = raw.getsockname()[1]
    try:
        s = tls.wrap_socket(raw, server_hostname=name, session=session)
        s.sendall(b"ping")
        assert s.recv(4) == b"ping"
        said.update(version=s.version(), cipher=s.cipher()[0], alpn=s.selected_alpn_protocol(), resumed=s.session_reused)
        session = s.session
        s.close()
    except (ssl.SSLError, OSError) as error:
        said["error"] = getattr(error, "reason", None) or "closed"
        raw.close()
    return said, session


def matrix(directory):
    alpn = ["h2", "http/1.1"]
    server = lambda *a, **k: context(True, *a, directory=directory, **k)
    client = lambda *a, **k: context(False, *a, **k)
    wary = client(V.TLSv1_2)
    wary.verify_mode = ssl.CERT_REQUIRED
    warier = client(V.TLSv1_3)
    warier.verify_mode = ssl.CERT_REQUIRED
    mutual = {}
    for version in (V.TLSv1_2, V.TLSv1_3):
        mutual[version] = server(version)
        mutual[version].verify_mode = ssl.CERT_REQUIRED
        mutual[version].load_verify_locations(directory + "/cert.pem")
    cases = [
        ("v10", server(V.TLSv1), client(V.TLSv1), 1),
        ("v11", server(V.TLSv1_1), client(V.TLSv1_1), 1),
        ("v12", server(V.TLSv1_2, alpn=["h2"]), client(V.TLSv1_2, alpn=alpn), 2),
        ("rsa-free", server(V.TLSv1_2, curve="secp384r1"), client(V.TLSv1_2), 1),
        ("v13", server(V.TLSv1_3, alpn=["h2"]), client(V.TLSv1_2, V.TLSv1_3, alpn=alpn), 2),
        ("retry", server(V.TLSv1_3, curve="prime256v1"), client(V.TLSv1_2, V.TLSv1_3), 1),
        ("lower", server(V.TLSv1_2), client(V.TLSv1_2, V.TLSv1_3), 1),
        ("mutual12", mutual[V.TLSv1_2], client(V.TLSv1_2, directory=directory), 1),
        ("mutual13", mutual[V.TLSv1_3], client(V.TLSv1_3, directory=directory), 1),
        ("anonymous12", mutual[V.TLSv1_2], client(V.TLSv1_2), 1),
        ("wary12", server(V.TLSv1_2), wary, 1),
        ("wary13", server(V.TLSv1_3), warier, 1),
        ("version", server(V.TLSv1_2, V.TLSv1_3), client(V.TLSv1_1), 1),
        ("cipher", server(V.TLSv1_2, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"), client(V.TLSv1_2, ciphers="AES256-SHA"), 1),
        ("plain", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", client(V.TLSv1_2, V.TLSv1_3), 1),
        ("silent", b"", client(V.TLSv1_2, V.TLSv1_3), 1),
    ]
    for number, (name, at_server, at_client, times) in enumerate(cases):
        listener = listen("127.0.0.1", 20000 + number)
        threading.Thread(target=serve, args=(listener, at_server), daemon=True).start()
        session = None
        for _ in range(times):
            said, session = ask("127.0.0.1", 20000 + number, name + ".example", at_client, session)
            print(json.dumps({"case": name, **said}), flush=True)


KINDS = [
    ("v10", V.TLSv1, V.TLSv1, False),
    ("v12", V.TLSv1_2, V.TLSv1_2, False),
    ("v13", V.TLSv1_3, V.TLSv1_3, False),
    ("again12", V.TLSv1_2, V.TLSv1_2, True),
    ("again13", V.TLSv1_3, V.TLSv1_3, True),
    ("refused", V.TLSv1_1, V.TLSv1_1, False),
]


def main(what, *args):
    if what == "matrix":
        return matrix(args[0])
    if what == "serve":
        listeners = []
        for number, (name, low, high, _) in enumerate(KINDS):
            low, high = (V.TLSv1_2, V.TLSv1_3) if name == "refused" else (low, high)
            listeners.append((listen(args[1], 21000 + number), context(True, low, high, args[0])))
        for listener, tls in listeners:
            threading.Thread(target=serve, args=(listener, tls), daemon=True).start()
        print("ready", flush=True)
        threading.Event().wait()
    sums, sessions = {}, {}
    contexts = [context(False, low, high) for _, low, high, _ in KINDS]
    for number in range(int(args[1])):
        kind = number % len(KINDS)
        name, _, _, again = KINDS[kind]
        said, session = ask(args[0], 21000 + kind, name + ".example", contexts[kind], sessions.get(kind))
        if again:
            sessions[kind] = session
        key = name + (" refused" if "error" in said else " resumed" if said["resumed"] else "")
        sums[key] = sums.get(key, 0) + 1
    print(json.dumps(sums), flush=True)


main(*sys.argv[1:])
