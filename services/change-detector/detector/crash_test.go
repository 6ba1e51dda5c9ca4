package detector

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// faulty is a directory of which the first use panics.
type faulty struct {
	directory

	used atomic.Int64
}

func (f *faulty) CheckAttributes(ctx context.Context) error {
	if f.used.Add(1) == 1 {
		panic("a defect")
	}
	return f.directory.CheckAttributes(ctx)
}

// A panic while a directory is read ends neither the process nor the detection.
func TestDetectionBeginsAnewAfterAPanic(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	cfg := realConfig(t, ldaptest.Start(t, ldaptest.Options{LDIF: staff(3)}))
	d, err := newDetector(cfg, "corp", b, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{directory: d.directory}
	d.directory = f
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { d.run(ctx) })
	pass := awaitPass(t, b, status.Pass{}, func(p status.Pass) bool { return p.Users == 3 })
	if pass.Outage != nil || f.used.Load() < 2 {
		t.Errorf("after %d tries the outage is %v, want a second try and none", f.used.Load(), pass.Outage)
	}
}
