package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// pingInterval is how often the client asks the server for a sign of life. After two
	// that were not answered it connects to another server: a frozen one keeps the
	// connection open.
	pingInterval = 5 * time.Second
	pingsOut     = 2
)

// answerTimes are for how long a read waits for its answer, try by try: a request that a
// frozen server has is lost, and another try may reach one that answers. Together they
// last longer than the client needs to leave a frozen server.
var answerTimes = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}

// answered repeats a read that no server answers in time. The error of the last try is
// returned.
func answered[T any](ctx context.Context, read func(ctx context.Context) (T, error)) (T, error) {
	last := len(answerTimes) - 1
	for _, limit := range answerTimes[:last] {
		value, err := within(ctx, limit, read)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return value, err
		}
	}
	return within(ctx, answerTimes[last], read)
}

func within[T any](ctx context.Context, limit time.Duration, read func(ctx context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return read(ctx)
}

// Unavailable says whether an error means that NATS did not do its part: it gave no answer
// in time, cannot be reached, does not lead the stream now, or has no space. What was
// written may be stored, or not.
func Unavailable(err error) bool {
	for _, known := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionClosed, nats.ErrDisconnected,
		nats.ErrConnectionReconnecting, jetstream.ErrNoStreamResponse,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	_, refused := errors.AsType[*RefusalError](err)
	return refused || outOfSpace(err)
}
