package bustest

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// Greeter starts a server that speaks as much of the protocol of NATS as it takes to
// connect, as a server of a version. It runs for the length of the test.
func Greeter(tb testing.TB, version string) (url string) {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { greet(conn, version) })
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close() // ends the server
		running.Wait()
	})
	return "nats://" + listener.Addr().String()
}

func greet(conn net.Conn, version string) {
	defer conn.Close() //nolint:errcheck // the test is over
	_, _ = fmt.Fprintf(conn, "INFO {\"server_id\":\"x\",\"version\":%q,\"headers\":true,\"max_payload\":1048576}\r\n", version)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "PING") {
			_, _ = fmt.Fprint(conn, "PONG\r\n")
		}
	}
}
