package membus

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-scim/rollcall/pkg/bus"
)

// Network is what lies between one client and the server.
type Network interface {
	// Call carries a request. It calls arrive when the request reaches the server, also
	// after it has returned, or never; a nil error says that arrive was called.
	Call(ctx context.Context, op Op, arrive func() error) error
	// Send carries a message that has no answer, such as an acknowledgement, and returns
	// at once. It calls arrive when the message is there, if ever.
	Send(op Op, arrive func()) error
	// Transit is how long a message is on its way from the server to the client.
	Transit(op Op) time.Duration
	// Gone is closed when the client is no more.
	Gone() <-chan struct{}
}

// Op is what is done, in a word, and to which subject, consumer or stream.
type Op struct{ Verb, Object string }

// ErrGone is what a client gets that is no more.
var ErrGone = errors.New("this client is gone")

// Client is a connection to the server.
type Client struct {
	server *Server
	net    Network
}

var _ bus.Store = (*Client)(nil)

// Client connects to the server. A nil network is none: everything is there at once.
func (s *Server) Client(network Network) *Client {
	if network == nil {
		network = direct{}
	}
	return &Client{server: s, net: network}
}

// direct is a network that is not there.
type direct struct{}

func (direct) Call(ctx context.Context, _ Op, arrive func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return arrive()
}

func (direct) Send(_ Op, arrive func()) error { arrive(); return nil }

func (direct) Transit(Op) time.Duration { return 0 }

func (direct) Gone() <-chan struct{} { return nil }

// call carries a request that has an answer.
func call[T any](ctx context.Context, c *Client, verb, object string, do func() (T, error)) (T, error) {
	answers := make(chan T, 1)
	err := c.net.Call(ctx, Op{Verb: verb, Object: object}, func() error {
		answer, err := do()
		answers <- answer
		return err
	})
	if err != nil {
		return *new(T), err
	}
	return <-answers, nil
}

// ask is call of a question about a stream, under the server's lock.
func ask[T any](ctx context.Context, c *Client, verb, object, stream string, do func(st *streamState) (T, error)) (T, error) {
	return call(ctx, c, verb, object, func() (T, error) {
		c.server.mu.Lock()
		defer c.server.mu.Unlock()
		st, err := c.server.lookup(stream)
		if err != nil {
			return *new(T), err
		}
		return do(st)
	})
}

// Publish stores one message.
func (c *Client) Publish(ctx context.Context, msg *nats.Msg) (uint64, error) {
	return call(ctx, c, "publish", msg.Subject, func() (uint64, error) { return c.server.publish([]*nats.Msg{msg}) })
}

// PublishBatch stores messages, all or none.
func (c *Client) PublishBatch(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
	return call(ctx, c, "batch", msgs[0].Subject, func() (uint64, error) { return c.server.publish(msgs) })
}

// Last is the newest message of a subject.
func (c *Client) Last(ctx context.Context, stream, subject string) (*jetstream.RawStreamMsg, error) {
	return ask(ctx, c, "last", subject, stream, func(st *streamState) (*jetstream.RawStreamMsg, error) {
		if m := st.newest(subject); m != nil {
			return m, nil
		}
		return nil, jetstream.ErrMsgNotFound
	})
}

// First is the first message from a sequence on that matches.
func (c *Client) First(ctx context.Context, stream, filter string, from uint64) (*jetstream.RawStreamMsg, error) {
	return ask(ctx, c, "first", filter, stream, func(st *streamState) (*jetstream.RawStreamMsg, error) {
		if m, _ := st.from(from, filter); m != nil {
			return m, nil
		}
		return nil, jetstream.ErrMsgNotFound
	})
}

// Some are the first messages from a sequence on that match.
func (c *Client) Some(ctx context.Context, stream, filter string, from uint64) ([]*jetstream.RawStreamMsg, error) {
	return ask(ctx, c, "some", filter, stream, func(st *streamState) (some []*jetstream.RawStreamMsg, _ error) {
		for len(some) < bus.MaxBatch {
			m, _ := st.from(from, filter)
			if m == nil {
				break
			}
			some, from = append(some, m), m.Sequence+1
		}
		return some, nil
	})
}

