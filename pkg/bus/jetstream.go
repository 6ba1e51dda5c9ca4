package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// natsStore is the Store of a connection to NATS.
type natsStore struct {
	nc *nats.Conn
	js jetstream.JetStream
	// flush waits for what is under way, before the connection is closed.
	flush func() error
	// handles are the handles of streams by name: looking one up costs a request.
	handles sync.Map
}

func newNATSStore(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) *natsStore {
	return &natsStore{nc: nc, js: js, flush: func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		defer cancel()
		return nc.FlushWithContext(ctx)
	}}
}

var _ Store = (*natsStore)(nil)

func (s *natsStore) Publish(ctx context.Context, msg *nats.Msg) (uint64, error) {
	ack, err := s.js.PublishMsg(ctx, msg)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

func (s *natsStore) PublishBatch(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
	ack, err := jetstreamext.PublishMsgBatch(ctx, s.js, msgs, jetstreamext.BatchFlowControl{
		AckFirst: len(msgs) > smallBatch, AckTimeout: requestTimeout,
	})
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

func (s *natsStore) Last(ctx context.Context, stream, subject string) (*jetstream.RawStreamMsg, error) {
	h, err := s.handle(ctx, stream)
	if err != nil {
		return nil, err
	}
	return h.GetLastMsgForSubject(ctx, subject)
}

func (s *natsStore) First(ctx context.Context, stream, filter string, from uint64) (*jetstream.RawStreamMsg, error) {
	h, err := s.handle(ctx, stream)
	if err != nil {
		return nil, err
	}
	return h.GetMsg(ctx, from, jetstream.WithGetMsgSubject(filter))
}

func (s *natsStore) Some(ctx context.Context, stream, filter string, from uint64) (some []*jetstream.RawStreamMsg, err error) {
	batch, err := jetstreamext.GetBatch(ctx, s.js, stream, MaxBatch, jetstreamext.GetBatchSubject(filter), jetstreamext.GetBatchSeq(from))
	if err != nil {
		return nil, err
	}
	for raw, err := range batch {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}
		if err != nil {
			return nil, err
		}
		some = append(some, raw)
	}
	return some, nil
}

func (s *natsStore) Replicated(ctx context.Context, stream string) (bool, error) {
	h, err := s.handle(ctx, stream)
	if err != nil {
		return false, err
	}
	return h.CachedInfo().Config.Replicas > 1, nil
}

func (s *natsStore) AskLeader(ctx context.Context, stream string, question []byte) ([]byte, error) {
	msg, err := s.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, question)
	if err != nil {
		return nil, err
	}
	return msg.Data, nil
}

func (s *natsStore) Read(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig) (Reader, error) {
	cfg.MaxResetAttempts = 1 // the client would try for ever, whatever becomes of ctx
	consumer, err := s.js.OrderedConsumer(ctx, stream, cfg)
	if err != nil {
		return nil, err
	}
	return &natsReader{js: s.js, stream: stream, consumer: consumer}, nil
}

func (s *natsStore) EnsureStream(ctx context.Context, cfg jetstream.StreamConfig) error {
	_, err := s.js.CreateOrUpdateStream(ctx, cfg)
	return err
}

func (s *natsStore) Stream(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	h, err := s.js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	return h.CachedInfo(), nil
}

func (s *natsStore) Purge(ctx context.Context, stream, filter string) error {
	h, err := s.handle(ctx, stream)
	if err != nil {
		return err
	}
	return h.Purge(ctx, jetstream.WithPurgeSubject(filter))
}

func (s *natsStore) EnsureConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) error {
	_, err := s.js.CreateOrUpdateConsumer(ctx, stream, cfg)
	return err
}

func (s *natsStore) DeleteConsumer(ctx context.Context, stream, consumer string) error {
	return s.js.DeleteConsumer(ctx, stream, consumer)
}

func (s *natsStore) ConsumerNames(ctx context.Context, stream string) (names []string, err error) {
	h, err := s.js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	lister := h.ConsumerNames(ctx)
	for name := range lister.Name() {
		names = append(names, name)
	}
	return names, lister.Err()
}

