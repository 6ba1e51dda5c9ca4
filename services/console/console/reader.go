package console

import (
	"context"
	"fmt"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/status"
)

const (
	// freshFor is for how long a reading is good enough for the next who asks.
	freshFor = 2 * time.Second
	// restFactor is how many times as long as a reading took nobody reads again: with
	// very many links a reading is work for NATS, however many people look on.
	restFactor = 10
	// readTimeout bounds a reading.
	readTimeout = 30 * time.Second
)

// reading is where everything stood at a time, or why that could not be read.
type reading struct {
	At     time.Time
	Status *status.Status
	err    error
	until  time.Time // it is good enough
}

// reader reads where everything stands, for all who ask at the same time once.
type reader struct {
	read  func(ctx context.Context) (*status.Status, error)
	place chan struct{} // who has it reads, or looks at what was read
	last  reading
}

func newReader(read func(ctx context.Context) (*status.Status, error)) *reader {
	return &reader{read: read, place: make(chan struct{}, 1)}
}

// get is the last reading, or a new one where that is not good enough any more. Who
// goes away meanwhile does not spoil it for the others.
func (r *reader) get(ctx context.Context) (reading, error) {
	select {
	case r.place <- struct{}{}:
		defer func() { <-r.place }()
	case <-ctx.Done():
		return reading{}, ctx.Err()
	}
	began := time.Now()
	if began.Before(r.last.until) {
		return r.last, r.last.err
	}
	reading := reading{At: began}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), readTimeout, fmt.Errorf("NATS did not answer within %s", readTimeout))
	defer cancel()
	reading.Status, reading.err = r.read(ctx)
	ended := time.Now()
	reading.until = ended.Add(max(freshFor, restFactor*ended.Sub(began)))
	r.last = reading
	return reading, reading.err
}
