// Package held is the durable side of the guard: which removals wait for a person,
// what the person said, and how many removals were counted in the window. One
// store is a source's or a connection's; detectors, workers and the command line
// share it. What may pass is decided by package guard.
package held

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Store holds what waits of one source or connection. It is safe for concurrent
// use, by any number of processes.
type Store struct {
	bus    *bus.Bus
	name   string
	items  *bus.Bucket[provisioningv1.Held, *provisioningv1.Held]
	window *bus.Bucket[provisioningv1.Window, *provisioningv1.Window]
}

// OfSource is the store of a source.
func OfSource(b *bus.Bus, source string) *Store {
	return open(b, provisioningv1.BucketSources, source)
}

// OfConnection is the store of a connection.
func OfConnection(b *bus.Bus, connection string) *Store {
	return open(b, provisioningv1.BucketTargets, connection)
}

func open(b *bus.Bus, bucket, name string) *Store {
	return &Store{bus: b, name: name, items: bus.OpenBucket[provisioningv1.Held](b, bucket), window: bus.OpenBucket[provisioningv1.Window](b, bucket)}
}

// Item is one entry's held removals.
type Item struct {
	Kind directoryv1.Kind
	ID   []byte
	// Held is nil in a Watch when the item was dropped.
	*provisioningv1.Held

	revision uint64
}

// maxTries bounds how often a compare-and-set is tried again.
const maxTries = 50

var errBusy = errors.New("others keep changing it")

// Hold records that an entry's removals wait. A mark is kept while it is about the
// same removal: the same sequence, generation, action, fields and members. It returns what
// is stored.
func (s *Store) Hold(ctx context.Context, kind directoryv1.Kind, id []byte, h *provisioningv1.Held) (*provisioningv1.Held, error) {
	key := provisioningv1.HeldKey(s.name, kind, id)
	for range maxTries {
		former, revision, err := s.items.Get(ctx, key)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return nil, fmt.Errorf("read what is held of %x: %w", id, err)
		}
		h.Since = timestamppb.Now()
		if Same(former, h) {
			if former.GetReason() == h.GetReason() {
				return former, nil
			}
			h.Since, h.Mark, h.Approval = former.GetSince(), former.GetMark(), former.GetApproval()
		}
		if _, err = s.items.Put(ctx, key, h, revision); !errors.Is(err, bus.ErrConflict) {
			return h, err
		}
	}
	return nil, fmt.Errorf("hold %x: %w", id, errBusy)
}

// Same says whether two records are about the same removal, so that what a person
// said of one holds for the other.
func Same(a, b *provisioningv1.Held) bool {
	if a == nil || b == nil || a.GetSequence() != b.GetSequence() || a.GetGeneration() != b.GetGeneration() || a.GetAction() != b.GetAction() {
		return false
	}
	return slices.Equal(a.GetFields(), b.GetFields()) && bytes.Equal(a.GetMembersHash(), b.GetMembersHash())
}

// Get is what is held of an entry; nil when nothing is.
func (s *Store) Get(ctx context.Context, kind directoryv1.Kind, id []byte) (*provisioningv1.Held, error) {
	h, _, err := s.items.Get(ctx, provisioningv1.HeldKey(s.name, kind, id))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, nil //nolint:nilnil // nothing held is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read what is held of %x: %w", id, err)
	}
	return h, nil
}

