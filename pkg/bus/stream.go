package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	defaultRetentionAge   = 90 * 24 * time.Hour
	defaultRetentionBytes = 1 << 30
	markerTTL             = time.Minute
)

// Setup creates the streams and buckets, or brings existing ones to the present
// configuration. It may run any number of times, by any service.
func (b *Bus) Setup(ctx context.Context) error {
	for _, cfg := range b.streams() {
		if err := b.ensureStream(ctx, cfg); err != nil {
			return err
		}
	}
	if offered, err := b.ensureUptime(ctx); err != nil || offered {
		return err
	}
	b.log.InfoContext(ctx, "NATS keeps no stream in memory; that all its servers were restarted is not noticed, but for the time that it takes")
	return nil
}

const (
	streamUptime  = "UPTIME"
	subjectUptime = "uptime"
)

// ensureUptime makes the stream in memory. A server may offer no memory.
func (b *Bus) ensureUptime(ctx context.Context) (offered bool, err error) {
	err = b.ensureStream(ctx, jetstream.StreamConfig{
		Name:        streamUptime,
		Description: "One message in memory, which is lost when every server was restarted.",
		Subjects:    []string{subjectUptime},
		Storage:     jetstream.MemoryStorage,
		AllowDirect: true,

		MaxMsgsPerSubject: 1,
	})
	if _, refused := errors.AsType[*jetstream.APIError](err); refused {
		return false, nil
	}
	return err == nil, err
}

// Uptime identifies the time since which NATS runs without a restart of all its servers
// at once: it is another one after each. It is empty where NATS keeps no stream in memory.
func (b *Bus) Uptime(ctx context.Context) (string, error) {
	last, err := b.Last(ctx, streamUptime, subjectUptime)
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) { // a single server has lost it
		offered, err := b.ensureUptime(ctx)
		if err != nil || !offered {
			return "", err
		}
		return b.begin(ctx)
	}
	if errors.Is(err, ErrNotFound) {
		return b.begin(ctx)
	}
	if err != nil {
		return "", err
	}
	return string(last.Data), nil
}

// begin stores the mark of another uptime, unless another process was faster, and returns
// the one that is stored.
func (b *Bus) begin(ctx context.Context) (string, error) {
	_, err := b.Publish(ctx, Message{Subject: subjectUptime, Data: []byte(nuid.Next()), Expect: new(uint64(0))})
	if err != nil && !errors.Is(err, ErrConflict) {
		return "", err
	}
	last, err := b.Last(ctx, streamUptime, subjectUptime)
	if err != nil {
		return "", err
	}
	return string(last.Data), nil
}

func (b *Bus) streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		desiredState(directoryv1.Kind_KIND_USER, "The directory's users, as desired state."),
		desiredState(directoryv1.Kind_KIND_GROUP, "The directory's groups, as desired state."),
		{
			Name:              provisioningv1.StreamRequests,
			Description:       "Entries to look at again, and schedules of later looks.",
			Subjects:          []string{"requests.>", "later.>"},
			Retention:         jetstream.WorkQueuePolicy,
			MaxMsgsPerSubject: 1,
			Discard:           jetstream.DiscardOld,
			AllowDirect:       true,
			AllowMsgSchedules: true,
			AllowMsgTTL:       true,
		},
		b.outcomes(),
		bucketStream(provisioningv1.BucketLinks, "What each entry is on each target.", 0),
		bucketStream(provisioningv1.BucketSources, "Leases, attribute sets and passes of the sources.", markerTTL),
		bucketStream(provisioningv1.BucketTargets, "State of the targets.", markerTTL),
	}
}

// desiredState is a compacted stream: the last message of each subject is the
// state, and nothing is ever dropped to make room.
func desiredState(kind directoryv1.Kind, description string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               kind.Stream(),
		Description:        description,
		Subjects:           directoryv1.StreamSubjects(kind),
		MaxMsgsPerSubject:  1,
		Discard:            jetstream.DiscardNew,
		AllowDirect:        true,
		AllowAtomicPublish: true,
	}
}

