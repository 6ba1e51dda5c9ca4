package bus_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rollcall-scim/rollcall/pkg/bus"
)

// startWithMemory runs a server of its own configuration on a port until stop is called; it keeps files in dir.
func startWithMemory(t *testing.T, dir, memory string, port int) *server.Server {
	t.Helper()
	file := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("host: 127.0.0.1\nport: %d\njetstream {store_dir: %q, max_mem: %s, max_file: 10G}\n", port, filepath.Join(dir, "js"), memory)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs = true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return s
}

// The mark of the uptime is another one after a restart, and the same for everybody
// before it. A server that offers no memory has none, and everything else works.
func TestUptime(t *testing.T) {
	t.Parallel()
	for memory, offered := range map[string]bool{"1M": true, "0": false} {
		t.Run("memory "+memory, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := startWithMemory(t, dir, memory, server.RANDOM_PORT)
			defer func() { s.Shutdown(); s.WaitForShutdown() }()
			connect := func() *bus.Bus {
				b, err := bus.Connect(t.Context(), bus.Config{URL: s.ClientURL(), Name: t.Name(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
				if err != nil {
					t.Fatal(err)
				}
				if err := b.Setup(t.Context()); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(b.Close)
				return b
			}
			uptime := func(b *bus.Bus) string {
				mark, err := b.Uptime(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return mark
			}
			one := connect()
			before := uptime(one)
			if (before != "") != offered || uptime(connect()) != before {
				t.Fatalf("marks %q and %q", before, uptime(connect()))
			}
			port := s.Addr().String()
			s.Shutdown()
			s.WaitForShutdown()
			var number int
			if _, err := fmt.Sscanf(port[len("127.0.0.1:"):], "%d", &number); err != nil {
				t.Fatal(err)
			}
			s = startWithMemory(t, dir, memory, number)
			for !one.Connected() {
				<-time.After(5 * time.Millisecond)
			}
			if after := uptime(one); (after != "") != offered || offered && after == before {
				t.Errorf("after a restart %q, before it %q", after, before)
			}
		})
	}
}
