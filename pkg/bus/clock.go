package bus

import (
	"context"
	"fmt"
	"time"
)

// clockSamples is how often the server is asked for the time: the quickest answer
// says it best.
const clockSamples = 3

// Clock is the clock of NATS, by which processes on different machines agree about
// times. Between two looks at it our own monotonic clock goes on.
type Clock struct {
	there, here time.Time
}

// Clock asks the server that leads a stream for its time.
func (b *Bus) Clock(ctx context.Context, stream string) (Clock, error) {
	var best Clock
	least := time.Duration(-1)
	for range clockSamples {
		asked := time.Now()
		info, err := b.store.Stream(ctx, stream)
		if err != nil {
			return Clock{}, fmt.Errorf("ask for the time of %s: %w", stream, err)
		}
		took := time.Since(asked)
		if least < 0 || took < least {
			least, best = took, Clock{there: info.TimeStamp, here: asked.Add(took / 2)}
		}
	}
	return best, nil
}

// Now is the server's time.
func (c Clock) Now() time.Time { return c.there.Add(time.Since(c.here)) }

// Ahead is a clock that shows a later time than this one, or an earlier one where d is
// negative.
func (c Clock) Ahead(d time.Duration) Clock { return Clock{there: c.there.Add(d), here: c.here} }

// Local is our own time at a time of the server's.
func (c Clock) Local(t time.Time) time.Time { return c.here.Add(t.Sub(c.there)) }
