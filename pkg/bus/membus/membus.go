// Package membus keeps in memory what Rollcall needs of NATS JetStream: streams that keep
// the last message of a subject, compare-and-set, batches, schedules, times to live, and
// consumers with an ack wait, redelivery, a window and pauses. A bus on it obeys the same
// rules as one on NATS, which the tests of package bus hold both to. It is for
// simulations: nothing is durable, no clock but the one of package time is used, and
// waiting is on channels, so that it runs in a bubble of testing/synctest.
package membus

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxPayload is the largest message, as with a NATS server that is not configured.
const maxPayload = 1 << 20

// Server holds the streams. It is safe for concurrent use.
type Server struct {
	// Stored, when set, is called after each write with what it stored, in order. It must
	// not write, and sees the state after the write through a client without a network.
	Stored func(stream string, messages []*jetstream.RawStreamMsg)
	// Settling, when set, is called before a message that is acknowledged or terminated
	// takes its leave, with the time of its first delivery.
	Settling func(stream, consumer string, m *jetstream.RawStreamMsg, delivered time.Time)

	mu      sync.Mutex
	streams map[string]*streamState
}

// NewServer is an empty server.
func NewServer() *Server { return &Server{streams: map[string]*streamState{}} }

type streamState struct {
	server    *Server
	cfg       jetstream.StreamConfig
	created   time.Time
	last      uint64
	messages  []*jetstream.RawStreamMsg // in order of their sequences
	consumers map[string]*consumer
	changed   chan struct{} // closed when messages come or go
}

// lookup is the stream with a name; s.mu is held.
func (s *Server) lookup(name string) (*streamState, error) {
	if st := s.streams[name]; st != nil {
		return st, nil
	}
	return nil, jetstream.ErrStreamNotFound
}

// storing is the stream that stores a subject; s.mu is held.
func (s *Server) storing(subject string) (*streamState, error) {
	for _, st := range s.streams {
		for _, filter := range st.cfg.Subjects {
			if matches(filter, subject) {
				return st, nil
			}
		}
	}
	return nil, jetstream.ErrNoStreamResponse
}

// matches says whether a subject matches a filter with wildcards.
func matches(filter, subject string) bool {
	if filter == "" || filter == ">" || filter == subject {
		return true
	}
	if !strings.ContainsAny(filter, "*>") {
		return false
	}
	for {
		token, moreFilter, filterGoesOn := strings.Cut(filter, ".")
		name, moreSubject, subjectGoesOn := strings.Cut(subject, ".")
		switch {
		case token == ">":
			return true
		case token != "*" && token != name, filterGoesOn != subjectGoesOn:
			return false
		case !filterGoesOn:
			return true
		}
		filter, subject = moreFilter, moreSubject
	}
}

func (s *Server) ensureStream(cfg jetstream.StreamConfig) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.streams[cfg.Name]; st != nil {
		st.cfg = cfg
		return
	}
	s.streams[cfg.Name] = &streamState{server: s, cfg: cfg, created: time.Now(), consumers: map[string]*consumer{}, changed: make(chan struct{})}
}

// publish stores the messages, all or none, and returns the sequence of the last.
func (s *Server) publish(msgs []*nats.Msg) (uint64, error) {
	s.mu.Lock()
	if len(msgs) == 0 {
		s.mu.Unlock()
		return 0, nil
	}
	for _, m := range msgs {
		if len(m.Data) > maxPayload {
			s.mu.Unlock()
			return 0, nats.ErrMaxPayload
		}
	}
	st, err := s.storing(msgs[0].Subject)
	if err == nil {
		err = st.expected(msgs)
	}
	if err != nil {
		s.mu.Unlock()
		return 0, err
	}
	stored := make([]*jetstream.RawStreamMsg, len(msgs))
	for i, m := range msgs {
		stored[i] = st.store(m.Subject, m.Header, m.Data)
	}
	st.tell()
	last := st.last
	s.mu.Unlock()
	if s.Stored != nil {
		s.Stored(st.cfg.Name, stored)
	}
	return last, nil
}

// expected compares what messages expect with what the stream holds.
func (st *streamState) expected(msgs []*nats.Msg) error {
	seen := map[string]bool{}
	for _, m := range msgs {
		if text := m.Header.Get(jetstream.ExpectedLastSubjSeqHeader); text != "" {
			subject := m.Subject
			if other := m.Header.Get(jetstream.ExpectedLastSubjSeqSubjHeader); other != "" {
				subject = other
			}
			want, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				return fmt.Errorf("read an expected sequence: %w", err)
			}
			var have uint64
			if last := st.newest(subject); last != nil {
				have = last.Sequence
			}
			switch {
			case seen[subject]:
				return &jetstream.APIError{Code: http.StatusBadRequest, ErrorCode: jetstream.JSErrCodeStreamWrongLastSequenceConstant, Description: "wrong last sequence"}
			case have != want:
				return &jetstream.APIError{Code: http.StatusBadRequest, ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence, Description: fmt.Sprintf("wrong last sequence: %d", have)}
			}
		}
		seen[m.Subject] = true
	}
	return nil
}

