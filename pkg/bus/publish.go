package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/failpoint"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

const (
	// MaxBatch is the largest number of messages in one atomic batch.
	MaxBatch = 1000
	// smallBatch is up to how many messages are sent without asking after the first
	// whether the server takes batches: the answer to the last one says it, too.
	smallBatch = 64
)

const (
	headerExpect    = jetstream.ExpectedLastSubjSeqHeader
	headerOperation = "KV-Operation"
	headerNonce     = "Rollcall-Batch"
)

// Message is something to publish.
type Message struct {
	Subject string
	Data    []byte
	Header  map[string]string
	// Expect, when set, is the sequence that the subject's last message must
	// have; 0 means that there must be none.
	Expect *uint64
}

func (m Message) nats() *nats.Msg {
	msg := &nats.Msg{Subject: m.Subject, Data: m.Data, Header: nats.Header{}}
	for k, v := range m.Header {
		msg.Header.Set(k, v)
	}
	if m.Expect != nil {
		msg.Header.Set(headerExpect, strconv.FormatUint(*m.Expect, 10))
	}
	return msg
}

// Publish stores one message and returns its sequence. The error is ErrConflict
// when the expectation did not hold.
func (b *Bus) Publish(ctx context.Context, m Message) (uint64, error) {
	if err := b.refusals.admit(m.Subject); err != nil {
		return 0, fmt.Errorf("publish %s: %w", m.Subject, err)
	}
	failpoint.Hit("before", "publish", m.Subject)
	sequence, err := b.store.Publish(ctx, m.nats())
	failpoint.Hit("after", "publish", m.Subject)
	b.wrote(ctx, m.Subject, err)
	if err != nil {
		return 0, fmt.Errorf("publish %s: %w", m.Subject, classify(err))
	}
	return sequence, nil
}

// PublishBatch stores up to MaxBatch messages of one stream, all or none, and
// returns the sequence of the first; the others follow without a gap.
func (b *Bus) PublishBatch(ctx context.Context, messages []Message) (uint64, error) {
	switch {
	case len(messages) == 0:
		return 0, nil
	case len(messages) == 1:
		return b.Publish(ctx, messages[0])
	case len(messages) > MaxBatch:
		return 0, fmt.Errorf("publish batch of %d messages: at most %d", len(messages), MaxBatch)
	}
	if err := b.refusals.admit(messages[0].Subject); err != nil {
		return 0, fmt.Errorf("publish batch of %d from %s: %w", len(messages), messages[0].Subject, err)
	}
	msgs := make([]*nats.Msg, len(messages))
	for i, m := range messages {
		msgs[i] = m.nats()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*requestTimeout, errors.New("batch publish timed out"))
	defer cancel()
	failpoint.Hit("before", "batch", messages[0].Subject)
	last, err := b.store.PublishBatch(ctx, msgs)
	failpoint.Hit("after", "batch", messages[0].Subject)
	b.wrote(ctx, messages[0].Subject, err)
	if err != nil {
		return 0, fmt.Errorf("publish batch of %d from %s: %w", len(messages), messages[0].Subject, classify(err))
	}
	return last - uint64(len(messages)) + 1, nil
}

// Fence lets one detector publish about a source and keeps a stale one out: every
// batch begins with the fence message, written by compare-and-set, and a message
// that is alone is stored only while the fence is as it was. It is not safe for
// concurrent use.
type Fence struct {
	bus      *Bus
	subject  string
	stream   string
	owner    string
	sequence uint64
	// doubtful says that messages of which no answer came may still be stored: the
	// fence is written anew before anything else is, so that they cannot come late.
	doubtful bool
}

// TakeFence makes owner the one that may publish to the kind's stream about the
// source. A former owner's next batch is refused.
func (b *Bus) TakeFence(ctx context.Context, kind directoryv1.Kind, source, owner string) (*Fence, error) {
	f := &Fence{bus: b, subject: directoryv1.FenceSubject(kind, source), stream: kind.Stream(), owner: owner}
	m, _, err := f.message()
	if err != nil {
		return nil, err
	}
	m.Expect = nil
	if f.sequence, err = b.Publish(ctx, m); err != nil {
		return nil, fmt.Errorf("take fence: %w", err)
	}
	return f, nil
}

func (f *Fence) message() (Message, string, error) {
	data, err := proto.Marshal(&directoryv1.Fence{Owner: f.owner, WrittenAt: time.Now().UnixNano()})
	if err != nil {
		return Message{}, "", fmt.Errorf("encode fence: %w", err)
	}
	nonce := nuid.Next()
	expect := f.sequence
	return Message{Subject: f.subject, Data: data, Header: map[string]string{headerNonce: nonce}, Expect: &expect}, nonce, nil
}

