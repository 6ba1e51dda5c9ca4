package bus_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(of string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), of)
}

// A server whose disk is full gives no answer to a write, and answers every read: it is
// said once, with the remedy, and once that it is over. Single messages and batches fail in
// other ways.
func TestAFullDiskIsSaidOnceAndThatItIsOver(t *testing.T) {
	t.Parallel()
	for name, messages := range map[string]int{"messages": 1, "batches": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := bustest.SmallDisk(t, 32<<20)
			s, err := embedded.Start(embedded.Config{DataDir: disk.Dir})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			var log lines
			b, err := bus.Connect(t.Context(), bus.Config{URL: s.URL(), SeedFile: s.SeedFile(), Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			if err := b.Setup(t.Context()); err != nil {
				t.Fatal(err)
			}
			write := func() error {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				all := make([]bus.Message, messages)
				for i := range all {
					all[i] = bus.Message{Subject: subject(i), Data: make([]byte, 4096)}
				}
				_, err := b.PublishBatch(ctx, all)
				return err
			}
			if err := write(); err != nil || b.Refusing() != nil {
				t.Fatalf("before: %v, %v", err, b.Refusing())
			}
			disk.Fill(t)
			for deadline := time.Now().Add(30 * time.Second); b.Refusing() == nil; _ = write() {
				if time.Now().After(deadline) {
					t.Fatal("the disk is full, and nobody says so")
				}
			}
			for range 2 {
				if err := write(); !bus.Unavailable(err) {
					t.Errorf("a full disk answers %v, which is not known as NATS's trouble", err)
				}
			}
			if said := b.Refusing().Error(); !strings.Contains(said, "no space") || !strings.Contains(said, "make room") || !strings.Contains(said, "USERS") {
				t.Errorf("it says %q", said)
			}
			disk.Free(t)
			for deadline := time.Now().Add(30 * time.Second); write() != nil; {
				if time.Now().After(deadline) {
					t.Fatal("there is room, and nothing is stored")
				}
			}
			if err := b.Refusing(); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			for _, line := range []string{"NATS refuses writes: no space", "NATS accepts writes again"} {
				if n := log.count(line); n != 1 {
					t.Errorf("%q is said %d times, want once", line, n)
				}
			}
		})
	}
}
