package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ReadOptions narrows what Read delivers.
type ReadOptions struct {
	// Filters are the subjects to read; at least one.
	Filters []string
	// After leaves out what was stored up to this sequence.
	After uint64
	// HeadersOnly leaves the data out.
	HeadersOnly bool
	// CaughtUp, when set, is called once as soon as everything that was stored
	// at the start has been delivered.
	CaughtUp func()
	// Follow keeps reading new messages until ctx ends.
	Follow bool
}

// Read delivers the last message of every subject that matches, in the order of
// the stream, and then, when asked, what is published afterwards. It returns nil
// once the stored messages are read, or the error of each, or ctx's error. A
// reader that loses its connection resumes where it was. What is purged before it was
// delivered is not waited for. In a cluster the reader may be served by a server that is
// behind; what the stream's leader had at the start is waited for, and errBehind returned
// where it does not come.
func (b *Bus) Read(ctx context.Context, stream string, opts ReadOptions, each func(*Stored) error) error {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: opts.Filters, DeliverPolicy: jetstream.DeliverAllPolicy, HeadersOnly: opts.HeadersOnly}
	if opts.After > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, opts.After+1
	}
	newest, err := b.newest(ctx, stream, opts.Filters)
	if err != nil {
		return err
	}
	r := &reader{bus: b, stream: stream, cfg: cfg}
	if err := r.open(ctx); err != nil {
		return err
	}
	defer func() { r.source.Close(ctx) }() // the last one
	caughtUp := false
	finish := func() bool {
		if !caughtUp && opts.CaughtUp != nil {
			opts.CaughtUp()
		}
		caughtUp = true
		return !opts.Follow
	}
	pending, err := pendingOf(ctx, r.source)
	if err != nil {
		return err
	}
	last, idle := opts.After, 0
	if pending == 0 && last >= newest && finish() {
		return nil
	}
	r.caughtUp = func() bool { return caughtUp }
	return r.run(ctx, func(s *Stored, pending uint64) (bool, error) {
		if s == nil { // what is left was purged, or this server is behind
			if newest, err = b.newest(ctx, stream, opts.Filters); err == nil && last < newest {
				if idle++; idle == behindIdle {
					err = fmt.Errorf("read %s: %w", stream, errBehind)
				}
				return err != nil, err
			}
			return err != nil || finish(), err
		}
		last = s.Sequence
		if err := each(s); err != nil {
			return true, err
		}
		return (pending == 0 && last >= newest || caughtUp) && finish(), nil
	})
}

// behindIdle is how often in a row nothing comes from a server that is behind before the
// reader gives up: another attempt may find another server.
const behindIdle = 3

var errBehind = errors.New("the server that was asked is behind the others")

// newest is the sequence of the newest message that matches one of the filters, as the
// stream's leader has it; 0 where there is none, and where the stream has one server.
func (b *Bus) newest(ctx context.Context, stream string, filters []string) (newest uint64, err error) {
	replicated, err := b.store.Replicated(ctx, stream)
	if err != nil || !replicated {
		return 0, err
	}
	for _, filter := range filters {
		sequence, err := b.askLeader(ctx, stream, leaderQuestion{Last: filter})
		if err != nil {
			return 0, err
		}
		newest = max(newest, sequence)
	}
	return newest, nil
}

// leaderQuestion is a request of JetStream's API for one stored message: the last one of
// a subject, or the first one from a sequence on.
type leaderQuestion struct {
	Last     string `json:"last_by_subj,omitempty"`
	Next     string `json:"next_by_subj,omitempty"`
	Sequence uint64 `json:"seq,omitempty"`
}