// Replicated is false: there is one server.
func (c *Client) Replicated(context.Context, string) (bool, error) { return false, nil }

// AskLeader is not needed, because there is one server.
func (c *Client) AskLeader(context.Context, string, []byte) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// EnsureStream creates or changes a stream.
func (c *Client) EnsureStream(ctx context.Context, cfg jetstream.StreamConfig) error {
	_, err := call(ctx, c, "ensure stream", cfg.Name, func() (struct{}, error) {
		c.server.ensureStream(cfg)
		return struct{}{}, nil
	})
	return err
}

// Stream says how a stream is.
func (c *Client) Stream(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	return ask(ctx, c, "stream", stream, stream, func(st *streamState) (*jetstream.StreamInfo, error) {
		return &jetstream.StreamInfo{
			Config: st.cfg, Created: st.created, TimeStamp: time.Now(),
			State: jetstream.StreamState{LastSeq: st.last, Msgs: uint64(len(st.messages)), Consumers: len(st.consumers)},
		}, nil
	})
}

// Purge removes messages.
func (c *Client) Purge(ctx context.Context, stream, filter string) error {
	_, err := ask(ctx, c, "purge", filter, stream, func(st *streamState) (struct{}, error) {
		st.purge(filter)
		return struct{}{}, nil
	})
	return err
}

// EnsureConsumer creates or changes a consumer.
func (c *Client) EnsureConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) error {
	_, err := ask(ctx, c, "ensure consumer", cfg.Durable, stream, func(st *streamState) (struct{}, error) {
		c.server.ensureConsumer(st, cfg)
		return struct{}{}, nil
	})
	return err
}

// DeleteConsumer removes a consumer.
func (c *Client) DeleteConsumer(ctx context.Context, stream, name string) error {
	_, err := about(ctx, c, "delete consumer", stream, name, func(own *consumer) (struct{}, error) {
		for _, f := range own.flights {
			f.lookAt.Stop()
		}
		own.flights = nil
		delete(own.stream.consumers, name)
		return struct{}{}, nil
	})
	return err
}

// about is a question about a consumer.
func about[T any](ctx context.Context, c *Client, verb, stream, name string, do func(own *consumer) (T, error)) (T, error) {
	return ask(ctx, c, verb, name, stream, func(st *streamState) (T, error) {
		own := st.consumers[name]
		if own == nil {
			return *new(T), jetstream.ErrConsumerNotFound
		}
		return do(own)
	})
}

// ConsumerNames are the names of the durable consumers.
func (c *Client) ConsumerNames(ctx context.Context, stream string) ([]string, error) {
	return ask(ctx, c, "consumer names", stream, stream, func(st *streamState) (names []string, _ error) {
		for name := range st.consumers {
			names = append(names, name)
		}
		return names, nil
	})
}

// Consumer says how a consumer is.
func (c *Client) Consumer(ctx context.Context, stream, name string) (*jetstream.ConsumerInfo, error) {
	return about(ctx, c, "consumer", stream, name, func(own *consumer) (*jetstream.ConsumerInfo, error) { return own.info(), nil })
}

// PauseConsumer stops deliveries until a time.
func (c *Client) PauseConsumer(ctx context.Context, stream, name string, until time.Time) (*jetstream.ConsumerPauseResponse, error) {
	return about(ctx, c, "pause", stream, name, func(own *consumer) (*jetstream.ConsumerPauseResponse, error) {
		return own.pauseUntil(until), nil
	})
}

// ResumeConsumer ends a pause.
func (c *Client) ResumeConsumer(ctx context.Context, stream, name string) error {
	_, err := about(ctx, c, "resume", stream, name, func(own *consumer) (struct{}, error) {
		own.pauseUntil(time.Time{})
		return struct{}{}, nil
	})
	return err
}

