package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/crash"
	"github.com/rollcall-scim/rollcall/pkg/failpoint"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	ackWait      = 30 * time.Second
	firstBackOff = time.Second
	maxBackOff   = 5 * time.Minute
)

// LongestInFlight is the longest delay for which a message that comes later stays in
// flight, in a place of the consumer's window; for a longer one a request comes instead.
const LongestInFlight = 5 * time.Second

// ConsumerSpec is a durable consumer.
type ConsumerSpec struct {
	Stream string
	Name   string
	Filter string
	// Window is how many messages may be in flight over all replicas.
	Window int
	// Paused makes a new consumer begin with a pause; see PauseConsumer.
	Paused bool
}

// EnsureConsumer creates the consumer or brings its window up to date. A new one
// begins with everything that the stream holds. Whether one that is there is paused
// does not change.
func (b *Bus) EnsureConsumer(ctx context.Context, spec ConsumerSpec) error {
	var until *time.Time
	if spec.Paused {
		until = new(time.Now().Add(pauseLength))
	}
	failpoint.Hit("before", "create consumer", spec.Stream)
	err := b.store.EnsureConsumer(ctx, spec.Stream, jetstream.ConsumerConfig{
		PauseUntil:    until,
		Durable:       spec.Name,
		FilterSubject: spec.Filter,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       failpoint.Scale(ackWait),
		MaxDeliver:    -1,
		MaxAckPending: spec.Window,
	})
	failpoint.Hit("after", "create consumer", spec.Stream)
	if err != nil {
		return fmt.Errorf("set up consumer %s on %s: %w", spec.Name, spec.Stream, err)
	}
	return nil
}

// DeleteConsumer removes a superseded consumer; one that is not there is fine.
func (b *Bus) DeleteConsumer(ctx context.Context, stream, name string) error {
	failpoint.Hit("before", "delete consumer", stream)
	err := b.store.DeleteConsumer(ctx, stream, name)
	failpoint.Hit("after", "delete consumer", stream)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("delete consumer %s on %s: %w", name, stream, err)
	}
	return nil
}

// Consumers lists the names of a stream's durable consumers.
func (b *Bus) Consumers(ctx context.Context, stream string) ([]string, error) {
	names, err := b.store.ConsumerNames(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("list consumers of %s: %w", stream, err)
	}
	return names, nil
}

// Backlog is how far a consumer is behind.
type Backlog struct {
	// Waiting have not been delivered yet, InFlight are being worked on or wait
	// for a delayed redelivery.
	Waiting, InFlight uint64
	// Settled is the stream sequence up to which every message has its verdict.
	Settled uint64
	// Paused says that the consumer is paused, and is not being resumed.
	Paused bool
	// Since is when the consumer was created.
	Since time.Time
}

// Reached says whether everything up to a sequence of the stream has its verdict.
func (g Backlog) Reached(sequence uint64) bool { return g.Settled >= sequence || g.Total() == 0 }

// Total is the number of entries that are not applied yet.
func (g Backlog) Total() uint64 { return g.Waiting + g.InFlight }

// Backlog asks the server how far a consumer is behind.
func (b *Bus) Backlog(ctx context.Context, stream, consumer string) (Backlog, error) {
	info, err := answered(ctx, func(ctx context.Context) (*jetstream.ConsumerInfo, error) {
		return b.store.Consumer(ctx, stream, consumer)
	})
	if err != nil {
		return Backlog{}, fmt.Errorf("look up consumer %s on %s: %w", consumer, stream, consumerNotFound(err))
	}
	return Backlog{
		Waiting: info.NumPending, InFlight: uint64(max(0, info.NumAckPending)), Settled: info.AckFloor.Stream, Paused: pausedBy(info), Since: info.Created,
	}, nil
}

// Oldest is since when the oldest message waits that a consumer has no verdict of: since
// it was published, or since the consumer was created, which may be later; zero when
// there is none.
func (b *Bus) Oldest(ctx context.Context, stream, filter string, backlog Backlog) (time.Time, error) {
	if backlog.Total() == 0 {
		return time.Time{}, nil
	}
	next, err := b.firstAfter(ctx, stream, filter, backlog.Settled)
	switch {
	case err != nil || next == nil:
		return time.Time{}, err
	case backlog.Since.After(next.Time):
		return backlog.Since, nil
	}
	return next.Time, nil
}

