package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// MoveKeys gives every live key of a bucket that is a prefix, or begins with it and
// a dot, the other prefix. Each moves at once: the new key comes in the batch in
// which the old one goes. A new key that holds something already is kept.
func (b *Bus) MoveKeys(ctx context.Context, bucket, from, to string) error {
	subject := "$KV." + bucket + "."
	var batch []Message
	for _, filter := range []string{from, from + ".>"} {
		err := b.Read(ctx, "KV_"+bucket, ReadOptions{Filters: []string{subject + filter}}, func(s *Stored) error {
			if gone(s.Header) {
				return nil
			}
			key := to + strings.TrimPrefix(s.Subject, subject+from)
			fresh, err := b.freeRevision(ctx, "KV_"+bucket, subject+key)
			if err != nil {
				return err
			}
			if fresh != nil {
				batch = append(batch, Message{Subject: subject + key, Data: s.Data, Expect: fresh})
			}
			batch = append(batch, Message{Subject: s.Subject, Header: map[string]string{headerOperation: "DEL"}, Expect: new(s.Sequence)})
			if len(batch) < MaxBatch-1 {
				return nil
			}
			full := batch
			batch = nil
			_, err = b.PublishBatch(ctx, full)
			return err
		})
		if err != nil {
			return fmt.Errorf("move keys %s of %s: %w", from, bucket, err)
		}
	}
	if _, err := b.PublishBatch(ctx, batch); err != nil {
		return fmt.Errorf("move keys %s of %s: %w", from, bucket, err)
	}
	return nil
}

// freeRevision is what a write of a new key has to expect; nil when it holds
// something.
func (b *Bus) freeRevision(ctx context.Context, stream, subject string) (*uint64, error) {
	last, err := b.Last(ctx, stream, subject)
	switch {
	case errors.Is(err, ErrNotFound):
		return new(uint64(0)), nil
	case err != nil:
		return nil, err
	case gone(last.Header):
		return &last.Sequence, nil
	default:
		return nil, nil //nolint:nilnil // taken
	}
}

// Purge removes every message of a stream whose subject matches.
func (b *Bus) Purge(ctx context.Context, stream, filter string) error {
	if err := b.store.Purge(ctx, stream, filter); err != nil {
		return fmt.Errorf("purge %s: %w", filter, err)
	}
	return nil
}

// Pulled says whether anybody asks a consumer for messages right now.
func (b *Bus) Pulled(ctx context.Context, stream, consumer string) (bool, error) {
	info, err := b.store.Consumer(ctx, stream, consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up consumer %s on %s: %w", consumer, stream, err)
	}
	return info.NumWaiting > 0, nil
}
