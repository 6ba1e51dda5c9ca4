package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// errLeaseLost is the cause with which a holder's context ends.
var errLeaseLost = errors.New("lease lost")

// WithLease waits until owner holds the key and then calls run; run's context
// ends when the lease is lost. The lease lives for ttl and is renewed each third
// of it; it is given back when run returns. WithLease returns run's error, or nil
// when ctx ends while it waits, and ErrConflict when the lease was lost.
func (b *Bus) WithLease(ctx context.Context, bucket, key, owner string, ttl time.Duration, run func(ctx context.Context) error) error {
	l := &lease{bus: b, subject: "$KV." + bucket + "." + key, stream: "KV_" + bucket, owner: owner, ttl: ttl}
	if err := l.acquire(ctx); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // ended while waiting: nothing was started
		}
		return err
	}
	held, lose := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() { l.renew(held, lose) })
	err := run(held)
	lost := errors.Is(context.Cause(held), errLeaseLost)
	lose(nil)
	renewing.Wait()
	if lost {
		return fmt.Errorf("hold %s: %w: %w", key, errLeaseLost, ErrConflict)
	}
	l.release(context.WithoutCancel(ctx))
	return err
}

type lease struct {
	bus             *Bus
	subject, stream string
	owner           string
	ttl             time.Duration
	revision        uint64
}

// acquire tries until the key is free. The server answers each try at once. A key that
// is held for a moment only is found free after about as long again, any other within a
// sixth of the lease's life.
func (l *lease) acquire(ctx context.Context) error {
	longest := l.ttl / 6
	for wait := longest / 32; ; wait = min(2*wait, longest) {
		expect, free, err := l.look(ctx)
		if err == nil && free {
			if err = l.write(ctx, expect); err == nil {
				return nil
			}
		}
		if err != nil && !errors.Is(err, ErrConflict) {
			l.bus.log.WarnContext(ctx, "ask for the lease", "key", l.subject, "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (l *lease) look(ctx context.Context) (expect uint64, free bool, err error) {
	last, err := l.bus.Last(ctx, l.stream, l.subject)
	if errors.Is(err, ErrNotFound) {
		return 0, true, nil
	}
	if err != nil {
		return 0, false, err
	}
	return last.Sequence, gone(last.Header), nil
}

func (l *lease) write(ctx context.Context, expect uint64) error {
	seconds := strconv.Itoa(int(max(l.ttl, time.Second).Seconds()))
	sequence, err := l.bus.Publish(ctx, Message{
		Subject: l.subject, Data: []byte(l.owner), Expect: &expect,
		Header: map[string]string{jetstream.MsgTTLHeader: seconds},
	})
	if err == nil {
		l.revision = sequence
	}
	return err
}

// renew keeps the lease until ctx ends. It is lost when another owner wrote the
// key, or when no renewal succeeded for two thirds of its life by our own clock.
func (l *lease) renew(ctx context.Context, lose context.CancelCauseFunc) {
	ticker := time.NewTicker(l.ttl / 3)
	defer ticker.Stop()
	renewed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		started := time.Now()
		err := l.tryRenew(ctx)
		switch {
		case err == nil:
			renewed = started
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrConflict), time.Since(renewed) > l.ttl*2/3:
			l.bus.log.WarnContext(ctx, "lease lost", "key", l.subject, "error", err)
			lose(errLeaseLost)
			return
		default:
			l.bus.log.WarnContext(ctx, "renew lease", "key", l.subject, "error", err)
		}
	}
}

func (l *lease) tryRenew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.ttl/3)
	defer cancel()
	err := l.write(ctx, l.revision)
	if err == nil || !errors.Is(err, ErrConflict) {
		return err
	}
	// an earlier renewal may have been stored though its answer was lost
	last, readErr := l.bus.Last(ctx, l.stream, l.subject)
	if readErr == nil && string(last.Data) == l.owner && !gone(last.Header) {
		l.revision = last.Sequence
		return nil
	}
	return err
}

func (l *lease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := l.bus.Publish(ctx, Message{Subject: l.subject, Header: map[string]string{headerOperation: "DEL"}, Expect: &l.revision})
	if err != nil {
		l.bus.log.DebugContext(ctx, "give the lease back", "key", l.subject, "error", err)
	}
}

// Holder is the owner of a lease; ErrNotFound when nobody holds it.
func (b *Bus) Holder(ctx context.Context, bucket, key string) (string, error) {
	return b.Text(ctx, bucket, key)
}