func (b *Bus) outcomes() jetstream.StreamConfig {
	age, bytes := b.cfg.Retention.Age, b.cfg.Retention.Bytes
	if age == 0 {
		age = defaultRetentionAge
	}
	if bytes == 0 {
		bytes = defaultRetentionBytes
	}
	return jetstream.StreamConfig{
		Name:        provisioningv1.StreamOutcomes,
		Description: "The audit log: what was done about each change.",
		Subjects:    []string{"outcomes.>"},
		MaxAge:      age,
		MaxBytes:    bytes,
		Discard:     jetstream.DiscardOld,
		AllowDirect: true,
		DenyDelete:  true,

		AllowAtomicPublish: true,
	}
}

// bucketStream is a key-value bucket made as a stream, because creating it as a
// bucket would silently clear the flag for atomic batches.
func bucketStream(name, description string, markers time.Duration) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                   "KV_" + name,
		Description:            description,
		Subjects:               []string{"$KV." + name + ".>"},
		MaxMsgsPerSubject:      1,
		Discard:                jetstream.DiscardNew,
		AllowDirect:            true,
		AllowRollup:            true,
		DenyDelete:             true,
		AllowAtomicPublish:     true,
		AllowMsgTTL:            markers > 0,
		SubjectDeleteMarkerTTL: markers,
	}
}

func (b *Bus) ensureStream(ctx context.Context, cfg jetstream.StreamConfig) error {
	cfg.Replicas = max(1, b.cfg.Replicas)
	cfg.Duplicates = 10 * time.Second
	if cfg.MaxAge > 0 && cfg.MaxAge < cfg.Duplicates {
		cfg.Duplicates = cfg.MaxAge
	}
	if err := b.store.EnsureStream(ctx, cfg); err != nil {
		return fmt.Errorf("set up stream %s: %w", cfg.Name, err)
	}
	return nil
}

// Ready reports whether Setup has run against this server.
func (b *Bus) Ready(ctx context.Context) error {
	for _, name := range b.StreamNames() {
		_, err := b.store.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("stream %s is missing: %w; run `rollcall setup`", name, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("look up stream %s: %w", name, err)
		}
	}
	return nil
}

// Epoch identifies the life of a stream: a stream that was made anew has another
// one, and sequences of the old one mean nothing to it.
func (b *Bus) Epoch(ctx context.Context, stream string) (int64, error) {
	info, err := b.streamInfo(ctx, stream)
	if err != nil {
		return 0, err
	}
	return info.Created.UnixNano(), nil
}

// StreamNames are the streams that Setup makes, those of buckets among them.
func (b *Bus) StreamNames() []string {
	var names []string
	for _, cfg := range b.streams() {
		names = append(names, cfg.Name)
	}
	return names
}

// Extent is how far a stream or bucket has come.
type Extent struct {
	// Epoch is when it was made, in nanoseconds since 1970; see Epoch.
	Epoch int64 `json:"epoch"`
	// Last is the sequence of its newest message.
	Last uint64 `json:"last"`
}

// Extents are those of every stream and bucket that Setup makes, by the name of the
// stream; one that does not exist is left out.
func (b *Bus) Extents(ctx context.Context) (map[string]Extent, error) {
	all := map[string]Extent{}
	for _, cfg := range b.streams() {
		info, err := b.streamInfo(ctx, cfg.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
		case err != nil:
			return nil, err
		default:
			all[cfg.Name] = Extent{Epoch: info.Created.UnixNano(), Last: info.State.LastSeq}
		}
	}
	return all, nil
}

// LastSequence is the sequence of the newest message of a stream.
func (b *Bus) LastSequence(ctx context.Context, stream string) (uint64, error) {
	info, err := b.streamInfo(ctx, stream)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

func (b *Bus) streamInfo(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	info, err := answered(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) { return b.store.Stream(ctx, stream) })
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", stream, err)
	}
	return info, nil
}
