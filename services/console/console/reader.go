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

	// sources reads the sources alone, which is quick: that a directory is lost is shown
	// soon, however long a whole reading is kept. Nil: they are read with the rest.
	sources      func() ([]status.Source, error)
	sourcesUntil time.Time // they are good enough
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
		r.renewSources(began)
		return r.last, r.last.err
	}
	s, err := r.read()
	ended := time.Now()
	r.last = reading{At: began, Status: s, err: err, until: ended.Add(freshFor)}
	r.sourcesUntil = ended.Add(freshFor)
	if err == nil {
		r.last.until = ended.Add(min(max(freshFor, restFactor*ended.Sub(began)), maxRest))
	}
	return r.last, err
}

// renewSources reads the sources of the last reading again where they are not good
// enough any more. Those that cannot be read stay as they were until the next reading.
func (r *reader) renewSources(now time.Time) {
	if r.sources == nil || r.last.Status == nil || now.Before(r.sourcesUntil) {
		return
	}
	sources, err := r.sources()
	ended := time.Now()
	r.sourcesUntil = ended.Add(min(max(freshFor, restFactor*ended.Sub(now)), maxRest))
	if err != nil {
		return // the log says it
	}
	renewed := *r.last.Status // somebody may still show the one before
	renewed.Sources = sources
	r.last.Status = &renewed
}

// bounded makes a reading end with the service, or when it takes too long, and says in
// the log what could not be read.
func bounded[T any](ctx context.Context, log *slog.Logger, read func(context.Context) (T, error)) func() (T, error) {
	return func() (T, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, errSlow)
		defer cancel()
		s, err := read(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w (%w)", errSlow, err)
		}
		if err != nil {
			log.WarnContext(ctx, "the console cannot read the status", "error", err)
			var nothing T
			return nothing, err
		}
		return s, nil
	}
}
