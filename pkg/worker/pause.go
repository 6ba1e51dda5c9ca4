package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// A connection is paused by a key, which says why, and by its consumers, which
// deliver nothing. The key is written first and is what counts: whoever changed it
// makes the consumers agree, and so does every process now and then, for those who
// died in between.

func pauses(b *bus.Bus) *bus.Bucket[provisioningv1.Pause, *provisioningv1.Pause] {
	return bus.OpenBucket[provisioningv1.Pause](b, provisioningv1.BucketTargets)
}

// Pause stops everything that is sent to a connection's target until Resume, over
// all replicas and restarts. A person's pause takes the place of an outage's, and
// not the other way round; a person's second pause without a message keeps the message
// of the first one. The former pause is returned, nil when there was none.
func Pause(ctx context.Context, b *bus.Bus, connection string, p *provisioningv1.Pause) (former *provisioningv1.Pause, err error) {
	former, _, err = changePause(ctx, b, connection, placing(p))
	return former, err
}

func placing(p *provisioningv1.Pause) func(*provisioningv1.Pause) *provisioningv1.Pause {
	return func(current *provisioningv1.Pause) *provisioningv1.Pause {
		if manual(current) && !manual(p) {
			return current
		}
		next := proto.CloneOf(p)
		next.Since = timestamppb.Now()
		if current.GetReason() == p.GetReason() {
			next.Since = current.GetSince()
			next.Message = cmp.Or(next.GetMessage(), current.GetMessage())
		}
		return next
	}
}

// Resume lifts a connection's pause, whoever made it, and returns it, nil when
// there was none.
func Resume(ctx context.Context, b *bus.Bus, connection string) (former *provisioningv1.Pause, err error) {
	former, _, err = changePause(ctx, b, connection, func(*provisioningv1.Pause) *provisioningv1.Pause { return nil })
	return former, err
}

// Paused is a connection's pause, nil when it is not paused.
func Paused(ctx context.Context, b *bus.Bus, connection string) (*provisioningv1.Pause, error) {
	p, _, err := readPause(ctx, b, connection)
	return p, err
}

// PauseReason is a reason in one lower-case word.
func PauseReason(r provisioningv1.PauseReason) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "PAUSE_REASON_"))
}

func manual(p *provisioningv1.Pause) bool {
	return p.GetReason() == provisioningv1.PauseReason_PAUSE_REASON_MANUAL
}

func readPause(ctx context.Context, b *bus.Bus, connection string) (*provisioningv1.Pause, uint64, error) {
	p, revision, err := pauses(b).Get(ctx, provisioningv1.PauseKey(connection))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, revision, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the pause of %s: %w", connection, err)
	}
	return p, revision, nil
}

// changePause makes next of the pause, by compare-and-set, and then has the
// consumers agree. It returns what was there and the revision of what is there now.
func changePause(ctx context.Context, b *bus.Bus, connection string, next func(*provisioningv1.Pause) *provisioningv1.Pause) (former *provisioningv1.Pause, revision uint64, err error) {
	bucket, key := pauses(b), provisioningv1.PauseKey(connection)
	for range maxRereads {
		former, revision, err = readPause(ctx, b, connection)
		if err != nil {
			return nil, 0, err
		}
		switch wanted := next(former); {
		case wanted == nil && former == nil, wanted != nil && former != nil && proto.Equal(wanted, former):
		case wanted == nil:
			revision, err = bucket.Delete(ctx, key, revision)
		default:
			revision, err = bucket.Put(ctx, key, wanted, revision)
		}
		if errors.Is(err, bus.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("write the pause of %s: %w", connection, err)
		}
		_, _, err = agree(ctx, b, connection)
		return former, revision, err
	}
	return nil, 0, fmt.Errorf("write the pause of %s: others keep changing it: %w", connection, err)
}

// agree makes a connection's consumers do what its key says. When the key changed
// meanwhile, it begins again, so that of several who agree at once the last one is
// right.
func agree(ctx context.Context, b *bus.Bus, connection string) (p *provisioningv1.Pause, revision uint64, err error) {
	for range maxRereads {
		p, revision, err = readPause(ctx, b, connection)
		if err == nil {
			err = steer(ctx, b, connection, p != nil)
		}
		if err != nil {
			return nil, 0, err
		}
		_, now, err := readPause(ctx, b, connection)
		if err != nil || now == revision {
			return p, revision, err
		}
	}
	return nil, 0, fmt.Errorf("pause or resume the consumers of %s: others keep changing it", connection)
}

// steer pauses or resumes the connection's consumers, where they are not so
// already. Consumers of a kind that the connection does not have are not there.
func steer(ctx context.Context, b *bus.Bus, connection string, paused bool) error {
	generation, err := CurrentGeneration(ctx, b, connection)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	for _, kind := range kinds {
		for _, c := range consumersOf(kind, connection, generation.Hash) {
			if err := steerOne(ctx, b, c.stream, c.name, paused); err != nil && !errors.Is(err, bus.ErrNotFound) {
				return err
			}
		}
	}
	return nil
}

func steerOne(ctx context.Context, b *bus.Bus, stream, consumer string, paused bool) error {
	is, err := b.Backlog(ctx, stream, consumer)
	switch {
	case err != nil || is.Paused == paused:
		return err
	case paused:
		return b.PauseConsumer(ctx, stream, consumer)
	default:
		return b.ResumeConsumer(ctx, stream, consumer)
	}
}