// Connected says whether the client is there.
func (c *Client) Connected() bool {
	select {
	case <-c.net.Gone():
		return false
	default:
		return true
	}
}

// Reconnects is 0.
func (c *Client) Reconnects() uint64 { return 0 }

// Close does nothing: what a client has sent is on its way.
func (c *Client) Close() {}

// signal is a wake-up call for one goroutine.
type signal chan struct{}

func (s signal) ring() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// subscription is what one client fetches of a consumer.
type subscription struct {
	client   *Client
	consumer *consumer
	ahead    int
	held     int // sent and not taken; the server's lock guards it

	mu       sync.Mutex
	queue    []*message
	transit  int // on their way
	draining bool
	news     signal
}

// Pull begins to fetch.
func (c *Client) Pull(ctx context.Context, stream, name string, ahead int) (bus.Messages, *jetstream.ConsumerInfo, error) {
	sub := &subscription{client: c, ahead: ahead, news: make(signal, 1)}
	info, err := about(ctx, c, "pull", stream, name, func(own *consumer) (*jetstream.ConsumerInfo, error) {
		if !c.Connected() { // it came late
			return nil, ErrGone
		}
		sub.consumer = own
		own.subscriptions = append(own.subscriptions, sub)
		info := own.info()
		own.pump()
		return info, nil
	})
	if err != nil {
		return nil, nil, err
	}
	return sub, info, nil
}

// deliver sends a message; the server's lock is held.
func (sub *subscription) deliver(c *consumer, f *flight) {
	sub.held++
	first, more := c.stream.from(c.cursor, c.cfg.FilterSubject)
	if first != nil {
		more++
	}
	m := &message{client: sub.client, consumer: c, raw: f.message, count: f.count, pending: more}
	sub.mu.Lock()
	sub.transit++
	sub.mu.Unlock()
	arrive := func() {
		sub.mu.Lock()
		defer sub.mu.Unlock()
		sub.transit--
		sub.queue = append(sub.queue, m)
		sub.news.ring()
	}
	if d := sub.client.net.Transit(Op{Verb: "deliver", Object: f.message.Subject}); d > 0 {
		time.AfterFunc(d, arrive)
	} else {
		arrive()
	}
}

// Next waits for a message.
func (sub *subscription) Next(ctx context.Context) (jetstream.Msg, error) {
	for {
		m, over := sub.take()
		if m != nil {
			s := sub.client.server
			s.mu.Lock()
			sub.held--
			sub.consumer.pump()
			s.mu.Unlock()
			return m, nil
		}
		if over {
			return nil, jetstream.ErrMsgIteratorClosed
		}
		select {
		case <-sub.news:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-sub.client.net.Gone():
			return nil, ErrGone
		}
	}
}

func (sub *subscription) take() (m *message, over bool) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if len(sub.queue) == 0 {
		return nil, sub.draining && sub.transit == 0
	}
	m = sub.queue[0]
	sub.queue = sub.queue[1:]
	return m, false
}

// Drain fetches no more.
func (sub *subscription) Drain() {
	sub.leave()
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.draining = true
	sub.news.ring()
}

// leave takes the subscription off its consumer.
func (sub *subscription) leave() {
	s := sub.client.server
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.consumer.drop(func(other *subscription) bool { return other == sub })
}

// drop ends subscriptions; the server's lock is held.
func (c *consumer) drop(which func(*subscription) bool) {
	kept := c.subscriptions[:0]
	for _, sub := range c.subscriptions {
		if !which(sub) {
			kept = append(kept, sub)
		}
	}
	c.subscriptions = kept
}

// Disconnect makes the server forget the client: nothing more is sent to it.
func (c *Client) Disconnect() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	for _, st := range c.server.streams {
		for _, own := range st.consumers {
			own.drop(func(sub *subscription) bool { return sub.client == c })
		}
	}
}
