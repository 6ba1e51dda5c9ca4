package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
)

// Value is a protobuf message T by pointer; buckets hold values of one such type
// for each prefix of keys.
type Value[T any] interface {
	*T
	proto.Message
}

// Bucket is a typed view of a key-value bucket. It is safe for concurrent use.
type Bucket[T any, P Value[T]] struct {
	bus  *Bus
	name string
}

// OpenBucket is a view of the named bucket; Setup must have created it.
func OpenBucket[T any, P Value[T]](b *Bus, name string) *Bucket[T, P] {
	return &Bucket[T, P]{bus: b, name: name}
}

func (k *Bucket[T, P]) stream() string            { return "KV_" + k.name }
func (k *Bucket[T, P]) subject(key string) string { return "$KV." + k.name + "." + key }

// Get reads a key and its revision. For a key that holds nothing the error is
// ErrNotFound and the revision is what Write must expect.
func (k *Bucket[T, P]) Get(ctx context.Context, key string) (P, uint64, error) {
	last, err := k.bus.Last(ctx, k.stream(), k.subject(key))
	if err != nil {
		return nil, 0, err
	}
	if gone(last.Header) {
		return nil, last.Sequence, fmt.Errorf("read %s: %w", key, ErrNotFound)
	}
	value := P(new(T))
	if err := proto.Unmarshal(last.Data, value); err != nil {
		return nil, last.Sequence, fmt.Errorf("decode %s: %w", key, err)
	}
	return value, last.Sequence, nil
}

// gone says whether a stored message is the marker of a deleted or expired key.
func gone(header map[string]string) bool {
	return header[headerOperation] != "" || header[jetstream.MarkerReasonHeader] != ""
}

// Write is one write to a bucket, made by Put or Remove and done by Commit.
type Write struct{ message Message }

// Append makes a write of a message without an expectation.
func Append(m Message) Write { return Write{message: m} }

// Write makes a write that stores value under key when the key's revision is
// still the expected one; 0 means that the key holds nothing.
func (k *Bucket[T, P]) Write(key string, value P, revision uint64) (Write, error) {
	data, err := encode(value)
	if err != nil {
		return Write{}, err
	}
	return Write{Message{Subject: k.subject(key), Data: data, Expect: &revision}}, nil
}

// Remove makes a write that deletes key when its revision is still the expected
// one.
func (k *Bucket[T, P]) Remove(key string, revision uint64) Write {
	return Write{Message{Subject: k.subject(key), Header: map[string]string{headerOperation: "DEL"}, Expect: &revision}}
}

// Drop deletes key, whatever it holds.
func (k *Bucket[T, P]) Drop(ctx context.Context, key string) error {
	_, err := k.bus.Publish(ctx, Message{Subject: k.subject(key), Header: map[string]string{headerOperation: "DEL"}})
	return err
}

// Delete deletes key if its revision is still the expected one and returns the new
// revision; ErrConflict otherwise.
func (k *Bucket[T, P]) Delete(ctx context.Context, key string, revision uint64) (uint64, error) {
	return k.bus.Publish(ctx, k.Remove(key, revision).message)
}

// Put stores value under key if its revision is still the expected one and
// returns the new revision; ErrConflict otherwise.
func (k *Bucket[T, P]) Put(ctx context.Context, key string, value P, revision uint64) (uint64, error) {
	w, err := k.Write(key, value, revision)
	if err != nil {
		return 0, err
	}
	return k.bus.Publish(ctx, w.message)
}

// Entry is a key with its value; Value is nil when the key was deleted.
type Entry[T any, P Value[T]] struct {
	Key      string
	Value    P
	Revision uint64
}

// Read delivers every live key that matches the filter once.
func (k *Bucket[T, P]) Read(ctx context.Context, filter string, each func(Entry[T, P]) error) error {
	return k.bus.Read(ctx, k.stream(), ReadOptions{Filters: []string{k.subject(filter)}}, func(s *Stored) error {
		e, err := k.entry(s)
		if err != nil || e.Value == nil {
			return err
		}
		return each(e)
	})
}