// askLeader is the sequence of a message as the stream's leader has it, 0 where there is
// none. Other reads may be answered by any server, also by one that is behind.
func (b *Bus) askLeader(ctx context.Context, stream string, q leaderQuestion) (uint64, error) {
	data, err := json.Marshal(q)
	if err != nil {
		return 0, fmt.Errorf("encode a question: %w", err)
	}
	text, err := answered(ctx, func(ctx context.Context) ([]byte, error) { return b.store.AskLeader(ctx, stream, data) })
	if err != nil {
		return 0, fmt.Errorf("ask the leader of %s: %w", stream, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Sequence uint64 `json:"seq"`
		} `json:"message"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, fmt.Errorf("decode the answer of the leader of %s: %w", stream, err)
	}
	switch {
	case answer.Error == nil:
		return answer.Message.Sequence, nil
	case answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return 0, nil
	}
	return 0, fmt.Errorf("ask the leader of %s: %w", stream, answer.Error)
}

func pendingOf(ctx context.Context, source Reader) (uint64, error) {
	info, err := answered(ctx, source.Info)
	if err != nil {
		return 0, fmt.Errorf("ask reader for its backlog: %w", err)
	}
	return info.NumPending + uint64(max(0, info.NumAckPending)), nil
}

// reader takes the messages of an ordered consumer one after the other.
type reader struct {
	bus    *Bus
	stream string
	cfg    jetstream.OrderedConsumerConfig
	source Reader
	// caughtUp says that a missing message is nothing to ask about.
	caughtUp func() bool
	// name and sequence are the consumer's name and its own sequence of the last message,
	// which has the number last in the stream.
	name           string
	sequence, last uint64
}

// open opens a source that begins after the last message.
func (r *reader) open(ctx context.Context) error {
	if r.last > 0 {
		r.cfg.DeliverPolicy, r.cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, r.last+1
	}
	source, err := r.bus.store.Read(ctx, r.stream, r.cfg)
	if err != nil {
		return fmt.Errorf("open reader on %s: %w", r.stream, err)
	}
	r.source = source
	return nil
}

const (
	// readerIdle is after which time without a message the server is asked whether there
	// are any left. It is longer than the two heartbeats after which the client takes a
	// consumer for lost and makes it anew, so that it does not keep the client from that.
	readerIdle = 2*readerHeartbeat + time.Second
	// readerRetry is the pause before a server that did not answer is asked again.
	readerRetry = time.Second
)

// run hands each message to each, with the number of those that are still to come, until
// each says stop. Where the remaining messages were purged before they were delivered,
// each is called with nil. Where the server does not answer, it is asked for a reader again
// as long as ctx lasts.
func (r *reader) run(ctx context.Context, each func(s *Stored, pending uint64) (stop bool, err error)) error {
	for {
		err := r.deliver(ctx, each)
		if !errors.Is(err, errReaderLost) {
			return err
		}
		r.source.Close(ctx)
		if err := r.reopen(ctx); err != nil {
			return err
		}
	}
}

var errReaderLost = errors.New("the server does not know the reader any more, or does not answer")

// reopen opens another source, as soon as the server answers.
func (r *reader) reopen(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readerRetry):
		}
		_, err := within(ctx, requestTimeout, func(ctx context.Context) (struct{}, error) { return struct{}{}, r.open(ctx) })
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !Unavailable(err) || errors.Is(err, nats.ErrConnectionClosed):
			return err
		}
	}
}

// deliver is run as long as the source lives; errReaderLost means that it does not.
func (r *reader) deliver(ctx context.Context, each func(s *Stored, pending uint64) (stop bool, err error)) error {
	for {
		s, pending, err := r.next(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, jetstream.ErrNoHeartbeat):
			continue // the source makes itself anew
		case errors.Is(err, context.DeadlineExceeded):
			if !r.drained(ctx) {
				continue
			}
		case err != nil:
			return fmt.Errorf("%w: %w", errReaderLost, err)
		}
		if stop, err := each(s, pending); stop || err != nil {
			return err
		}
	}
}

// next waits for a message. The error is context.DeadlineExceeded when none came for
// readerIdle and the reader has not caught up.
func (r *reader) next(ctx context.Context) (s *Stored, pending uint64, err error) {
	if !r.caughtUp() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, readerIdle)
		defer cancel()
	}
	msg, err := r.source.Next(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("read next: %w", err)
	}
	meta, err := msg.Metadata()
	if err != nil {
		return nil, 0, fmt.Errorf("read metadata of %s: %w", msg.Subject(), err)
	}
	r.name, r.sequence, r.last = meta.Consumer, meta.Sequence.Consumer, meta.Sequence.Stream
	return &Stored{
		Subject: msg.Subject(), Data: msg.Data(), Header: flatten(msg.Headers()),
		Sequence: meta.Sequence.Stream, Published: meta.Timestamp,
	}, meta.NumPending, nil
}

// drained says whether the server has no message left for the reader, and none is on its
// way. A server that does not answer has said nothing: the reader waits on.
func (r *reader) drained(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	info, err := r.source.Info(ctx)
	if err != nil || info.NumPending > 0 {
		return false
	}
	received := r.sequence
	if info.Name != r.name { // the consumer was made anew, and nothing has come from it
		received = 0
	}
	return info.Delivered.Consumer == received
}
