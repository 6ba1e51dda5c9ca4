package bus_test

import (
	"log/slog"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/bus/membus"
)

// stores are the implementations of bus.Store, each set up: what is true of one has to be
// true of the other, because simulations run on the one in memory.
var stores = map[string]func(t *testing.T) *bus.Bus{
	"nats": func(t *testing.T) *bus.Bus {
		t.Helper()
		return bustest.Start(t)
	},
	"memory": func(t *testing.T) *bus.Bus {
		t.Helper()
		b := bus.New(membus.NewServer().Client(nil), bus.Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if err := b.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
		return b
	},
}

// onBoth runs a test on every implementation of bus.Store.
func onBoth(t *testing.T, test func(t *testing.T, b *bus.Bus)) {
	t.Helper()
	t.Parallel()
	for name, start := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

// onBothAs is onBoth for one of several cases.
func onBothAs(t *testing.T, name string, test func(t *testing.T, b *bus.Bus)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { onBoth(t, test) })
}
