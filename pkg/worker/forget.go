package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/links"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// generationCache is how long a worker believes what it read of the current
// generation, where it has no other sign.
const generationCache = 500 * time.Millisecond

// rename gives the links of a connection's former name to its new one, and what
// else is remembered of it. Workers of the former name stop, because its generation
// is no longer theirs; a claim of theirs comes along, so that whoever is next looks
// at the target first.
func rename(ctx context.Context, b *bus.Bus, p Plan) error {
	if p.RenamedFrom == "" {
		return nil
	}
	former, err := CurrentGeneration(ctx, b, p.RenamedFrom)
	if errors.Is(err, bus.ErrNotFound) {
		return nil // never ran, or was forgotten
	}
	if err != nil {
		return err
	}
	switch former.RenamedTo {
	case "":
	case p.Connection:
		return moveAll(ctx, b, p.RenamedFrom, p.Connection) // again, after a crash: nothing is left but stragglers
	default:
		return nil // it went elsewhere
	}
	own, err := CurrentGeneration(ctx, b, p.Connection)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	if some, err := links.Any(ctx, b, p.Connection); err != nil {
		return err
	} else if some && own.RenamedTo != p.RenamedFrom {
		return fmt.Errorf("connections.%s.renamed_from: %w: %s has links of its own; leave the key out, or run `rollcall forget %s`",
			p.Connection, ErrRefused, p.Connection, p.Connection)
	}
	if err := putGeneration(ctx, b, p.RenamedFrom, Generation{Number: former.Number, RenamedTo: p.Connection}); err != nil {
		return err
	}
	if err := eachChangesConsumer(ctx, b, p.RenamedFrom, func(kind directoryv1.Kind, name string) error {
		return b.DeleteConsumer(ctx, kind.Stream(), name)
	}); err != nil {
		return err
	}
	pause(ctx, 2*generationCache) // until the last worker knows
	if err := moveAll(ctx, b, p.RenamedFrom, p.Connection); err != nil {
		return err
	}
	former.RenamedTo = ""
	return putGeneration(ctx, b, p.Connection, former)
}

// moveAll moves everything that is kept under a connection's name but its
// generation, and asks again for what is scheduled or decided about.
func moveAll(ctx context.Context, b *bus.Bus, from, to string) error {
	if err := b.MoveKeys(ctx, provisioningv1.BucketLinks, from, to); err != nil {
		return fmt.Errorf("rename connection %s to %s: %w", from, to, err)
	}
	for _, kind := range kinds { // a lease that is moved would never end
		if err := b.DropKey(ctx, provisioningv1.BucketTargets, foreseeLeaseKey(from, kind)); err != nil {
			return fmt.Errorf("rename connection %s to %s: %w", from, to, err)
		}
	}
	for _, part := range []string{"held", "first", "guard", "pause", "foreseen"} {
		if err := b.MoveKeys(ctx, provisioningv1.BucketTargets, from+"."+part, to+"."+part); err != nil {
			return fmt.Errorf("rename connection %s to %s: %w", from, to, err)
		}
	}
	marked, err := held.OfConnection(b, to).List(ctx)
	if err != nil {
		return err
	}
	for _, i := range marked {
		if i.GetMark() == provisioningv1.Mark_MARK_UNSPECIFIED {
			continue
		}
		if err := b.Request(ctx, i.Kind, to, i.ID, "renamed"); err != nil {
			return err
		}
	}
	for _, kind := range kinds {
		var failed error
		err := links.Open(b, nil, to, "").Each(ctx, kind, func(id []byte, l *provisioningv1.Link) {
			if l.GetDeleteAt() != nil && failed == nil {
				failed = b.ScheduleRequestAt(ctx, kind, to, id, reasonDelete, l.GetDeleteAt().AsTime())
			}
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
	}
	return nil
}

// ErrInUse says that a connection is worked on.
var ErrInUse = errors.New("a Rollcall that runs works on it")

// Forget drops everything that is remembered of a connection: links, what is held,
// requests, consumers. Nothing is sent to the target. It returns how many links
// there were.
func Forget(ctx context.Context, b *bus.Bus, connection string) (int, error) {
	for _, kind := range kinds {
		busy, err := b.Pulled(ctx, provisioningv1.StreamRequests, RequestsConsumer(kind, connection))
		if err != nil {
			return 0, err
		}
		if busy {
			return 0, fmt.Errorf("forget %s: %w", connection, ErrInUse)
		}
	}
	count := 0
	for _, kind := range kinds {
		err := links.Open(b, nil, connection, "").Each(ctx, kind, func([]byte, *provisioningv1.Link) { count++ })
		if err != nil {
			return 0, err
		}
		if err := b.DeleteConsumer(ctx, provisioningv1.StreamRequests, RequestsConsumer(kind, connection)); err != nil {
			return 0, err
		}
		for _, filter := range []string{provisioningv1.RequestFilter(kind, connection), strings.Replace(provisioningv1.RequestFilter(kind, connection), "requests", "later", 1) + ".*"} {
			if err := b.Purge(ctx, provisioningv1.StreamRequests, filter); err != nil {
				return 0, err
			}
		}
	}
	err := eachChangesConsumer(ctx, b, connection, func(kind directoryv1.Kind, name string) error {
		return b.DeleteConsumer(ctx, kind.Stream(), name)
	})
	if err != nil {
		return 0, err
	}
	for _, bucket := range []string{provisioningv1.BucketLinks, provisioningv1.BucketTargets} {
		if err := b.Purge(ctx, "KV_"+bucket, "$KV."+bucket+"."+connection+".>"); err != nil {
			return 0, err
		}
	}
	return count, nil
}
