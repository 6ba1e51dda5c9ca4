// Package recovery notices that NATS holds other data than it held: it was emptied, one
// of its streams was made anew, or an older copy of it was restored. Links may be missing
// or old then, so every connection is compared with its target.
//
// Two things are known of what NATS held. A running service remembers how far each
// stream had come. And every service keeps a record of that in NATS itself, renewed
// every few seconds, with the mark of NATS' uptime, which is kept in memory only: a copy
// of files can be put back only while every server is stopped. An embedded NATS stops with
// its service; there the record must not be older than a minute, because a copy carries
// the record of its own time. What only looks like a restore is treated alike: a
// comparison does no harm.
package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/defect"
	"github.com/rollcall-scim/rollcall/pkg/failpoint"
	"github.com/rollcall-scim/rollcall/pkg/links"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	// renewEvery is how often the record is renewed.
	renewEvery = 5 * time.Second
	// longestGap is how old a record of an embedded NATS may become before the data counts
	// as restored.
	longestGap = time.Minute
	// confirmFor is for how long a stream has to look replaced: a server that has just
	// become its leader may not have read all of it yet.
	confirmFor  = 10 * time.Second
	confirmPoll = 500 * time.Millisecond

	recordKey = "record"
)

// ErrReplaced means that NATS holds other data than it held.
var ErrReplaced = errors.New("NATS holds other data than it held")

// record is what is kept in NATS.
type record struct {
	// Streams is how far each stream had come.
	Streams extents `json:"streams"`
	// Uptime is that of NATS, as bus.Uptime has it; empty where NATS is embedded.
	Uptime string `json:"uptime,omitempty"`
	// Life is another one after each time that the data was replaced.
	Life int64 `json:"life,omitempty"`
}

type extents map[string]bus.Extent

// broken says in words why a later look does not go on from this one; empty where it
// does.
func (e extents) broken(now extents) string {
	if defect.Back(defect.Deleted) {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(e)) {
		before, after := e[name], now[name]
		switch {
		case after == bus.Extent{}:
			return "the stream " + name + " is gone"
		case after.Epoch != before.Epoch:
			return "the stream " + name + " was made anew"
		case after.Last < before.Last:
			return fmt.Sprintf("the stream %s ends with message %d, and has ended with %d before", name, after.Last, before.Last)
		}
	}
	return ""
}

// Epoch identifies the life of a stream: a stream that was made anew or restored has
// another one, and sequences of the old one mean nothing to it.
func Epoch(ctx context.Context, b *bus.Bus, stream string) (int64, error) {
	epoch, err := b.Epoch(ctx, stream)
	if err != nil {
		return 0, err
	}
	s, err := read(ctx, b)
	return epoch + s.Life, err
}

// Watch compares what NATS holds with what it held, for one process.
type Watch struct {
	bus *bus.Bus
	cfg *connection.Config
	log *slog.Logger

	gap, confirm time.Duration

	// verified is after how many reconnects the data was last compared.
	verified atomic.Uint64

	mu    sync.Mutex
	known record
}

// Run runs a service on what NATS holds:
//
//  1. set the streams up where one is missing
//  2. compare what they hold with what they held, and mark the connections that have to
//     be compared
//  3. run the service, and keep the record
//  4. when NATS holds other data, end the service and begin again
//
// It returns when ctx ends or the service fails by itself.
func Run(ctx context.Context, b *bus.Bus, cfg *connection.Config, log *slog.Logger, run func(ctx context.Context, w *Watch) error) error {
	return (&Watch{bus: b, cfg: cfg, log: log, gap: failpoint.Scale(longestGap), confirm: failpoint.Scale(confirmFor)}).run(ctx, run)
}

func (w *Watch) run(ctx context.Context, run func(ctx context.Context, w *Watch) error) error {
	for {
		if err := w.begin(ctx); err != nil { // 1, 2
			return err
		}
		err := w.during(ctx, run) // 3
		if ctx.Err() != nil || !errors.Is(err, ErrReplaced) {
			return err
		}
		w.log.ErrorContext(ctx, "NATS was emptied or restored; the service begins again and compares the targets", "error", err) // 4
	}
}

