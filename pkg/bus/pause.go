package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// pauseLength is how long a pause lasts that nobody lifts. Consumers know pauses
// with an end only.
const pauseLength = 50 * 365 * 24 * time.Hour

// PauseConsumer stops the delivery of a consumer's messages until ResumeConsumer.
// It is durable. What was delivered already stays delivered; what is handed back
// comes again after the pause. The error is ErrNotFound when there is no such
// consumer.
func (b *Bus) PauseConsumer(ctx context.Context, stream, name string) error {
	if _, err := b.store.PauseConsumer(ctx, stream, name, time.Now().Add(pauseLength)); err != nil {
		return fmt.Errorf("pause consumer %s on %s: %w", name, stream, consumerNotFound(err))
	}
	return nil
}

// resumeSoon is how soon a pause ends that is lifted: tried in turn, until the
// server has the request before that time.
var resumeSoon = []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, resumeLatest}

// resumeLatest is the longest time that a pause which is lifted still lasts.
const resumeLatest = time.Second

// pausedBy says whether a consumer is paused: one that is being resumed is not.
func pausedBy(info *jetstream.ConsumerInfo) bool {
	return info.Paused && info.PauseRemaining > resumeLatest
}

// ResumeConsumer lifts a pause; a consumer that is not paused stays as it is. The
// error is ErrNotFound when there is no such consumer.
//
// The server wakes a consumer when a pause runs out, and not when it is lifted: then
// messages would wait for the next heartbeat, up to five seconds. So the pause is
// made to run out, unless our clock is so far from the server's that it would not.
func (b *Bus) ResumeConsumer(ctx context.Context, stream, name string) error {
	for _, soon := range resumeSoon {
		answer, err := b.store.PauseConsumer(ctx, stream, name, time.Now().Add(soon))
		if err == nil && answer.PauseRemaining > soon {
			err = b.store.ResumeConsumer(ctx, stream, name)
		}
		if err != nil {
			return fmt.Errorf("resume consumer %s on %s: %w", name, stream, consumerNotFound(err))
		}
		if answer.Paused {
			break
		}
	}
	return nil
}
