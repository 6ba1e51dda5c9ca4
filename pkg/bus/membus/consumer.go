package membus

import (
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// consumer is a durable consumer. The server's lock guards it.
type consumer struct {
	stream  *streamState
	cfg     jetstream.ConsumerConfig
	created time.Time
	// cursor is the sequence from which on nothing was delivered yet.
	cursor uint64
	// flights are the messages that have no verdict, by sequence; due are those of them
	// that are to be delivered again, in that order.
	flights       map[uint64]*flight
	due           []uint64
	subscriptions []*subscription
	turn          int
	paused        time.Time // until
}

// flight is a message that was delivered.
type flight struct {
	message   *jetstream.RawStreamMsg
	count     uint64
	delivered time.Time   // for the first time
	lookAt    *time.Timer // when it is taken for lost, or its delay ends
	isDue     bool
}

func (s *Server) ensureConsumer(st *streamState, cfg jetstream.ConsumerConfig) {
	c := st.consumers[cfg.Durable]
	if c == nil {
		c = &consumer{stream: st, created: time.Now(), cursor: 1, flights: map[uint64]*flight{}}
		if cfg.PauseUntil != nil {
			c.paused = *cfg.PauseUntil
		}
		st.consumers[cfg.Durable] = c
	}
	c.cfg = cfg
	c.pump()
}

// pump delivers what can be delivered.
func (c *consumer) pump() {
	if time.Now().Before(c.paused) {
		return
	}
	for {
		sub := c.free()
		if sub == nil {
			return
		}
		f := c.next()
		if f == nil {
			return
		}
		if f.count++; f.count == 1 {
			f.delivered = time.Now()
		}
		f.isDue = false
		c.wait(f, c.cfg.AckWait)
		sub.deliver(c, f)
	}
}

// free is the next subscription that has asked for more; nil when none has.
func (c *consumer) free() *subscription {
	for range c.subscriptions {
		c.turn = (c.turn + 1) % len(c.subscriptions)
		if sub := c.subscriptions[c.turn]; sub.held < sub.ahead {
			return sub
		}
	}
	return nil
}

// next is the next message to deliver: one that is due again, or the first new one.
func (c *consumer) next() *flight {
	if len(c.due) > 0 {
		f := c.flights[c.due[0]]
		c.due = c.due[1:]
		return f
	}
	if c.cfg.MaxAckPending > 0 && len(c.flights) >= c.cfg.MaxAckPending {
		return nil
	}
	m, _ := c.stream.from(c.cursor, c.cfg.FilterSubject)
	if m == nil {
		return nil
	}
	c.cursor = m.Sequence + 1
	f := &flight{message: m}
	c.flights[m.Sequence] = f
	return f
}

// wait makes a message due again after a while, unless it gets its verdict before.
func (c *consumer) wait(f *flight, d time.Duration) {
	if f.lookAt != nil {
		f.lookAt.Stop()
	}
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		s := c.stream.server
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.flights[f.message.Sequence] == f && f.lookAt == timer {
			c.again(f)
		}
	})
	f.lookAt = timer
}

// again makes a message due now.
func (c *consumer) again(f *flight) {
	if f.isDue {
		return
	}
	f.isDue = true
	c.due = append(c.due, f.message.Sequence)
	c.pump()
}

// forget ends the flight of a message.
func (c *consumer) forget(sequence uint64) {
	f := c.flights[sequence]
	if f == nil {
		return
	}
	f.lookAt.Stop()
	delete(c.flights, sequence)
	c.due = slices.DeleteFunc(c.due, func(s uint64) bool { return s == sequence })
}

// settle takes an acknowledgement or a termination.
func (c *consumer) settle(sequence uint64) {
	s := c.stream.server
	s.mu.Lock()
	f := c.flights[sequence]
	s.mu.Unlock()
	if f == nil {
		return
	}
	if s.Settling != nil {
		s.Settling(c.stream.cfg.Name, c.cfg.Durable, f.message, f.delivered)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.forget(sequence)
	if c.stream.cfg.Retention == jetstream.WorkQueuePolicy {
		c.stream.remove(f.message)
	}
	c.pump()
}

// refuse takes a message that comes again after a delay.
func (c *consumer) refuse(sequence uint64, delay time.Duration) {
	c.stream.server.mu.Lock()
	defer c.stream.server.mu.Unlock()
	switch f := c.flights[sequence]; {
	case f == nil:
	case delay > 0:
		c.wait(f, delay)
	default:
		f.lookAt.Stop()
		c.again(f)
	}
}

// extend takes the word that a message is being worked on.
func (c *consumer) extend(sequence uint64) {
	c.stream.server.mu.Lock()
	defer c.stream.server.mu.Unlock()
	if f := c.flights[sequence]; f != nil && !f.isDue {
		c.wait(f, c.cfg.AckWait)
	}
}

func (c *consumer) pauseUntil(until time.Time) *jetstream.ConsumerPauseResponse {
	c.paused = until
	left := max(0, time.Until(until))
	if left == 0 {
		c.pump()
	} else {
		time.AfterFunc(left, func() {
			c.stream.server.mu.Lock()
			defer c.stream.server.mu.Unlock()
			c.pump()
		})
	}
	return &jetstream.ConsumerPauseResponse{Paused: left > 0, PauseUntil: until, PauseRemaining: left}
}

// info says how the consumer is.
func (c *consumer) info() *jetstream.ConsumerInfo {
	info := &jetstream.ConsumerInfo{
		Stream: c.stream.cfg.Name, Name: c.cfg.Durable, Created: c.created, Config: c.cfg, NumAckPending: len(c.flights),
		PauseRemaining: max(0, time.Until(c.paused)),
	}
	info.Paused = info.PauseRemaining > 0
	if first, more := c.stream.from(c.cursor, c.cfg.FilterSubject); first != nil {
		info.NumPending = more + 1
	}
	info.Delivered.Stream = c.cursor - 1
	info.AckFloor.Stream = c.cursor - 1
	for sequence := range c.flights {
		info.AckFloor.Stream = min(info.AckFloor.Stream, sequence-1)
	}
	for _, sub := range c.subscriptions {
		if sub.held < sub.ahead {
			info.NumWaiting++
		}
	}
	return info
}

// Lose makes a consumer's messages in flight due again, as if their ack wait had ended
// although somebody works on them: duplicate deliveries. It returns how many those are.
func (s *Server) Lose(stream, consumer string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[stream]
	if st == nil || st.consumers[consumer] == nil {
		return 0
	}
	c := st.consumers[consumer]
	lost := 0
	for sequence := uint64(1); sequence < c.cursor; sequence++ {
		if f := c.flights[sequence]; f != nil && !f.isDue {
			f.lookAt.Stop()
			lost++
			c.again(f)
		}
	}
	return lost
}