func (s *natsStore) Consumer(ctx context.Context, stream, consumer string) (*jetstream.ConsumerInfo, error) {
	c, err := s.js.Consumer(ctx, stream, consumer)
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

func (s *natsStore) PauseConsumer(ctx context.Context, stream, consumer string, until time.Time) (*jetstream.ConsumerPauseResponse, error) {
	return s.js.PauseConsumer(ctx, stream, consumer, until)
}

func (s *natsStore) ResumeConsumer(ctx context.Context, stream, consumer string) error {
	_, err := s.js.ResumeConsumer(ctx, stream, consumer)
	return err
}

// heartbeat is how often the server says that it knows of a request for messages: one
// that got lost is sent again after two of them.
const heartbeat = time.Second

func (s *natsStore) Pull(ctx context.Context, stream, consumer string, ahead int) (Messages, *jetstream.ConsumerInfo, error) {
	c, err := s.js.Consumer(ctx, stream, consumer)
	if err != nil {
		return nil, nil, err
	}
	messages, err := c.Messages(
		jetstream.PullMaxMessages(ahead),
		jetstream.PullThresholdMessages(max(1, ahead/2)),
		jetstream.PullExpiry(30*time.Second),
		jetstream.PullHeartbeat(heartbeat),
		jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return nil, nil, err
	}
	return natsMessages{messages}, c.CachedInfo(), nil
}

func (s *natsStore) Connected() bool { return s.nc.IsConnected() }

func (s *natsStore) Reconnects() uint64 { return s.nc.Stats().Reconnects }

func (s *natsStore) Close() {
	_ = s.flush() // what could not be sent by then is lost with the connection
	s.nc.Close()
}

// handle is a stream's handle, which is looked up once.
func (s *natsStore) handle(ctx context.Context, stream string) (jetstream.Stream, error) {
	if h, ok := s.handles.Load(stream); ok {
		return h.(jetstream.Stream), nil //nolint:forcetypeassert // nothing else is stored
	}
	h, err := answered(ctx, func(ctx context.Context) (jetstream.Stream, error) { return s.js.Stream(ctx, stream) })
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", stream, err)
	}
	s.handles.Store(stream, h)
	return h, nil
}

type natsMessages struct{ messages jetstream.MessagesContext }

// lookAgain is after which time without a message it is asked for more once again.
const lookAgain = 50 * time.Millisecond

// Next asks twice. The client asks the server for more when its Next is called, but not
// while an earlier request is on its way out (checkPending in jetstream/pull.go): when all
// that was asked for is taken meanwhile, nothing wakes it before two heartbeats are
// missed. A second call asks.
func (m natsMessages) Next(ctx context.Context) (jetstream.Msg, error) {
	msg, err := m.messages.Next(jetstream.NextMaxWait(lookAgain))
	if errors.Is(err, nats.ErrTimeout) {
		return m.messages.Next(jetstream.NextContext(ctx))
	}
	return msg, err
}

func (m natsMessages) Drain() { m.messages.Drain() }

// natsReader is a reader of an ordered consumer, which makes itself anew when it loses
// its server.
type natsReader struct {
	js       jetstream.JetStream
	stream   string
	consumer jetstream.Consumer
	messages jetstream.MessagesContext
}

const readerHeartbeat = 2 * time.Second

func (r *natsReader) Next(ctx context.Context) (jetstream.Msg, error) {
	if r.messages == nil {
		messages, err := r.consumer.Messages(jetstream.PullMaxMessages(1000), jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(readerHeartbeat))
		if err != nil {
			return nil, fmt.Errorf("start reader: %w", err)
		}
		r.messages = messages
	}
	return r.messages.Next(jetstream.NextContext(ctx))
}

func (r *natsReader) Info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	return r.consumer.Info(ctx)
}

// closeTimeout bounds the deletion of a reader's consumer.
const closeTimeout = time.Second

// Close deletes what the server keeps of a reader; by itself it would do so after
// minutes, and many short reads would add up.
func (r *natsReader) Close(ctx context.Context) {
	if r.messages != nil {
		r.messages.Stop()
	}
	info := r.consumer.CachedInfo()
	if info == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = r.js.DeleteConsumer(ctx, r.stream, info.Name) // where it fails, the server's own limit remains
}