// begin is repeated until NATS answers.
func (w *Watch) begin(ctx context.Context) error {
	for wait := confirmPoll; ; wait = min(2*wait, renewEvery) {
		err := w.bus.Ready(ctx)
		if errors.Is(err, bus.ErrNotFound) {
			err = w.bus.Setup(ctx)
		}
		if err == nil {
			err = w.start(ctx)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, bus.ErrConflict) { // another service begins at the same time
			wait = confirmPoll / 8
		} else {
			w.log.WarnContext(ctx, "NATS cannot be set up; trying again", "error", err, "pause", wait)
		}
		pause(ctx, wait)
	}
}

// start compares what NATS holds with the record, and marks the connections before the
// record is renewed: whoever dies in between does it again. What another process has
// noticed already is not noticed once more.
func (w *Watch) start(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	reconnects := w.bus.Reconnects()
	stored, err := read(ctx, w.bus)
	if err != nil {
		return err
	}
	known := []extents{stored.Streams}
	if stored.Life == w.known.Life {
		known = append(known, w.known.Streams)
	}
	now, why, err := w.look(ctx, known...)
	if err != nil {
		return err
	}
	uptime, err := w.uptime(ctx)
	if err != nil {
		return err
	}
	if why == "" {
		if why, err = w.interrupted(ctx, stored, uptime); err != nil {
			return err
		}
	}
	next := record{Streams: now, Uptime: uptime, Life: stored.Life}
	if why != "" {
		next.Life = time.Now().UnixNano()
		if err := w.markAll(ctx, why); err != nil {
			return err
		}
	}
	if err := write(ctx, w.bus, next, stored.revision); err != nil {
		return err
	}
	w.known = next
	w.verified.Store(reconnects)
	return nil
}

// interrupted says why what NATS holds may be older than the targets although it
// contradicts nothing.
func (w *Watch) interrupted(ctx context.Context, stored storedRecord, uptime string) (why string, err error) {
	if stored.kept {
		gap := time.Since(stored.at).Round(time.Second)
		switch {
		case uptime != "" && stored.Uptime != "":
			return restarted(stored.Uptime, uptime), nil
		case gap > w.gap:
			return fmt.Sprintf("no service has written to NATS for %s, so it may have been restored from a copy", gap), nil
		}
		return "", nil
	}
	for name := range w.cfg.Connections {
		some, err := links.Any(ctx, w.bus, name)
		if err != nil {
			return "", err
		}
		if some {
			return "NATS holds links, and no record of when they were written", nil
		}
	}
	return "", nil
}

// restarted says in words that NATS was restarted as a whole; empty where it was not.
func restarted(before, now string) string {
	if before == now || before == "" || now == "" || defect.Back(defect.Restored) {
		return ""
	}
	return "every server of NATS was restarted, so it may have been restored from a copy"
}

// uptime is that of an external NATS; empty where it is embedded.
func (w *Watch) uptime(ctx context.Context) (string, error) {
	if w.cfg.NATS.URL == "" {
		return "", nil
	}
	return w.bus.Uptime(ctx)
}

// look reads how far the streams have come, and says why that does not go on from what
// was known. Where it does not, it is asked again for a while.
func (w *Watch) look(ctx context.Context, known ...extents) (now extents, why string, err error) {
	for deadline := time.Now().Add(w.confirm); ; pause(ctx, confirmPoll) {
		if now, err = w.bus.Extents(ctx); err != nil {
			return nil, "", err
		}
		why = ""
		for _, e := range known {
			if why == "" {
				why = e.broken(now)
			}
		}
		if why == "" || time.Now().After(deadline) || ctx.Err() != nil {
			return now, why, ctx.Err()
		}
	}
}

