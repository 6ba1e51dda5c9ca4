package held

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Key names an entry of one kind.
type Key struct {
	Kind directoryv1.Kind
	ID   [directoryv1.IDSize]byte
}

// Board is a store as its one writer sees it: what is held, and what people said
// of it, in memory and up to date while Run runs. It writes what changed, many
// items at a time. It is safe for concurrent use.
type Board struct {
	store  *Store
	marked func()

	mu    sync.Mutex
	items map[Key]Item // with a nil Held where the item was dropped: the revision counts
}

// Board makes a board; marked is called whenever a person has said something.
func (s *Store) Board(marked func()) *Board {
	return &Board{store: s, marked: marked, items: map[Key]Item{}}
}

// Run keeps the board up to date until ctx ends. It calls ready once everything
// that was held before is on it.
func (b *Board) Run(ctx context.Context, ready func()) error {
	if err := b.store.Watch(ctx, ready, b.take); err != nil && ctx.Err() == nil {
		return fmt.Errorf("watch what is held of %s: %w", b.store.name, err)
	}
	return nil
}

// take puts what was read on the board, unless something newer is on it.
func (b *Board) take(i Item) {
	key := Key{Kind: i.Kind, ID: [directoryv1.IDSize]byte(i.ID)}
	b.mu.Lock()
	known := b.items[key]
	fresh := i.revision > known.revision
	if fresh {
		b.items[key] = i
	}
	b.mu.Unlock()
	if fresh && i.Held != nil && i.GetMark() != known.GetMark() {
		b.marked()
	}
}

// Get is what is held of an entry; nil when nothing is. It must not be changed.
func (b *Board) Get(k Key) *provisioningv1.Held {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.items[k].Held
}

// Len is how many entries are held.
func (b *Board) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, i := range b.items {
		if i.Held != nil {
			n++
		}
	}
	return n
}

// change is one write of Replace; held is nil where an item is dropped.
type change struct {
	key   Key
	held  *provisioningv1.Held
	write bus.Write
}

// Replace makes what is stored equal to what is held now: it adds, changes and
// drops items. What is the same is not written again, though the numbers in its
// reason may have changed; what a person said stays while it is about the same
// removal.
func (b *Board) Replace(ctx context.Context, now map[Key]*provisioningv1.Held) error {
	changes, err := b.compare(now)
	if err != nil {
		return err
	}
	for len(changes) > 0 {
		batch := changes[:min(len(changes), bus.MaxBatch)]
		changes = changes[len(batch):]
		if err := b.write(ctx, batch); err != nil {
			return fmt.Errorf("store what is held of %s: %w", b.store.name, err)
		}
	}
	return nil
}

// compare says what has to be written.
func (b *Board) compare(now map[Key]*provisioningv1.Held) ([]change, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var changes []change
	for k, h := range now {
		known := b.items[k]
		if Same(known.Held, h) {
			if sameWords(known.GetReason(), h.GetReason()) {
				continue
			}
			h.Since, h.Mark, h.Approval = known.GetSince(), known.GetMark(), known.GetApproval()
		} else {
			h.Since = timestamppb.Now()
		}
		w, err := b.store.items.Write(b.store.key(k), h, known.revision)
		if err != nil {
			return nil, err
		}
		changes = append(changes, change{key: k, held: h, write: w})
	}
	for k, known := range b.items {
		if known.Held != nil && now[k] == nil {
			changes = append(changes, change{key: k, write: b.store.items.Remove(b.store.key(k), known.revision)})
		}
	}
	return changes, nil
}

// sameWords says whether two reasons differ in their numbers at most.
func sameWords(a, b string) bool { return a == b || Words(a) == Words(b) }

// Words are a reason without its numbers.
func Words(reason string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '.' {
			return -1
		}
		return r
	}, reason)
}

// write stores a batch. Where a person or another process wrote in between, each
// item is written by itself.
func (b *Board) write(ctx context.Context, batch []change) error {
	writes := make([]bus.Write, len(batch))
	for i, c := range batch {
		writes[i] = c.write
	}
	revisions, err := b.store.bus.Commit(ctx, writes)
	if errors.Is(err, bus.ErrConflict) {
		return b.writeEach(ctx, batch)
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, c := range batch {
		if b.items[c.key].revision < revisions[i] {
			b.items[c.key] = Item{Kind: c.key.Kind, ID: c.key.ID[:], Held: c.held, revision: revisions[i]}
		}
	}
	return nil
}

// writeEach leaves it to the watch to tell the board.
func (b *Board) writeEach(ctx context.Context, batch []change) error {
	for _, c := range batch {
		var err error
		if c.held == nil {
			err = b.store.Drop(ctx, c.key.Kind, c.key.ID[:])
		} else {
			_, err = b.store.Hold(ctx, c.key.Kind, c.key.ID[:], c.held)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) key(k Key) string { return provisioningv1.HeldKey(s.name, k.Kind, k.ID[:]) }
