package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Writer commits the writes of many callers in few synced batches: while one
// batch is under way, the next one gathers. What is refused of one caller does not
// fail the others.
type Writer struct {
	bus  *Bus
	work chan *unit
	done chan struct{}
	stop context.CancelFunc
	// crowd is how many units came together of late; it belongs to run.
	crowd int
}

// unit is what one caller writes, all or none.
type unit struct {
	messages []Message
	answer   chan answer
}

type answer struct {
	first uint64
	err   error
}

// NewWriter starts a writer; Close ends it.
func NewWriter(b *Bus) *Writer {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Writer{bus: b, work: make(chan *unit), done: make(chan struct{}), stop: cancel}
	go func() {
		defer close(w.done)
		w.run(ctx)
	}()
	return w
}

// Close waits for the batch that is under way and ends the writer.
func (w *Writer) Close() {
	w.stop()
	<-w.done
}

// Commit stores the writes, all or none, and returns their revisions in order.
// The error is ErrConflict when a revision was not the expected one. A batch that is
// under way is waited for even when ctx ends; after any other error what became of
// it is unknown.
func (w *Writer) Commit(ctx context.Context, writes ...Write) ([]uint64, error) {
	u := &unit{answer: make(chan answer, 1), messages: make([]Message, len(writes))}
	for i, write := range writes {
		u.messages[i] = write.message
	}
	select {
	case w.work <- u:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-w.done:
		return nil, errors.New("commit: the writer is closed")
	}
	a := <-u.answer
	if a.err != nil {
		return nil, a.err
	}
	revisions := make([]uint64, len(writes))
	for i := range revisions {
		revisions[i] = a.first + uint64(i)
	}
	return revisions, nil
}

func (w *Writer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case u := <-w.work:
			w.flush(ctx, w.gather(u))
		}
	}
}

const (
	// fewest is how many units come together where it is worth waiting for more: a
	// batch costs the server about the same whatever its size.
	fewest = 8
	// enough units are not waited for more, nor is any longer than gatherTime.
	enough     = 100
	gatherTime = 10 * time.Millisecond
)

// gather takes what other callers hand over, up to a full batch: right now, or, where
// many came together of late, within a moment. A caller whose keys are already in the
// batch goes alone into the next one.
func (w *Writer) gather(first *unit) [][]*unit {
	seen := map[string]bool{}
	size := 0
	take := func(u *unit) bool {
		if size+len(u.messages) > MaxBatch {
			return false
		}
		for _, m := range u.messages {
			if seen[m.Subject] {
				return false
			}
		}
		for _, m := range u.messages {
			seen[m.Subject] = true
		}
		size += len(u.messages)
		return true
	}
	take(first)
	batch := []*unit{first}
	var ended <-chan time.Time
	if w.crowd >= fewest {
		timer := time.NewTimer(gatherTime)
		defer timer.Stop()
		ended = timer.C
	}
	defer func() { w.crowd = max(len(batch), w.crowd/2) }()
	for {
		u := w.next(ended, w.crowd >= fewest && len(batch) < enough)
		if u == nil {
			return [][]*unit{batch}
		}
		if !take(u) {
			return [][]*unit{batch, {u}}
		}
		batch = append(batch, u)
	}
}

// next is what a caller hands over now or, where that is worth it, until a time; nil:
// nobody does.
func (w *Writer) next(ended <-chan time.Time, wait bool) *unit {
	select {
	case u := <-w.work:
		return u
	default:
	}
	if !wait {
		return nil
	}
	select {
	case u := <-w.work:
		return u
	case <-ended:
		return nil
	}
}

func (w *Writer) flush(ctx context.Context, batches [][]*unit) {
	for _, batch := range batches {
		w.flushBatch(context.WithoutCancel(ctx), batch)
	}
}

// flushBatch writes all units at once; if anything in them is refused, each goes
// by itself, so that only the one at fault fails. After an error that is no refusal,
// such as a lost connection, the batch may be stored: nothing is written again.
func (w *Writer) flushBatch(ctx context.Context, batch []*unit) {
	var messages []Message
	for _, u := range batch {
		messages = append(messages, u.messages...)
	}
	first, err := w.bus.PublishBatch(ctx, messages)
	if err == nil {
		for _, u := range batch {
			u.answer <- answer{first: first}
			first += uint64(len(u.messages))
		}
		return
	}
	if len(batch) == 1 || !refused(err) {
		for _, u := range batch {
			u.answer <- answer{err: fmt.Errorf("commit: %w", err)}
		}
		return
	}
	var wg sync.WaitGroup
	for _, u := range batch {
		wg.Go(func() { w.flushBatch(ctx, []*unit{u}) })
	}
	wg.Wait()
}

// refused says whether a batch is not stored for certain, because the server answered
// so, or because the client did not send all of it: a conflict, a message that is too
// large, a limit.
func refused(err error) bool {
	_, answered := errors.AsType[*jetstream.APIError](err)
	return answered || errors.Is(err, ErrConflict) || errors.Is(err, nats.ErrMaxPayload)
}

// Commit stores writes of one bucket in as few batches as they take, each all or
// none, and returns the revisions of those that were stored, in order. The error
// is ErrConflict when a revision of the first batch that was not stored was not
// the expected one.
func (b *Bus) Commit(ctx context.Context, writes []Write) ([]uint64, error) {
	revisions := make([]uint64, 0, len(writes))
	for batch := range slices.Chunk(writes, MaxBatch) {
		messages := make([]Message, len(batch))
		for i, w := range batch {
			messages[i] = w.message
		}
		first, err := b.PublishBatch(ctx, messages)
		if err != nil {
			return revisions, fmt.Errorf("commit: %w", err)
		}
		for i := range batch {
			revisions = append(revisions, first+uint64(i))
		}
	}
	return revisions, nil
}