// during runs the service, and ends it when NATS holds other data.
func (w *Watch) during(ctx context.Context, run func(ctx context.Context, w *Watch) error) error {
	running, end := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for running.Err() == nil {
			pause(running, renewEvery)
			if err := w.renew(running); errors.Is(err, ErrReplaced) {
				end(err)
			} else if err != nil && running.Err() == nil {
				w.log.DebugContext(ctx, "the record of what NATS holds is not renewed", "error", err)
			}
		}
	})
	err := run(running, w)
	if err != nil && running.Err() == nil {
		if replaced := w.renew(running); errors.Is(replaced, ErrReplaced) {
			end(replaced)
		}
	}
	cause := context.Cause(running)
	end(nil)
	watching.Wait()
	if errors.Is(cause, ErrReplaced) {
		return cause
	}
	return err
}

// renew compares what NATS holds with what was known of it and renews the record;
// ErrReplaced where it holds other data.
func (w *Watch) renew(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.renewLocked(ctx)
}

func (w *Watch) renewLocked(ctx context.Context) error {
	reconnects := w.bus.Reconnects()
	now, why, err := w.look(ctx, w.known.Streams)
	if err == nil && why == "" {
		var uptime string
		if uptime, err = w.uptime(ctx); err == nil {
			why = restarted(w.known.Uptime, uptime)
		}
	}
	switch {
	case err != nil:
		return err
	case why != "":
		return fmt.Errorf("%w: %s", ErrReplaced, why)
	}
	stored, err := read(ctx, w.bus)
	switch {
	case err != nil:
		return err
	case stored.Life != w.known.Life:
		return fmt.Errorf("%w, as another process has noticed", ErrReplaced)
	}
	w.known.Streams = now
	w.verified.Store(reconnects)
	if time.Since(stored.at) < renewEvery/2 {
		return nil // another process has just renewed it
	}
	if err = write(ctx, w.bus, w.known, stored.revision); errors.Is(err, bus.ErrConflict) {
		return nil
	}
	return err
}

// Unchanged says that NATS still holds what this process knows of. It asks only after
// the connection was lost; where it cannot tell, or the data was replaced, it is an
// error.
func (w *Watch) Unchanged(ctx context.Context) error {
	if w == nil || w.verified.Load() == w.bus.Reconnects() {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verified.Load() == w.bus.Reconnects() { // another caller has asked
		return nil
	}
	return w.renewLocked(ctx)
}

// Renewed is when a service has last renewed the record, which each does every few
// seconds; the zero time where none ever has.
func Renewed(ctx context.Context, b *bus.Bus) (time.Time, error) {
	s, err := read(ctx, b)
	return s.at, err
}

// Forget drops the record, so that the next start compares every target: for a restore,
// whose copy may be a minute old.
func Forget(ctx context.Context, b *bus.Bus) error {
	return b.DropKey(ctx, provisioningv1.BucketTargets, recordKey)
}

// storedRecord is the record as NATS holds it.
type storedRecord struct {
	record

	kept     bool // there is one
	at       time.Time
	revision uint64 // of the key, for its next value
}

func read(ctx context.Context, b *bus.Bus) (s storedRecord, err error) {
	last, err := b.Last(ctx, "KV_"+provisioningv1.BucketTargets, "$KV."+provisioningv1.BucketTargets+"."+recordKey)
	if errors.Is(err, bus.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read the record of what NATS held: %w", err)
	}
	s.at, s.revision = last.Published, last.Sequence
	if len(last.Data) == 0 { // it was dropped
		return s, nil
	}
	s.kept = true
	if err := json.Unmarshal(last.Data, &s.record); err != nil {
		return s, fmt.Errorf("decode the record of what NATS held: %w", err)
	}
	return s, nil
}

func write(ctx context.Context, b *bus.Bus, r record, revision uint64) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the record of what NATS holds: %w", err)
	}
	_, err = b.Publish(ctx, bus.Message{Subject: "$KV." + provisioningv1.BucketTargets + "." + recordKey, Data: data, Expect: &revision})
	if err != nil {
		return fmt.Errorf("write the record of what NATS holds: %w", err)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
