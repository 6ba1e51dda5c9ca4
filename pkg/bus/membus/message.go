package membus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-scim/rollcall/pkg/bus"
)

// message is a message in the hands of a client.
type message struct {
	client   *Client
	consumer *consumer // nil in the hands of a reader
	raw      *jetstream.RawStreamMsg
	count    uint64 // deliveries
	pending  uint64 // messages that follow
	bare     bool   // without data
	number   uint64 // of a reader's message
}

var _ jetstream.Msg = (*message)(nil)

func (m *message) Metadata() (*jetstream.MsgMetadata, error) {
	meta := &jetstream.MsgMetadata{NumDelivered: m.count, NumPending: m.pending, Timestamp: m.raw.Time, Consumer: readerName}
	meta.Sequence.Stream, meta.Sequence.Consumer = m.raw.Sequence, m.number
	if m.consumer != nil {
		meta.Stream, meta.Consumer = m.consumer.stream.cfg.Name, m.consumer.cfg.Durable
	}
	return meta, nil
}

func (m *message) Data() []byte {
	if m.bare {
		return nil
	}
	return m.raw.Data
}

func (m *message) Headers() nats.Header { return m.raw.Header }
func (m *message) Subject() string      { return m.raw.Subject }
func (m *message) Reply() string        { return "" }

// send tells the server something about the message.
func (m *message) send(verb string, arrive func()) error {
	return m.client.net.Send(Op{Verb: verb, Object: fmt.Sprintf("%s #%d", m.raw.Subject, m.raw.Sequence)}, arrive)
}

func (m *message) Ack() error {
	return m.send("ack", func() { m.consumer.settle(m.raw.Sequence) })
}

func (m *message) DoubleAck(context.Context) error { return m.Ack() }

func (m *message) Nak() error {
	return m.send("nak", func() { m.consumer.refuse(m.raw.Sequence, 0) })
}

func (m *message) NakWithDelay(delay time.Duration) error {
	return m.send("nak "+delay.Round(time.Millisecond).String(), func() { m.consumer.refuse(m.raw.Sequence, delay) })
}

func (m *message) InProgress() error {
	return m.send("in progress", func() { m.consumer.extend(m.raw.Sequence) })
}

func (m *message) Term() error { return m.TermWithReason("") }

func (m *message) TermWithReason(string) error {
	return m.send("term", func() { m.consumer.settle(m.raw.Sequence) })
}

// readerName is the name of every reader; readers are never made anew.
const readerName = "reader"

// reader hands out the messages of a stream in order.
type reader struct {
	client *Client
	stream *streamState
	cfg    jetstream.OrderedConsumerConfig
	cursor uint64
	count  uint64
}

// Read opens a reader.
func (c *Client) Read(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig) (bus.Reader, error) {
	return ask(ctx, c, "read", stream, stream, func(st *streamState) (bus.Reader, error) {
		return &reader{client: c, stream: st, cfg: cfg, cursor: max(1, cfg.OptStartSeq)}, nil
	})
}

// Next waits for the next message, and for as long as it needs from the server.
func (r *reader) Next(ctx context.Context) (jetstream.Msg, error) {
	for {
		r.client.server.mu.Lock()
		raw, more := r.stream.from(r.cursor, r.cfg.FilterSubjects...)
		changed := r.stream.changed
		r.client.server.mu.Unlock()
		if raw != nil {
			return r.receive(ctx, raw, more)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.client.net.Gone():
			return nil, ErrGone
		}
	}
}

func (r *reader) receive(ctx context.Context, raw *jetstream.RawStreamMsg, more uint64) (jetstream.Msg, error) {
	transit := r.client.net.Transit(Op{Verb: "read", Object: raw.Subject})
	if left := time.Until(raw.Time.Add(transit)); left > 0 {
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.client.net.Gone():
			return nil, ErrGone
		}
	}
	r.cursor = raw.Sequence + 1
	r.count++
	return &message{client: r.client, raw: raw, count: 1, pending: more, bare: r.cfg.HeadersOnly, number: r.count}, nil
}

// Info says how much is still to come.
func (r *reader) Info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	return ask(ctx, r.client, "reader", r.stream.cfg.Name, r.stream.cfg.Name, func(st *streamState) (*jetstream.ConsumerInfo, error) {
		info := &jetstream.ConsumerInfo{Name: readerName}
		info.Delivered.Consumer = r.count
		if first, more := st.from(r.cursor, r.cfg.FilterSubjects...); first != nil {
			info.NumPending = more + 1
		}
		return info, nil
	})
}

// Close does nothing: the server keeps nothing of a reader.
func (r *reader) Close(context.Context) {}