// DropUnless is Drop, but for an item of which keep says that it is about something
// else: another replica may have held it meanwhile.
func (s *Store) DropUnless(ctx context.Context, kind directoryv1.Kind, id []byte, keep func(*provisioningv1.Held) (bool, error)) error {
	key := provisioningv1.HeldKey(s.name, kind, id)
	for range maxTries {
		h, revision, err := s.items.Get(ctx, key)
		if errors.Is(err, bus.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what is held of %x: %w", id, err)
		}
		if stays, err := keep(h); stays || err != nil {
			return err
		}
		if _, err = s.items.Delete(ctx, key, revision); !errors.Is(err, bus.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("drop what is held of %x: %w", id, errBusy)
}

// Drop forgets an entry's held removals: the cause is gone, or they were done.
func (s *Store) Drop(ctx context.Context, kind directoryv1.Kind, id []byte) error {
	if err := s.items.Drop(ctx, provisioningv1.HeldKey(s.name, kind, id)); err != nil {
		return fmt.Errorf("drop what is held of %x: %w", id, err)
	}
	return nil
}

// List is everything that is held.
func (s *Store) List(ctx context.Context) ([]Item, error) {
	var all []Item
	err := s.items.Read(ctx, provisioningv1.HeldFilter(s.name), func(e bus.Entry[provisioningv1.Held, *provisioningv1.Held]) error {
		one, err := item(e)
		if err == nil {
			all = append(all, one)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what is held of %s: %w", s.name, err)
	}
	return all, nil
}

// Watch delivers everything that is held, calls caughtUp, and then delivers each
// change until ctx ends.
func (s *Store) Watch(ctx context.Context, caughtUp func(), each func(Item)) error {
	return s.items.Watch(ctx, provisioningv1.HeldFilter(s.name), caughtUp, func(e bus.Entry[provisioningv1.Held, *provisioningv1.Held]) error {
		one, err := item(e)
		if err == nil {
			each(one)
		}
		return err
	})
}

func item(e bus.Entry[provisioningv1.Held, *provisioningv1.Held]) (Item, error) {
	_, kind, id, err := provisioningv1.ParseHeldKey(e.Key)
	return Item{Kind: kind, ID: id, Held: e.Value, revision: e.Revision}, err
}

// Mark records what a person said of an item. The error is bus.ErrConflict when
// the item is no longer what the person saw.
func (s *Store) Mark(ctx context.Context, i Item, mark provisioningv1.Mark, approval string) error {
	i.Mark, i.Approval = mark, approval
	if _, err := s.items.Put(ctx, provisioningv1.HeldKey(s.name, i.Kind, i.ID), i.Held, i.revision); err != nil {
		return fmt.Errorf("mark %x: %w", i.ID, err)
	}
	return nil
}

// Earlier is how many removals of a kind were counted within the window.
func (s *Store) Earlier(ctx context.Context, l guard.Limits, of string) (int, error) {
	w, err := s.Window(ctx)
	if err != nil {
		return 0, err
	}
	return guard.Earlier(w, of, time.Now(), l.Window), nil
}

// Reserve counts removals if the limits allow them, all or none, and returns why
// not. It is a compare-and-set: replicas that ask at once share one window.
// Earlier is filled in from the window.
func (s *Store) Reserve(ctx context.Context, l guard.Limits, r guard.Removals) (reason string, err error) {
	return s.Permit(ctx, l, r.Of, r.Count, func(context.Context) (int, error) { return r.Total, nil })
}

// Permit is Reserve where the total costs something: it is asked for only when
// more than guard.Free removals make it matter.
func (s *Store) Permit(ctx context.Context, l guard.Limits, of string, count int, total func(context.Context) (int, error)) (reason string, err error) {
	key := provisioningv1.WindowKey(s.name)
	for range maxTries {
		w, revision, err := s.readWindow(ctx)
		if err != nil {
			return "", err
		}
		now := time.Now()
		r := guard.Removals{Of: of, Count: count, Earlier: guard.Earlier(w, of, now, l.Window)}
		r.Total = r.Count
		if r.Count+r.Earlier > guard.Free {
			if r.Total, err = total(ctx); err != nil {
				return "", err
			}
		}
		if reason := l.Check(r); reason != "" {
			return reason, nil
		}
		guard.Count(w, r.Of, r.Count, now, l.Window)
		if _, err := s.window.Put(ctx, key, w, revision); !errors.Is(err, bus.ErrConflict) {
			return "", err
		}
	}
	return "", fmt.Errorf("count removals: %w", errBusy)
}

// Window is what was counted. It is the empty window at first.
func (s *Store) Window(ctx context.Context) (*provisioningv1.Window, error) {
	w, _, err := s.readWindow(ctx)
	return w, err
}

func (s *Store) readWindow(ctx context.Context) (*provisioningv1.Window, uint64, error) {
	w, revision, err := s.window.Get(ctx, provisioningv1.WindowKey(s.name))
	if errors.Is(err, bus.ErrNotFound) {
		return &provisioningv1.Window{}, revision, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the window of removals: %w", err)
	}
	return w, revision, nil
}

// CountAll adds several kinds to the window at once, without asking.
func (s *Store) CountAll(ctx context.Context, l guard.Limits, counts map[string]int) error {
	for range maxTries {
		w, revision, err := s.readWindow(ctx)
		if err != nil {
			return err
		}
		for of, n := range counts {
			guard.Count(w, of, n, time.Now(), l.Window)
		}
		if _, err := s.window.Put(ctx, provisioningv1.WindowKey(s.name), w, revision); !errors.Is(err, bus.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("count removals: %w", errBusy)
}

// Count adds to the window without asking.
func (s *Store) Count(ctx context.Context, l guard.Limits, of string, n int) error {
	unlimited := guard.Limits{MaxRemovals: 1 << 40, MaxRemovalPercent: 100, Window: l.Window}
	_, err := s.Reserve(ctx, unlimited, guard.Removals{Of: of, Count: n, Total: n})
	return err
}