// Publish stores messages behind the fence, all or none, and returns their
// sequences in order. Up to MaxBatch-1 messages are taken. ErrFenced means that
// the source has another owner now; ErrConflict that an entry changed under us,
// which is looked for only where there are several. An answer that never came is
// resolved by reading back.
func (f *Fence) Publish(ctx context.Context, messages []Message) ([]uint64, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	if err := f.Settle(ctx); err != nil {
		return nil, err
	}
	if len(messages) == 1 {
		sequence, err := f.publishOne(ctx, messages[0])
		return []uint64{sequence}, err
	}
	fence, nonce, err := f.message()
	if err != nil {
		return nil, err
	}
	first, err := f.bus.PublishBatch(ctx, append([]Message{fence}, messages...))
	if err != nil {
		if first, err = f.resolve(ctx, nonce, err); err != nil {
			return nil, err
		}
	}
	f.sequence = first
	sequences := make([]uint64, len(messages))
	for i := range sequences {
		sequences[i] = first + 1 + uint64(i)
	}
	return sequences, nil
}

// publishOne stores a message that is alone, in a fraction of the time that a batch
// takes. It cannot expect the entry's sequence as well; whoever has the fence is the
// only one who writes.
func (f *Fence) publishOne(ctx context.Context, m Message) (uint64, error) {
	if err := f.bus.refusals.admit(m.Subject); err != nil {
		return 0, fmt.Errorf("publish %s: %w", m.Subject, err)
	}
	nonce := nuid.Next()
	m.Expect = nil
	msg := m.nats()
	msg.Header.Set(headerNonce, nonce)
	msg.Header.Set(headerExpect, strconv.FormatUint(f.sequence, 10))
	msg.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, f.subject)
	failpoint.Hit("before", "publish", m.Subject)
	sequence, err := f.bus.store.Publish(ctx, msg)
	failpoint.Hit("after", "publish", m.Subject)
	f.bus.wrote(ctx, m.Subject, err)
	if err == nil {
		return sequence, nil
	}
	if err = classify(err); errors.Is(err, ErrConflict) {
		return 0, fmt.Errorf("publish %s: %w: %w", m.Subject, ErrFenced, err)
	}
	err = fmt.Errorf("publish %s: %w", m.Subject, err)
	f.doubtful = true
	if renewErr := f.renew(ctx); renewErr != nil {
		return 0, errors.Join(err, renewErr)
	}
	last, readErr := f.bus.Last(ctx, f.stream, m.Subject)
	if readErr == nil && last.Header[headerNonce] == nonce {
		return last.Sequence, nil
	}
	return 0, err
}

// Settle makes sure that nothing is stored any more of which no answer came: what is
// read from the stream afterwards stays. ErrFenced is as in Publish, and also what
// comes of a batch that was stored without an answer.
func (f *Fence) Settle(ctx context.Context) error {
	if !f.doubtful {
		return nil
	}
	return f.renew(ctx)
}

// renew writes the fence anew, so that nothing that expects the former one is stored
// any more.
func (f *Fence) renew(ctx context.Context) error {
	m, _, err := f.message()
	if err != nil {
		return err
	}
	sequence, err := f.bus.Publish(ctx, m)
	switch {
	case errors.Is(err, ErrConflict):
		return fmt.Errorf("%w: %w", ErrFenced, err)
	case err != nil:
		return fmt.Errorf("renew the fence: %w", err)
	}
	f.sequence, f.doubtful = sequence, false
	return nil
}

// resolve finds out what became of a batch whose publish returned an error. One that
// was not refused and is not there may still come.
func (f *Fence) resolve(ctx context.Context, nonce string, cause error) (uint64, error) {
	last, err := f.bus.Last(ctx, f.stream, f.subject)
	switch {
	case err != nil:
		f.doubtful = true
		return 0, errors.Join(cause, fmt.Errorf("read fence back: %w", err))
	case last.Header[headerNonce] == nonce:
		return last.Sequence, nil
	case last.Sequence != f.sequence:
		return 0, fmt.Errorf("%w: %w", ErrFenced, cause)
	default:
		f.doubtful = !errors.Is(cause, ErrConflict)
		return 0, cause
	}
}

// Stored is a message as it stands in a stream.
type Stored struct {
	Subject   string
	Data      []byte
	Header    map[string]string
	Sequence  uint64
	Published time.Time
}

// Last is the newest message of a subject; ErrNotFound when there is none.
func (b *Bus) Last(ctx context.Context, stream, subject string) (*Stored, error) {
	raw, err := answered(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return b.store.Last(ctx, stream, subject)
	})
	if err != nil {
		return nil, fmt.Errorf("read last of %s: %w", subject, classify(err))
	}
	return &Stored{Subject: raw.Subject, Data: raw.Data, Header: flatten(raw.Header), Sequence: raw.Sequence, Published: raw.Time}, nil
}

func flatten(h nats.Header) map[string]string {
	flat := make(map[string]string, len(h))
	for k := range h {
		flat[k] = h.Get(k)
	}
	return flat
}
