package conformance

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// longestDelay is how late a piece of an answer comes at most.
const longestDelay = 400 * time.Millisecond

// late is a place whose answers reach the detector late, each piece by another time, as
// those of a server that has too much to do. Changes reach the server at once.
func late(start func(t *testing.T) *place) func(t *testing.T) *place {
	return func(t *testing.T) *place {
		t.Helper()
		p := start(t)
		p.url = startLateRelay(t, strings.TrimPrefix(p.url, "ldap://"))
		return p
	}
}

// startLateRelay listens for clients of the server at an address, for the length of the
// test.
func startLateRelay(t *testing.T, address string) (url string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { relayLate(ctx, client, address) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close() // ends the relay
		cancel()
		running.Wait()
	})
	return "ldap://" + listener.Addr().String()
}

// relayLate passes a connection on until one of both ends it, or ctx ends.
func relayLate(ctx context.Context, client net.Conn, address string) {
	server, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		_ = client.Close() // it learns that there is no server
		return
	}
	end := func() { _ = client.Close(); _ = server.Close() } // the connection is over
	stop := context.AfterFunc(ctx, end)
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(server, client); end() })
	both.Go(func() { copyLate(ctx, client, server); end() })
	both.Wait()
}

// copyLate passes each piece on after a while.
func copyLate(ctx context.Context, to io.Writer, from io.Reader) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		timer := time.NewTimer(rand.N(longestDelay))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// What a server says late is said all the same.
func TestOpenLDAP_lateHistory(t *testing.T) {
	t.Parallel()
	testHistories(t, []row{
		{"syncrepl", late(openLDAP("overlay")), connection.ModeSyncrepl},
		{"snapshot", late(openLDAP("overlay")), connection.ModeSnapshot},
		{"timestamp", late(openLDAP("overlay")), connection.ModeTimestamp},
	})
}
