package bus_test

import (
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// A message waits since it was published, and for a consumer that came later since then.
func TestOldestWaitsNotLongerThanItsConsumer(t *testing.T) {
	onBoth(t, testOldestWaitsNotLongerThanItsConsumer)
}

func testOldestWaitsNotLongerThanItsConsumer(t *testing.T, b *bus.Bus) {
	t.Helper()
	filter := directoryv1.EntryFilter(users, "corp")
	publish := func(n int) {
		t.Helper()
		if _, err := b.Publish(t.Context(), bus.Message{Subject: subject(n), Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	oldest := func(consumer string) time.Time {
		t.Helper()
		if err := b.EnsureConsumer(t.Context(), bus.ConsumerSpec{Stream: directoryv1.StreamUsers, Name: consumer, Filter: filter, Window: 10}); err != nil {
			t.Fatal(err)
		}
		backlog, err := b.Backlog(t.Context(), directoryv1.StreamUsers, consumer)
		if err != nil {
			t.Fatal(err)
		}
		at, err := b.Oldest(t.Context(), directoryv1.StreamUsers, filter, backlog)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if at := oldest("users-wiki-early"); !at.IsZero() {
		t.Errorf("nothing waits, and that since %s", at)
	}
	publish(1)
	after := time.Now()
	publish(2)
	if at := oldest("users-wiki-early"); at.IsZero() || at.After(after) {
		t.Errorf("the first waits since %s, want before %s", at, after)
	}
	if at := oldest("users-wiki-late"); at.Before(after) {
		t.Errorf("for a consumer that came later it waits since %s, want after %s", at, after)
	}
}