// firstAfter is a stream's first message after a sequence whose subject matches the
// filter; nil when there is none.
func (b *Bus) firstAfter(ctx context.Context, stream, filter string, after uint64) (*jetstream.RawStreamMsg, error) {
	next, err := answered(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return b.store.First(ctx, stream, filter, after+1)
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil //nolint:nilnil // nothing there is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read the first of %s after %d: %w", filter, after, err)
	}
	return next, nil
}

// Next is the sequence of a stream's first message after another one whose subject
// matches the filter, as the stream's leader has it; 0 when there is none.
func (b *Bus) Next(ctx context.Context, stream, filter string, after uint64) (uint64, error) {
	replicated, err := b.store.Replicated(ctx, stream)
	if err != nil {
		return 0, err
	}
	if replicated {
		return b.askLeader(ctx, stream, leaderQuestion{Next: filter, Sequence: after + 1})
	}
	next, err := b.firstAfter(ctx, stream, filter, after)
	if err != nil || next == nil {
		return 0, err
	}
	return next.Sequence, nil
}

func consumerNotFound(err error) error {
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// Delivery is a message in a handler's hands.
type Delivery struct {
	Stored
	// Attempt counts deliveries of this message, from 1.
	Attempt uint64
	// Earlier counts the failed attempts before the entry was postponed: what comes after
	// a long delay is another message, of which the attempts begin at 1.
	Earlier uint64
	// Request is set when the message is a request, not a change.
	Request bool
	// Since is when the consumer was created: what was published before is as new to it
	// as that.
	Since time.Time
}

// Reason is why the entry was requested; empty for a change.
func (d *Delivery) Reason() string {
	var r provisioningv1.Request
	if !d.Request || proto.Unmarshal(d.Data, &r) != nil {
		return ""
	}
	return r.GetReason()
}

// Handler works on one message; its error is the verdict.
type Handler func(ctx context.Context, d *Delivery) error

// ConsumeOptions bounds a Consume.
type ConsumeOptions struct {
	// Connection is whose workers consume; long delays become requests to it.
	Connection string
	// Concurrency is how many messages this replica works on at a time.
	Concurrency int
	// Room, when set, says how many of these it may hold now: what one replica holds is
	// not there for the others.
	Room func() int
	// Slots, when set, are shared with other consumers; a message waits for one
	// before its handler runs.
	Slots chan struct{}
	// Settled, when set, is told each verdict.
	Settled func(d *Delivery, v Verdict, err error)
}

// fetchAhead is how many messages are asked for before anybody is free to begin them:
// enough for the time until more have come.
const fetchAhead = 32

// drainTime is how long handlers that run may go on after their consumption was
// asked to stop, so that a call to a target is not cut in the middle.
const drainTime = 10 * time.Second

// Consume hands the consumer's messages to the handler until ctx ends, then gives
// those that nobody has begun to other replicas, and waits for the handlers that run;
// they have a moment to finish before their own context ends. Any number of replicas
// may consume at a time.
func (b *Bus) Consume(ctx context.Context, stream, consumer string, opts ConsumeOptions, handle Handler) error {
	messages, info, err := b.store.Pull(ctx, stream, consumer, min(opts.Concurrency, fetchAhead))
	if err != nil {
		return fmt.Errorf("pull from consumer %s on %s: %w", consumer, stream, consumerNotFound(err))
	}
	since := info.Created
	work, stop := outlive(ctx, drainTime)
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	defer b.handBack(ctx, messages)
	own := newHands(opts)
	for {
		if !own.take(ctx) {
			return nil
		}
		msg, err := messages.Next(ctx)
		if ctx.Err() != nil {
			b.release(msg)
			return nil
		}
		if err != nil {
			return fmt.Errorf("pull from %s: %w", consumer, err)
		}
		running.Go(func() {
			defer own.free()
			b.deliver(ctx, work, msg, since, opts, handle)
		})
	}
}

// hands bound how many messages are held, by a number that may change. One goroutine
// takes, any may free.
type hands struct {
	held  atomic.Int64
	most  func() int
	freed chan struct{}
}

func newHands(opts ConsumeOptions) *hands {
	h := &hands{freed: make(chan struct{}, 1), most: func() int { return opts.Concurrency }}
	if opts.Room != nil {
		h.most = func() int { return min(opts.Concurrency, opts.Room()) }
	}
	return h
}

// roomPoll is how often it is asked for more room while all hands are full.
const roomPoll = 50 * time.Millisecond

// take waits for a free hand; false means that ctx ended.
func (h *hands) take(ctx context.Context) bool {
	for h.held.Load() >= int64(max(1, h.most())) {
		select {
		case <-h.freed:
		case <-time.After(roomPoll):
		case <-ctx.Done():
			return false
		}
	}
	h.held.Add(1)
	return true
}

func (h *hands) free() {
	h.held.Add(-1)
	select {
	case h.freed <- struct{}{}:
	default:
	}
}

// outlive is a context that ends a while after ctx does, or when stop is called.
func outlive(ctx context.Context, d time.Duration) (work context.Context, stop func()) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return work, func() { ended(); cancel() }
}

