package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// The back-off of an error goes on where it was before the entry was postponed, a delay
// that was asked for does not count, and what is postponed is counted from the time when
// it began to wait.
func TestBackOffGoesOnAfterAPostponedDelivery(t *testing.T) {
	t.Parallel()
	began := time.Now().Add(-time.Hour).UTC()
	for name, c := range map[string]struct {
		err      error
		attempts string
		least    time.Duration
	}{
		"plain error": {errors.New("no answer"), "7", 45 * time.Second}, // 64 s less a quarter
		"later":       {bus.Later(10*time.Second, errors.New("waits")), "6", 8 * time.Second},
	} {
		onBothAs(t, name, func(t *testing.T, b *bus.Bus) {
			t.Helper()
			verdicts := consume(t, b, provisioningv1.StreamRequests, provisioningv1.RequestFilter(users, "wiki"), func(_ context.Context, d *bus.Delivery) error {
				if d.Earlier != 6 {
					t.Errorf("%d earlier attempts, want 6", d.Earlier)
				}
				return c.err
			})
			later := provisioningv1.LaterSubject(users, "wiki", entry(1), provisioningv1.ReasonLater)
			_, err := b.Publish(t.Context(), bus.Message{Subject: later, Header: map[string]string{
				jetstream.ScheduleHeader:       "@at " + time.Now().Add(time.Second).UTC().Format(time.RFC3339),
				jetstream.ScheduleTargetHeader: provisioningv1.RequestSubject(users, "wiki", entry(1)),
				"Rollcall-Attempts":            "6", "Rollcall-Waits-Since": began.Format(time.RFC3339Nano),
			}})
			if err != nil {
				t.Fatal(err)
			}
			<-verdicts
			again, err := b.Last(t.Context(), provisioningv1.StreamRequests, later)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse("@at "+time.RFC3339, again.Header[jetstream.ScheduleHeader])
			if err != nil || time.Until(at) < c.least {
				t.Errorf("comes again in %s (%v), want %s at least", time.Until(at), err, c.least)
			}
			if got := again.Header["Rollcall-Attempts"]; got != c.attempts {
				t.Errorf("%s attempts, want %s", got, c.attempts)
			}
			count, oldest, err := b.Postponed(t.Context(), users, "wiki")
			if err != nil || count != 1 || !oldest.Equal(began) {
				t.Errorf("%d postponed since %s: %v; want 1 since %s", count, oldest, err, began)
			}
		})
	}
}

func TestNothingIsPostponed(t *testing.T) { onBoth(t, testNothingIsPostponed) }

func testNothingIsPostponed(t *testing.T, b *bus.Bus) {
	t.Helper()
	if count, _, err := b.Postponed(t.Context(), users, "wiki"); err != nil || count != 0 {
		t.Errorf("%d postponed: %v", count, err)
	}
}
