package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ReadOptions narrows what Read delivers.
type ReadOptions struct {
	// Filters are the subjects to read; at least one.
	Filters []string
	// After leaves out what was stored up to this sequence.
	After uint64
	// HeadersOnly leaves the data out.
	HeadersOnly bool
	// CaughtUp, when set, is called once as soon as everything that was stored
	// at the start has been delivered.
	CaughtUp func()
	// Follow keeps reading new messages until ctx ends.
	Follow bool
}

const closeTimeout = time.Second

// Read delivers the last message of every subject that matches, in the order of
// the stream, and then, when asked, what is published afterwards. It returns nil
// once the stored messages are read, or the error of each, or ctx's error. A
// reader that loses its connection resumes where it was.
func (b *Bus) Read(ctx context.Context, stream string, opts ReadOptions, each func(*Stored) error) error {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: opts.Filters, DeliverPolicy: jetstream.DeliverAllPolicy, HeadersOnly: opts.HeadersOnly}
	if opts.After > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, opts.After+1
	}
	consumer, err := b.js.OrderedConsumer(ctx, stream, cfg)
	if err != nil {
		return fmt.Errorf("open reader on %s: %w", stream, err)
	}
	defer b.closeReader(ctx, stream, consumer)
	caughtUp := false
	finish := func() bool {
		if !caughtUp && opts.CaughtUp != nil {
			opts.CaughtUp()
		}
		caughtUp = true
		return !opts.Follow
	}
	pending, err := pendingOf(ctx, consumer)
	if err != nil {
		return err
	}
	if pending == 0 && finish() {
		return nil
	}
	return readEach(ctx, consumer, func(s *Stored, pending uint64) (bool, error) {
		if err := each(s); err != nil {
			return true, err
		}
		return (pending == 0 || caughtUp) && finish(), nil
	})
}

// closeReader deletes what the server keeps of a reader; by itself it would do so
// after minutes, and many short reads would add up.
func (b *Bus) closeReader(ctx context.Context, stream string, consumer jetstream.Consumer) {
	info := consumer.CachedInfo()
	if info == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = b.js.DeleteConsumer(ctx, stream, info.Name) // where it fails, the server's own limit remains
}

func pendingOf(ctx context.Context, consumer jetstream.Consumer) (uint64, error) {
	info, err := consumer.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask reader for its backlog: %w", err)
	}
	return info.NumPending + uint64(max(0, info.NumAckPending)), nil
}

func readEach(ctx context.Context, consumer jetstream.Consumer, each func(*Stored, uint64) (bool, error)) error {
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1000), jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(5*time.Second))
	if err != nil {
		return fmt.Errorf("start reader: %w", err)
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, jetstream.ErrNoHeartbeat):
			continue // the ordered consumer recreates itself
		case err != nil:
			return fmt.Errorf("read next: %w", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read metadata of %s: %w", msg.Subject(), err)
		}
		stop, err := each(&Stored{
			Subject: msg.Subject(), Data: msg.Data(), Header: flatten(msg.Headers()),
			Sequence: meta.Sequence.Stream, Published: meta.Timestamp,
		}, meta.NumPending)
		if stop || err != nil {
			return err
		}
	}
}