// handBack ends a subscription and gives what it has fetched to other replicas, which
// would else wait for it until the server takes it for lost.
func (b *Bus) handBack(ctx context.Context, messages Messages) {
	messages.Drain()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	for {
		msg, err := messages.Next(ctx)
		if err != nil { // that was the last one, or the connection is gone
			return
		}
		b.release(msg)
	}
}

// release gives a message that nobody worked on to another replica.
func (b *Bus) release(msg jetstream.Msg) {
	if msg == nil {
		return
	}
	if err := msg.Nak(); err != nil {
		b.log.Debug("hand message back", "error", err)
	}
}

// deliver runs the handler for one message that came before ctx ended; work is the
// handler's own context, since when the consumer was created.
func (b *Bus) deliver(ctx, work context.Context, msg jetstream.Msg, since time.Time, opts ConsumeOptions, handle Handler) {
	d, err := delivery(msg, since)
	if err != nil {
		b.log.ErrorContext(ctx, "message without metadata", "error", err)
		return
	}
	if d.Header["Nats-Marker-Reason"] != "" {
		b.settle(work, msg, d, opts.Connection, nil)
		return
	}
	stop := b.keepAlive(work, msg)
	defer stop()
	if opts.Slots != nil {
		select {
		case opts.Slots <- struct{}{}:
			defer func() { <-opts.Slots }()
		case <-ctx.Done():
			b.release(msg)
			return
		}
	}
	spanCtx, span := b.startProcess(work, d)
	err = crash.Catch(spanCtx, b.log, crash.Handler, func() error { return handle(spanCtx, d) })
	verdict := b.settle(work, msg, d, opts.Connection, err)
	endProcess(span, verdict, err)
	if opts.Settled != nil {
		opts.Settled(d, verdict, err)
	}
}

func delivery(msg jetstream.Msg, since time.Time) (*Delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read metadata of %s: %w", msg.Subject(), err)
	}
	d := &Delivery{
		Stored: Stored{
			Subject: msg.Subject(), Data: msg.Data(), Header: flatten(msg.Headers()),
			Sequence: meta.Sequence.Stream, Published: meta.Timestamp,
		},
		Attempt: meta.NumDelivered,
		Request: meta.Stream == provisioningv1.StreamRequests,
		Since:   since,
	}
	if attempts := d.Header[headerAttempts]; attempts != "" {
		if d.Earlier, err = strconv.ParseUint(attempts, 10, 64); err != nil {
			return nil, fmt.Errorf("read the attempts of %s: %w", msg.Subject(), err)
		}
	}
	return d, nil
}

// keepAlive tells the server that the message is still being worked on, each
// third of the time after which it would deliver it again.
func (b *Bus) keepAlive(ctx context.Context, msg jetstream.Msg) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(failpoint.Scale(ackWait) / 3)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if err := msg.InProgress(); err != nil {
					b.log.DebugContext(ctx, "extend message", "error", err)
				}
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// settle tells the server the verdict. A lost answer is harmless: the message
// comes again and the link says that it was done.
func (b *Bus) settle(ctx context.Context, msg jetstream.Msg, d *Delivery, connection string, handled error) Verdict {
	verdict, delay := VerdictOf(handled)
	failpoint.Hit("before", string(verdict), d.Subject)
	var err error
	switch {
	case verdict == Acked, verdict == Held:
		err = msg.Ack()
	case verdict == Parked:
		err = msg.TermWithReason("parked")
	case ctx.Err() != nil:
		err = msg.Nak()
	case verdict == Delayed:
		err = b.again(ctx, msg, d, connection, spread(delay), d.Earlier, surely(handled))
	default:
		err = b.again(ctx, msg, d, connection, BackOff(d.Earlier+d.Attempt), d.Earlier+d.Attempt, d.Request)
	}
	failpoint.Hit("after", string(verdict), d.Subject)
	if err != nil {
		b.log.Log(ctx, LevelOf(err), "settle message", "verdict", verdict, "error", err)
	}
	return verdict
}