// newest is the last message of a subject; nil when there is none. The subject may have
// wildcards.
func (st *streamState) newest(subject string) *jetstream.RawStreamMsg {
	for _, m := range slices.Backward(st.messages) {
		if matches(subject, m.Subject) {
			return m
		}
	}
	return nil
}

// from is the first message from a sequence on whose subject matches one of the filters,
// and how many follow it that match, too.
func (st *streamState) from(sequence uint64, filters ...string) (first *jetstream.RawStreamMsg, more uint64) {
	at, _ := slices.BinarySearchFunc(st.messages, sequence, func(m *jetstream.RawStreamMsg, sequence uint64) int {
		if m.Sequence < sequence {
			return -1
		}
		return 1
	})
	for _, m := range st.messages[at:] {
		if !slices.ContainsFunc(filters, func(filter string) bool { return matches(filter, m.Subject) }) {
			continue
		}
		if first == nil {
			first = m
		} else {
			more++
		}
	}
	return first, more
}

// store adds a message; the server's lock is held.
func (st *streamState) store(subject string, header nats.Header, data []byte) *jetstream.RawStreamMsg {
	if st.cfg.MaxMsgsPerSubject == 1 {
		if former := st.newest(subject); former != nil {
			st.remove(former)
		}
	}
	st.last++
	m := &jetstream.RawStreamMsg{Subject: subject, Sequence: st.last, Header: header, Data: data, Time: time.Now()}
	st.messages = append(st.messages, m)
	if text := header.Get(jetstream.MsgTTLHeader); text != "" {
		if seconds, err := strconv.Atoi(text); err == nil {
			time.AfterFunc(time.Duration(seconds)*time.Second, func() { st.expire(m) })
		}
	}
	if text, scheduled := strings.CutPrefix(header.Get(jetstream.ScheduleHeader), "@at "); scheduled {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			time.AfterFunc(max(0, time.Until(at)), func() { st.fire(m) })
		}
	}
	return m
}

// holds says whether a message is still there; the server's lock is held.
func (st *streamState) holds(m *jetstream.RawStreamMsg) bool {
	first, _ := st.from(m.Sequence, m.Subject)
	return first == m
}

// remove takes a message away; the server's lock is held. Whoever works on it is not
// listened to any more.
func (st *streamState) remove(m *jetstream.RawStreamMsg) {
	at, found := slices.BinarySearchFunc(st.messages, m.Sequence, func(m *jetstream.RawStreamMsg, sequence uint64) int {
		switch {
		case m.Sequence < sequence:
			return -1
		case m.Sequence > sequence:
			return 1
		}
		return 0
	})
	if !found {
		return
	}
	st.messages = slices.Delete(st.messages, at, at+1)
	for _, c := range st.consumers {
		c.forget(m.Sequence)
	}
}

// tell wakes who waits for messages; the server's lock is held.
func (st *streamState) tell() {
	close(st.changed)
	st.changed = make(chan struct{})
	for _, c := range st.consumers {
		c.pump()
	}
}

// expire ends the life of a message, and leaves a marker where the stream has some.
func (st *streamState) expire(m *jetstream.RawStreamMsg) {
	st.server.mu.Lock()
	defer st.server.mu.Unlock()
	if !st.holds(m) {
		return
	}
	st.remove(m)
	if ttl := st.cfg.SubjectDeleteMarkerTTL; ttl > 0 && m.Header.Get(jetstream.MarkerReasonHeader) == "" {
		st.store(m.Subject, nats.Header{
			jetstream.MarkerReasonHeader: {"MaxAge"}, jetstream.MsgTTLHeader: {strconv.Itoa(int(ttl.Seconds()))},
		}, nil)
	}
	st.tell()
}

// fire publishes what a schedule is about.
func (st *streamState) fire(m *jetstream.RawStreamMsg) {
	st.server.mu.Lock()
	if !st.holds(m) {
		st.server.mu.Unlock()
		return
	}
	st.remove(m)
	header := nats.Header{jetstream.SchedulerHeader: {m.Subject}}
	for k, v := range m.Header {
		if k != jetstream.ScheduleHeader && k != jetstream.ScheduleTargetHeader {
			header[k] = v
		}
	}
	made := st.store(m.Header.Get(jetstream.ScheduleTargetHeader), header, m.Data)
	st.tell()
	st.server.mu.Unlock()
	if st.server.Stored != nil {
		st.server.Stored(st.cfg.Name, []*jetstream.RawStreamMsg{made})
	}
}

func (st *streamState) purge(filter string) {
	for _, m := range slices.Clone(st.messages) {
		if matches(filter, m.Subject) {
			st.remove(m)
		}
	}
	st.tell()
}
