package bus_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
)

// forgetful stands between a client and a server. Of the requests that match it loses as
// many as it is told to, as a server does that stops and is replaced.
type forgetful struct {
	match []byte
	lose  atomic.Int64
	seen  atomic.Int64
}

// listen serves one connection to the server and returns the address.
func (f *forgetful) listen(t *testing.T, server string) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); running.Wait() })
	running.Go(func() {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = client.Close() }()
		upstream, err := (&net.Dialer{}).Dial("tcp", strings.TrimPrefix(server, "nats://"))
		if err != nil {
			t.Errorf("connect to the server: %v", err)
			return
		}
		running.Go(func() { _, _ = io.Copy(client, upstream) })
		defer func() { _ = upstream.Close() }()
		f.forward(upstream, client)
	})
	return "nats://" + listener.Addr().String()
}

// forward passes on what the client sends, but that a lost request goes to a subject on
// which nobody listens: its name is as long.
func (f *forgetful) forward(to io.Writer, from io.Reader) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		some := buffer[:n]
		if bytes.Contains(some, f.match) {
			f.seen.Add(1)
			if f.lose.Add(-1) >= 0 {
				// no "no responders" either: the reply is changed, too
				some = bytes.ReplaceAll(bytes.ReplaceAll(some, f.match, bytes.Repeat([]byte("x"), len(f.match))), []byte("_INBOX"), []byte("_LOST_"))
			}
		}
		if _, err := to.Write(some); err != nil {
			return
		}
	}
}

// A read whose request got lost in a server that stopped is asked again, before whoever
// reads gives its own work up.
func TestReadIsAskedAgainWhereNoAnswerComes(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	if err := bustest.Connect(t, server).Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := &forgetful{match: []byte("$JS.API.DIRECT.GET")}
	b, err := bus.Connect(t.Context(), bus.Config{URL: f.listen(t, server.URL()), SeedFile: server.SeedFile()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(1), Data: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	f.lose.Store(2)
	last, err := b.Last(t.Context(), users.Stream(), subject(1))
	if err != nil || string(last.Data) != "a" {
		t.Fatalf("read %v: %v", last, err)
	}
	if n := f.seen.Load(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}
