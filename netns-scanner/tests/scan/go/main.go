// Listens as a program in Go does that says nothing of MPTCP, connects to itself, and tells of it: a
// line with the protocol of each listening socket, then one with both ends of each connection.
// Stays until its input ends.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// SO_PROTOCOL of linux/socket.h.
const soProtocol = 38

func main() {
	var kept []any
	for _, at := range []struct {
		listen string
		dial   []string
	}{
		{"127.0.0.1:0", []string{"127.0.0.1"}},
		{"[::1]:0", []string{"::1"}},
		{":0", []string{"127.0.0.1", "::1"}},
	} {
		listener, err := net.Listen("tcp", at.listen)
		must(err)
		raw, err := listener.(*net.TCPListener).SyscallConn()
		must(err)
		must(raw.Control(func(fd uintptr) {
			protocol, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, soProtocol)
			must(err)
			fmt.Println("listens", protocol)
		}))
		_, port, err := net.SplitHostPort(listener.Addr().String())
		must(err)
		for _, host := range at.dial {
			client, err := net.Dial("tcp", net.JoinHostPort(host, port))
			must(err)
			server, err := listener.Accept()
			must(err)
			fmt.Println("connected", client.LocalAddr(), client.RemoteAddr())
			kept = append(kept, client, server)
		}
		kept = append(kept, listener)
	}
	fmt.Println("over")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = kept
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
