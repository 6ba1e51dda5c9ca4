// Package bustest starts a real NATS server with Rollcall's streams for a test.
package bustest

import (
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
)

// Start runs an embedded server in a temporary directory, sets the streams up
// and returns a connection. Both end with the test.
func Start(tb testing.TB) *bus.Bus {
	tb.Helper()
	s := Server(tb)
	b := Connect(tb, s)
	if err := b.Setup(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return b
}

// Server runs an embedded server without any stream.
func Server(tb testing.TB) *embedded.Server {
	tb.Helper()
	s, err := embedded.Start(embedded.Config{DataDir: tb.TempDir(), NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// Connect opens one more connection to a server; it ends with the test.
func Connect(tb testing.TB, s *embedded.Server) *bus.Bus {
	tb.Helper()
	log := slog.New(slog.NewTextHandler(tb.Output(), nil))
	b, err := bus.Connect(tb.Context(), bus.Config{URL: s.URL(), SeedFile: s.SeedFile(), Name: tb.Name(), Log: log})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.Close)
	return b
}

// DropStream deletes a stream with everything that it holds, as an operator may by
// mistake.
func DropStream(tb testing.TB, s *embedded.Server, stream string) {
	tb.Helper()
	option, err := nats.NkeyOptionFromSeed(s.SeedFile())
	if err != nil {
		tb.Fatal(err)
	}
	nc, err := nats.Connect(s.URL(), option)
	if err != nil {
		tb.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	if err := js.DeleteStream(tb.Context(), stream); err != nil {
		tb.Fatal(err)
	}
}

// User makes an account for a server that somebody configures: what its configuration
// names (nkey), and the seed that proves it.
func User(tb testing.TB) (nkey, seed string) {
	tb.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		tb.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		tb.Fatal(err)
	}
	secret, err := key.Seed()
	if err != nil {
		tb.Fatal(err)
	}
	return public, string(secret)
}
