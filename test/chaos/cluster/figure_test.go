//go:build cluster

package cluster

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// figure kills one leader after the other and says how long nothing was published and
// nothing arrived at the target. It is played by name:
//
//	make chaos STORIES=figure ARGS='-kills 50'
var figure = story{name: "figure", play: func(s *site) {
	w := s.watchStreams()
	begin := time.Now()
	var down []time.Duration
	for n := range *killsFlag {
		stream := streams[n%len(streams)]
		victim := s.nats.leader(s.t.Context(), stream)
		killed := time.Now()
		victim.Kill()
		s.nats.led(s.t.Context(), stream, victim)
		s.flows(healthy)
		down = append(down, time.Since(killed))
		s.nats.start(victim)
		s.nats.complete(s.t.Context())
	}
	published, delivered := gaps(w.stop(), begin), gaps(s.target.written(), begin)
	s.t.Logf("%d leaders killed, %d changes; longest pauses: published %s, delivered %s; from a kill until changes arrive again: %s",
		*killsFlag, s.changes(), longestOf(published), longestOf(delivered), longestOf(down))
}}

// gaps are the pauses between times from begin on.
func gaps(times []time.Time, begin time.Time) (all []time.Duration) {
	before := begin
	slices.SortFunc(times, time.Time.Compare)
	for _, one := range times {
		if one.After(begin) {
			all = append(all, one.Sub(before))
			before = one
		}
	}
	return all
}

// longestOf says the greatest duration, and the third greatest, which is less of an
// accident.
func longestOf(all []time.Duration) string {
	all = slices.SortedFunc(slices.Values(all), func(a, b time.Duration) int { return int(b - a) })
	if len(all) < 3 {
		return "none"
	}
	return fmt.Sprintf("%.1f s (third longest %.1f s)", all[0].Seconds(), all[2].Seconds())
}

// streamWatch collects when messages were stored in the streams of the directory.
type streamWatch struct {
	mu       sync.Mutex
	times    []time.Time
	contexts []jetstream.ConsumeContext
}

// watchStreams reads USERS and GROUPS until stop.
func (s *site) watchStreams() *streamWatch {
	s.t.Helper()
	w := &streamWatch{}
	for _, stream := range []string{"USERS", "GROUPS"} {
		consumer, err := s.nats.js.OrderedConsumer(s.t.Context(), stream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy, HeadersOnly: true})
		s.must(err)
		consuming, err := consumer.Consume(w.note)
		s.must(err)
		w.contexts = append(w.contexts, consuming)
	}
	return w
}

func (w *streamWatch) note(m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		return // a message of the client itself
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.times = append(w.times, meta.Timestamp)
}

// stop ends the reading and returns the times.
func (w *streamWatch) stop() []time.Time {
	for _, one := range w.contexts {
		one.Stop()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.times)
}