// again has the message come back after a delay. It keeps its place in the
// consumer's window for a short one; for a longer one, and where it has to come surely, a
// request comes instead, so that what fails for long takes no room from the others. The
// request knows how many attempts have failed, so that the back-off goes on.
func (b *Bus) again(ctx context.Context, msg jetstream.Msg, d *Delivery, connection string, delay time.Duration, failed uint64, surely bool) error {
	if delay <= LongestInFlight && !surely || connection == "" {
		return msg.NakWithDelay(delay)
	}
	if err := b.postpone(ctx, d, connection, delay, failed); err != nil {
		return errors.Join(err, msg.NakWithDelay(LongestInFlight))
	}
	return msg.Ack()
}

// postpone schedules a request for the entry that a delivery is about.
func (b *Bus) postpone(ctx context.Context, d *Delivery, connection string, delay time.Duration, failed uint64) error {
	kind, id, err := d.Entry()
	if err != nil {
		return err
	}
	header := map[string]string{headerAttempts: strconv.FormatUint(failed, 10), headerWaitsSince: d.waitsSince().Format(time.RFC3339Nano)}
	return b.schedule(ctx, kind, connection, id, provisioningv1.ReasonLater, time.Now().Add(delay), header)
}

// Entry is the kind and id of the entry that a change or a request is about.
func (d *Delivery) Entry() (directoryv1.Kind, []byte, error) {
	if d.Request {
		kind, _, id, err := provisioningv1.ParseRequestSubject(d.Subject)
		return kind, id, err
	}
	s, err := directoryv1.ParseSubject(d.Subject)
	return s.Kind, s.ID, err
}

// BackOff is the delay before the next delivery after a failed attempt: doubled
// each time from one second up to five minutes, with jitter.
func BackOff(attempt uint64) time.Duration {
	d := firstBackOff << min(attempt-1, 16)
	return jitter(min(d, maxBackOff))
}

// spread makes a delay up to a quarter longer; a negative one is none.
func spread(d time.Duration) time.Duration {
	d = max(0, d)
	return d + rand.N(d/4+1) //nolint:gosec // spreading retries needs no secrecy
}

func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(max(1, d/2)) //nolint:gosec // spreading retries needs no secrecy
}

// Request asks the connection's workers to look at an entry again.
func (b *Bus) Request(ctx context.Context, kind directoryv1.Kind, connection string, id []byte, reason string) error {
	data, err := encode(&provisioningv1.Request{Reason: reason})
	if err != nil {
		return err
	}
	_, err = b.Publish(ctx, Message{Subject: provisioningv1.RequestSubject(kind, connection, id), Data: data})
	return err
}

// ScheduleRequestAt asks the connection's workers to look at an entry again at a
// time; a later schedule with the same reason replaces an earlier one.
func (b *Bus) ScheduleRequestAt(ctx context.Context, kind directoryv1.Kind, connection string, id []byte, reason string, at time.Time) error {
	return b.schedule(ctx, kind, connection, id, reason, at, map[string]string{})
}

// schedule is ScheduleRequestAt; the request bears the header, too.
func (b *Bus) schedule(ctx context.Context, kind directoryv1.Kind, connection string, id []byte, reason string, at time.Time, header map[string]string) error {
	data, err := encode(&provisioningv1.Request{Reason: reason})
	if err != nil {
		return err
	}
	header[jetstream.ScheduleHeader] = "@at " + at.UTC().Format(time.RFC3339)
	header[jetstream.ScheduleTargetHeader] = provisioningv1.RequestSubject(kind, connection, id)
	_, err = b.Publish(ctx, Message{Subject: provisioningv1.LaterSubject(kind, connection, id, reason), Data: data, Header: header})
	return err
}