// Watch delivers every live key that matches the filter, calls caughtUp, and then
// delivers each change until ctx ends.
func (k *Bucket[T, P]) Watch(ctx context.Context, filter string, caughtUp func(), each func(Entry[T, P]) error) error {
	opts := ReadOptions{Filters: []string{k.subject(filter)}, Follow: true, CaughtUp: caughtUp}
	return k.bus.Read(ctx, k.stream(), opts, func(s *Stored) error {
		e, err := k.entry(s)
		if err != nil {
			return err
		}
		return each(e)
	})
}

func (k *Bucket[T, P]) entry(s *Stored) (Entry[T, P], error) {
	e := Entry[T, P]{Key: strings.TrimPrefix(s.Subject, "$KV."+k.name+"."), Revision: s.Sequence}
	if gone(s.Header) {
		return e, nil
	}
	e.Value = P(new(T))
	if err := proto.Unmarshal(s.Data, e.Value); err != nil {
		return e, fmt.Errorf("decode %s: %w", e.Key, err)
	}
	return e, nil
}

// encode is deterministic, so that equal values are equal bytes.
func encode(m proto.Message) ([]byte, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return data, nil
}

// PutText stores a short text with a lifetime; an empty lifetime means for ever.
func (b *Bus) PutText(ctx context.Context, bucket, key, text string, ttl time.Duration) error {
	m := Message{Subject: "$KV." + bucket + "." + key, Data: []byte(text)}
	if ttl > 0 {
		m.Header = map[string]string{jetstream.MsgTTLHeader: strconv.Itoa(int(max(ttl, time.Second).Seconds()))}
	}
	_, err := b.Publish(ctx, m)
	return err
}

// PutTextOnce stores text unless the key holds something, and returns what the
// key holds afterwards: everybody who asks gets the same answer.
func (b *Bus) PutTextOnce(ctx context.Context, bucket, key, text string) (string, error) {
	_, err := b.Publish(ctx, Message{Subject: "$KV." + bucket + "." + key, Data: []byte(text), Expect: new(uint64(0))})
	if err == nil {
		return text, nil
	}
	if !errors.Is(err, ErrConflict) {
		return "", err
	}
	return b.Text(ctx, bucket, key)
}

// Text reads a key that holds text.
func (b *Bus) Text(ctx context.Context, bucket, key string) (string, error) {
	last, err := b.Last(ctx, "KV_"+bucket, "$KV."+bucket+"."+key)
	if err != nil {
		return "", err
	}
	if gone(last.Header) {
		return "", fmt.Errorf("read %s: %w", key, ErrNotFound)
	}
	return string(last.Data), nil
}

// Next is the revision of the first write, after a revision, to a key that matches
// the filter; 0 when there is none. The server looks at what was written since. To ask
// it for the newest would be simpler, but it looks at all keys that match then.
func (k *Bucket[T, P]) Next(ctx context.Context, filter string, after uint64) (uint64, error) {
	return k.bus.Next(ctx, k.stream(), k.subject(filter), after)
}

// LastRevision is the revision of the newest write, whatever its key.
func (k *Bucket[T, P]) LastRevision(ctx context.Context) (uint64, error) {
	return k.bus.LastSequence(ctx, k.stream())
}

// DropKey deletes a key, whatever it holds.
func (b *Bus) DropKey(ctx context.Context, bucket, key string) error {
	_, err := b.Publish(ctx, Message{Subject: "$KV." + bucket + "." + key, Header: map[string]string{headerOperation: "DEL"}})
	return err
}

// WatchText delivers every key that matches the filter and holds a text, calls
// caughtUp, and then delivers each change until ctx ends; the text of a key that is
// gone is empty.
func (b *Bus) WatchText(ctx context.Context, bucket, filter string, caughtUp func(), each func(key, text string)) error {
	prefix := "$KV." + bucket + "."
	opts := ReadOptions{Filters: []string{prefix + filter}, Follow: true, CaughtUp: caughtUp}
	return b.Read(ctx, "KV_"+bucket, opts, func(s *Stored) error {
		text := string(s.Data)
		if gone(s.Header) {
			text = ""
		}
		each(strings.TrimPrefix(s.Subject, prefix), text)
		return nil
	})
}
