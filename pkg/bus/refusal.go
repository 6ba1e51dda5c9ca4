package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Codes of the server's API that mean that it cannot store for want of space, and the one
// with which it refuses a batch of which it could not store a part.
const (
	codeInsufficientResources = 10023
	codeStorageExceeded       = 10047
	codeIncompleteBatch       = 10176
)

const (
	// refusalTries is how many writes of a stream in a row get no answer before the server
	// is said to refuse them. A stream that could not write once, because the disk was full,
	// answers no write any more, and every read (nats-server 2.15.2).
	refusalTries = 2
	// refusalLook bounds the question whether the server answers otherwise.
	refusalLook = time.Second
	// probeTime bounds a write that only finds out whether the server stores anything.
	probeTime = 2 * time.Second
	// refusalRetry is how often a write is tried on a stream that refuses them. The others
	// fail at once: each would wait for its time-out, and the server keeps the files of
	// every batch that it cannot store.
	refusalRetry = 5 * time.Second
	// deniedFor is for how long after the server denied a right a write without an answer
	// means that: a denied request gets none.
	deniedFor = 10 * time.Second
)

// RefusalError says since when NATS answers and stores nothing.
type RefusalError struct {
	Stream string
	Since  time.Time
	// Cause is "no space" where the server says so. Where it only answers reads and no
	// writes, its files may also be damaged.
	Cause string
	// Hint is what helps.
	Hint string
	Err  error
}

const (
	causeSpace   = "no space"
	causeUnknown = "no space, or damaged files"
)

func (e *RefusalError) Error() string {
	return fmt.Sprintf("NATS refuses writes: %s (stream %s, since %s: %v); %s", e.Cause, e.Stream, e.Since.UTC().Format(time.RFC3339), e.Err, e.Hint)
}

func (e *RefusalError) Unwrap() error { return e.Err }

// LevelOf is the level at which the consequence of an error is logged: that NATS refuses
// writes was said once, and not again for each of many entries.
func LevelOf(err error) slog.Level {
	if _, refused := errors.AsType[*RefusalError](err); refused {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// refusals are the streams of which the server stores nothing.
type refusals struct {
	mu      sync.Mutex
	streams map[string]*refusal
}

type refusal struct {
	RefusalError

	tries int
	said  bool
	tried time.Time // last, since it was said
}

// Refusing is why the server refuses writes, as the writes of this connection saw it last;
// nil while it stores them.
func (b *Bus) Refusing() error {
	b.refusals.mu.Lock()
	defer b.refusals.mu.Unlock()
	var first *RefusalError
	for _, r := range b.refusals.streams {
		if r.said && (first == nil || r.Since.Before(first.Since)) {
			first = new(r.RefusalError)
		}
	}
	if first == nil {
		return nil
	}
	return first
}

// probeKey is the key that Stores writes.
const probeKey = "probe"

// Stores writes a key that lives for a minute into a bucket, to see whether the server
// stores anything: where it answers everything else, the error is a *RefusalError. For who
// lacks the right to write it says nothing.
func (b *Bus) Stores(ctx context.Context, bucket string) error {
	var err error
	for range refusalTries {
		short, cancel := context.WithTimeout(ctx, probeTime)
		err = b.PutText(short, bucket, probeKey, "", time.Minute)
		cancel()
		if err == nil || !Unavailable(err) {
			break
		}
	}
	if time.Since(time.Unix(0, b.denied.Load())) < deniedFor {
		return nil
	}
	return cmp.Or(b.Refusing(), err)
}

// wrote notes how a write ended. It says once that the server refuses writes, and once
// that it does not any more.
func (b *Bus) wrote(ctx context.Context, subject string, err error) {
	stream := streamOf(subject)
	if err == nil {
		if b.refusals.over(stream) {
			b.log.InfoContext(ctx, "NATS accepts writes again", "stream", stream)
		}
		return
	}
	full := outOfSpace(err)
	if !full && !unstored(err) || time.Since(time.Unix(0, b.denied.Load())) < deniedFor {
		return
	}
	if !b.refusals.note(stream, b.spaceHint(), full, err) || !full && !b.answersReads(ctx, stream) {
		return
	}
	e := b.refusals.say(stream)
	switch {
	case e == nil:
	case e.Cause == causeSpace:
		b.log.ErrorContext(ctx, "NATS refuses writes: no space", "stream", stream, "error", err, "hint", e.Hint)
	default:
		b.log.ErrorContext(ctx, "NATS refuses writes: no space, or damaged files", "stream", stream, "error", err, "hint", e.Hint)
	}
}

func (b *Bus) spaceHint() string {
	if b.cfg.InProcess != nil {
		return "make room on the disk of nats.data_dir; nothing is lost, and Rollcall goes on by itself"
	}
	return "make room on the disk of NATS, or raise its max_file_store, and restart that server: one that ran out of space stores nothing until then; where there is room, its log says which files are damaged, and an empty disk is the remedy; Rollcall goes on by itself"
}

// outOfSpace says whether the server says itself that there is no space.
func outOfSpace(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.ErrorCode == codeInsufficientResources || api.ErrorCode == codeStorageExceeded || strings.Contains(api.Description, "no space left")
	}
	return false
}

// unstored says whether a write may have failed because there is no space.
func unstored(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == codeIncompleteBatch || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)
}

// answersReads says whether the server answers for a stream to which it does not write.
func (b *Bus) answersReads(ctx context.Context, stream string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusalLook)
	defer cancel()
	_, err := b.store.Stream(ctx, stream)
	return err == nil
}

// admit says why a write is not even tried; nil where it is.
func (r *refusals) admit(subject string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.streams) == 0 {
		return nil
	}
	one := r.streams[streamOf(subject)]
	if one == nil || !one.said || time.Since(one.tried) >= refusalRetry {
		if one != nil {
			one.tried = time.Now()
		}
		return nil
	}
	return new(one.RefusalError)
}

// note counts a write that was not stored, and says whether that is worth a look.
func (r *refusals) note(stream, hint string, full bool, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.streams[stream]
	if one == nil {
		one = &refusal{RefusalError: RefusalError{Stream: stream, Since: time.Now(), Cause: causeUnknown, Hint: hint}}
		if r.streams == nil {
			r.streams = map[string]*refusal{}
		}
		r.streams[stream] = one
	}
	one.tries++
	one.Err = err
	if full {
		one.Cause = causeSpace
	}
	return !one.said && (full || one.tries >= refusalTries)
}

// say marks a stream as refused, and returns why unless that was said before.
func (r *refusals) say(stream string) *RefusalError {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.streams[stream]
	if one == nil || one.said {
		return nil
	}
	one.said = true
	return new(one.RefusalError)
}

// over forgets a stream that stores again, and says whether that is news.
func (r *refusals) over(stream string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.streams[stream]
	delete(r.streams, stream)
	return one != nil && one.said
}

// streamOf is the stream that stores a subject.
func streamOf(subject string) string {
	tokens := strings.SplitN(subject, ".", 3)
	switch first := tokens[0]; {
	case first == "$KV" && len(tokens) > 1:
		return "KV_" + tokens[1]
	case first == "requests", first == "later":
		return provisioningv1.StreamRequests
	case first == "outcomes":
		return provisioningv1.StreamOutcomes
	}
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		if slices.Contains(tokens, kind.Token()) {
			return kind.Stream()
		}
	}
	return subject
}
