package bus

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Store is what Bus needs of JetStream, in the types of its client library. NATS is the
// implementation that runs; package membus has one in memory, for simulations. It is as
// wide as JetStream is: each method is one request, without retries, and returns the
// errors of the server and of the client library as they are.
type Store interface {
	// Publish stores one message and returns its sequence.
	Publish(ctx context.Context, msg *nats.Msg) (uint64, error)
	// PublishBatch stores several messages of one stream, all or none, and returns the
	// sequence of the last; the others precede it without a gap.
	PublishBatch(ctx context.Context, msgs []*nats.Msg) (uint64, error)

	// Last is the newest message of a subject.
	Last(ctx context.Context, stream, subject string) (*jetstream.RawStreamMsg, error)
	// First is the first message from a sequence on whose subject matches the filter.
	First(ctx context.Context, stream, filter string, from uint64) (*jetstream.RawStreamMsg, error)
	// Some are the first messages from a sequence on whose subjects match, up to MaxBatch.
	Some(ctx context.Context, stream, filter string, from uint64) ([]*jetstream.RawStreamMsg, error)
	// Replicated says whether more than one server stores the stream.
	Replicated(ctx context.Context, stream string) (bool, error)
	// AskLeader sends a request for a stored message, in JetStream's JSON, to the server
	// that leads the stream, and returns its answer.
	AskLeader(ctx context.Context, stream string, question []byte) ([]byte, error)
	// Read opens a reader of the messages that cfg selects, in the order of the stream.
	Read(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig) (Reader, error)

	// EnsureStream creates a stream, or brings one that is there to the configuration.
	EnsureStream(ctx context.Context, cfg jetstream.StreamConfig) error
	// Stream says how a stream is now.
	Stream(ctx context.Context, stream string) (*jetstream.StreamInfo, error)
	// Purge removes the messages whose subjects match the filter.
	Purge(ctx context.Context, stream, filter string) error

	// EnsureConsumer creates a durable consumer, or brings one that is there to the
	// configuration.
	EnsureConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) error
	// DeleteConsumer removes a consumer.
	DeleteConsumer(ctx context.Context, stream, consumer string) error
	// ConsumerNames are the names of a stream's durable consumers.
	ConsumerNames(ctx context.Context, stream string) ([]string, error)
	// Consumer says how a consumer is now.
	Consumer(ctx context.Context, stream, consumer string) (*jetstream.ConsumerInfo, error)
	// PauseConsumer stops deliveries until a time.
	PauseConsumer(ctx context.Context, stream, consumer string, until time.Time) (*jetstream.ConsumerPauseResponse, error)
	// ResumeConsumer ends a pause.
	ResumeConsumer(ctx context.Context, stream, consumer string) error
	// Pull begins to fetch a consumer's messages, at most ahead before they are taken.
	Pull(ctx context.Context, stream, consumer string, ahead int) (Messages, *jetstream.ConsumerInfo, error)

	// Connected says whether the server can be reached right now.
	Connected() bool
	// Reconnects is how often the connection was lost and came back.
	Reconnects() uint64
	// Close sends what is under way and ends the connection.
	Close()
}

// Messages are a consumer's messages as they are fetched. One goroutine uses them.
type Messages interface {
	// Next waits for a message.
	Next(ctx context.Context) (jetstream.Msg, error)
	// Drain fetches no more: what was fetched comes, and then an error.
	Drain()
}

// Reader hands out what a stream holds and gets. One goroutine uses it.
type Reader interface {
	// Next waits for a message. After jetstream.ErrNoHeartbeat it may be called again.
	Next(ctx context.Context) (jetstream.Msg, error)
	// Info says how much is still to come.
	Info(ctx context.Context) (*jetstream.ConsumerInfo, error)
	// Close ends the reader and what the server keeps of it.
	Close(ctx context.Context)
}

// New is a bus on a store that is there; of cfg only what does not belong to the
// connection counts. Connect makes one on NATS.
func New(store Store, cfg Config) *Bus {
	b := newBus(cfg)
	b.store = store
	return b
}
