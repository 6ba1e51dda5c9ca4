package bus

import (
	"context"
	"fmt"
	"time"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Headers of a schedule of a postponed entry, which the request bears, too.
const (
	// headerAttempts is the number of failed attempts until now.
	headerAttempts = "Rollcall-Attempts"
	// headerWaitsSince is when what was postponed first was published (RFC 3339).
	headerWaitsSince = "Rollcall-Waits-Since"
)

// waitsSince is since when the entry waits that a delivery is about.
func (s *Stored) waitsSince() time.Time {
	if at, err := time.Parse(time.RFC3339Nano, s.Header[headerWaitsSince]); err == nil {
		return at
	}
	return s.Published
}

// Postponed counts the entries of a connection that wait for longer than messages stay
// in flight, which no consumer's backlog counts, and since when the oldest one waits.
func (b *Bus) Postponed(ctx context.Context, kind directoryv1.Kind, connection string) (count uint64, oldest time.Time, err error) {
	filter := provisioningv1.PostponedFilter(kind, connection)
	for next, more := uint64(1), true; more; {
		more = false
		batch, err := b.store.Some(ctx, provisioningv1.StreamRequests, filter, next)
		if err != nil {
			return 0, time.Time{}, fmt.Errorf("read what is postponed of %s: %w", connection, err)
		}
		for _, raw := range batch {
			s := Stored{Header: flatten(raw.Header), Published: raw.Time}
			if since := s.waitsSince(); oldest.IsZero() || since.Before(oldest) {
				oldest = since
			}
			count, next, more = count+1, raw.Sequence+1, true
		}
	}
	return count, oldest, nil
}
