package embedded_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
)

// The disk is full, and has room again: the embedded server stores again by itself, on the
// same connection, and nothing that it had acknowledged is lost.
func TestStoresAgainWhenAFullDiskHasRoom(t *testing.T) {
	t.Parallel()
	disk := bustest.SmallDisk(t, 32<<20)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := embedded.Start(embedded.Config{DataDir: disk.Dir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	b := bustest.Connect(t, s)
	if err := b.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	write := func(key string) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return b.PutText(ctx, "targets", key, key, 0)
	}
	if err := write("before"); err != nil {
		t.Fatal(err)
	}
	disk.Fill(t)
	kept := 0 // a page of the disk may be begun
	for ; err == nil; kept++ {
		err = write("full")
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a full disk answers %v", err)
	}
	if text, err := b.Text(t.Context(), "targets", "before"); err != nil || text != "before" {
		t.Errorf("reads %q while the disk is full: %v", text, err)
	}
	disk.Free(t)
	for deadline := time.Now().Add(20 * time.Second); write("after") != nil; {
		if time.Now().After(deadline) {
			t.Fatal("there is room, and nothing is stored")
		}
	}
	for _, key := range []string{"before", "after"} {
		if text, err := b.Text(t.Context(), "targets", key); err != nil || text != key {
			t.Errorf("%s is %q: %v", key, text, err)
		}
	}
	if text, err := b.Text(t.Context(), "targets", "full"); kept > 1 && (err != nil || text != "full") {
		t.Errorf("what was stored while the disk filled up is %q: %v", text, err)
	}
}
