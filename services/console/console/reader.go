package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/status"
)

const (
	// freshFor is for how long a reading is good enough for the next who asks.
	freshFor = 2 * time.Second
	// restFactor is how many times as long as a reading took nobody reads again: with
	// very many links a reading is work for NATS, however many people look on.
	restFactor = 10
	// maxRest bounds that: an answer is never older than a minute.
	maxRest = time.Minute
	// readTimeout bounds a reading.
	readTimeout = 20 * time.Second
)

var errSlow = fmt.Errorf("NATS did not answer within %s", readTimeout)

// reading is where everything stood at a time, or why that could not be read.
type reading struct {
	At     time.Time
	Status *status.Status
	err    error
	until  time.Time // it is good enough
}

// reader reads where everything stands, for all who ask at the same time once.
type reader struct {
	read  func() (*status.Status, error)
	place chan struct{} // who has it reads, or looks at what was read
	last  reading
}

// newReader makes a reader; read is bound to the life of the service, so that who
// goes away does not spoil a reading for the others.
func newReader(read func() (*status.Status, error)) *reader {
	return &reader{read: read, place: make(chan struct{}, 1)}
}

// get is the last reading, or a new one where that is not good enough any more. What
// could not be read is tried again soon.
func (r *reader) get(ctx context.Context) (reading, error) {
	select {
	case r.place <- struct{}{}:
		defer func() { <-r.place }()
	case <-ctx.Done():
		return reading{At: time.Now()}, ctx.Err()
	}
	began := time.Now()
	if began.Before(r.last.until) {
		return r.last, r.last.err
	}
	s, err := r.read()
	ended := time.Now()
	r.last = reading{At: began, Status: s, err: err, until: ended.Add(freshFor)}
	if err == nil {
		r.last.until = ended.Add(min(max(freshFor, restFactor*ended.Sub(began)), maxRest))
	}
	return r.last, err
}

// bounded makes a reading end with the service, or when it takes too long, and says in
// the log what could not be read.
func bounded(ctx context.Context, log *slog.Logger, read func(context.Context) (*status.Status, error)) func() (*status.Status, error) {
	return func() (*status.Status, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, errSlow)
		defer cancel()
		s, err := read(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w (%w)", errSlow, err)
		}
		if err != nil {
			log.WarnContext(ctx, "the console cannot read the status", "error", err)
			return nil, err
		}
		return s, nil
	}
}
