package bus_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
)

// Older servers may lose acknowledged messages of compacted streams at a power failure.
func TestConnectRefusesOlderServers(t *testing.T) {
	t.Parallel()
	for version, refused := range map[string]bool{
		"2.14.9": true, "2.15.1": true, "1.99.99": true, "": true, "unknown": true,
		"2.15.2": false, "2.15.2-RC.1": false, "2.15.10": false, "2.16.0-dev": false, "3.0.0": false,
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			// A version that is not refused ends with the context: the server has no JetStream.
			ctx, cancel := context.WithCancel(t.Context())
			if !refused {
				cancel()
			}
			defer cancel()
			_, err := bus.Connect(ctx, bus.Config{URL: bustest.Greeter(t, version)})
			if got := errors.Is(err, bus.ErrTooOld); got != refused || err == nil {
				t.Errorf("%v, want refused: %v", err, refused)
			}
			if refused && (!strings.Contains(err.Error(), "nats.url") || !strings.Contains(err.Error(), "upgrade every server to "+bus.MinVersion)) {
				t.Errorf("%v: names neither the key nor the remedy", err)
			}
		})
	}
}
