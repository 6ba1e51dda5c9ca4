package usersync

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// rivals knows which users of a connection have a matching value in common: they would
// be matched with the same account. *rivalIndex is the one of a running service.
type rivals interface {
	// sharing are the other entries that may have one of the values.
	sharing(ctx context.Context, job *worker.Job, values []matchValue) ([]entryID, error)
	// change is the newest change of an entry; nil where there is none.
	change(ctx context.Context, id entryID) (*directoryv1.Change, mapping.Set, error)
	// linked says whether an entry has a resource.
	linked(ctx context.Context, id entryID) (bool, error)
}

// alone is a connection without rivals, for those who only compare.
type alone struct{}

func (alone) sharing(context.Context, *worker.Job, []matchValue) ([]entryID, error) { return nil, nil }

func (alone) change(context.Context, entryID) (*directoryv1.Change, mapping.Set, error) {
	return nil, nil, nil
}
func (alone) linked(context.Context, entryID) (bool, error) { return false, nil }

// rival finds the entry that keeps an unlinked one from its account: one that is linked
// already, or else the first of those that want the same.
func (c *converger) rival(ctx context.Context, job *worker.Job, w *wanted) (*plan.Rival, error) {
	own := w.distinct()
	others, err := c.rivals.sharing(ctx, job, own)
	if err != nil {
		return nil, err
	}
	var first *plan.Rival
	for _, id := range others {
		before := !w.Enabled && slices.Compare(id[:], job.Record.ID) < 0
		r, linked, err := c.contends(ctx, id, own, before)
		switch {
		case err != nil:
			return nil, err
		case r != nil && linked:
			return r, nil
		case r != nil && first == nil:
			first = r
		}
	}
	return first, nil
}

// contends says whether an entry really has one of the values, and is linked or would
// be. Of users that are all disabled in the directory the first one has the account, so
// that it is disabled once.
func (c *converger) contends(ctx context.Context, id entryID, values []matchValue, first bool) (r *plan.Rival, linked bool, err error) {
	change, set, err := c.rivals.change(ctx, id)
	if err != nil || change == nil {
		return nil, false, err
	}
	other, err := c.mapper.wanted(change, set, referring{people: known{}})
	if err != nil || !other.InScope {
		return nil, false, nil //nolint:nilerr // what cannot be evaluated is blocked by itself
	}
	theirs := other.distinct()
	i := slices.IndexFunc(values, func(v matchValue) bool { return slices.Contains(theirs, v) })
	if i < 0 {
		return nil, false, nil
	}
	if linked, err = c.rivals.linked(ctx, id); err != nil {
		return nil, false, err
	}
	if !linked && !other.Enabled && !c.policy.ProvisionDisabled && !first {
		return nil, false, nil
	}
	return &plan.Rival{ID: hex.EncodeToString(id[:]), Name: change.GetUser().GetDn(), Attribute: values[i].attribute}, linked, nil
}

// distinct are the values that no two users may have in common: those that they are
// matched by, and userName (RFC 7643 section 4.1.1). Their case does not matter, but for
// externalId.
func (w *wanted) distinct() []matchValue {
	values := make([]matchValue, 0, len(w.match)+1)
	named := false
	for _, m := range w.match {
		named = named || m.attribute == "userName"
		if m.attribute != "externalId" {
			m.value = strings.ToLower(m.value)
		}
		values = append(values, m)
	}
	if name, ok := w.units["userName"].Value.(string); ok && !named {
		values = append(values, matchValue{"userName", strings.ToLower(name)})
	}
	return values
}

// valueTable finds entries by hashes of their values. An entry that has another value by
// now may still be found by its former one.
type valueTable struct {
	seed   maphash.Seed
	first  map[uint64]entryID
	others map[uint64][]entryID // where several entries have a value
}

func newValueTable() *valueTable {
	return &valueTable{seed: maphash.MakeSeed(), first: map[uint64]entryID{}, others: map[uint64][]entryID{}}
}

func (t *valueTable) hash(v matchValue) uint64 {
	return maphash.String(t.seed, v.attribute+"\x00"+v.value)
}

func (t *valueTable) add(id entryID, values []matchValue) {
	for _, v := range values {
		h := t.hash(v)
		switch first, taken := t.first[h]; {
		case !taken:
			t.first[h] = id
		case first != id && !slices.Contains(t.others[h], id):
			t.others[h] = append(t.others[h], id)
		}
	}
}

// sharing are the entries but one that were added with one of the values, in the order
// of their ids.
func (t *valueTable) sharing(self entryID, values []matchValue) []entryID {
	var found []entryID
	for _, v := range values {
		h := t.hash(v)
		if first, taken := t.first[h]; taken {
			found = append(append(found, first), t.others[h]...)
		}
	}
	slices.SortFunc(found, func(a, b entryID) int { return slices.Compare(a[:], b[:]) })
	return slices.DeleteFunc(slices.Compact(found), func(id entryID) bool { return id == self })
}

// rivalIndex keeps a valueTable of the users that are published.
type rivalIndex struct {
	bus    *bus.Bus
	links  *links.Store
	source string
	mapper *mapper
	log    *slog.Logger
	sets   sync.Map // attribute set id -> mapping.Set

	asking   worker.Mutex // the server, for what is newer
	mu       sync.Mutex
	table    *valueTable
	seen     uint64        // sequence of the newest change in the table
	complete uint64        // every change up to this sequence was in the table when it was the newest
	moved    chan struct{} // closed when seen grows
}

func newRivalIndex(c *connection.Connection, m *mapper, process *worker.Process) *rivalIndex {
	return &rivalIndex{
		bus: process.Bus(), links: process.Links(c.Name), source: c.Source, mapper: m, log: process.Log().With("connection", c.Name),
		table: newValueTable(), moved: make(chan struct{}),
	}
}

// run keeps the index until ctx ends.
func (x *rivalIndex) run(ctx context.Context) error {
	worker.Follow(ctx, x.log, "users", reconnectDelay, x.watch)
	return nil
}

// staleLimit is how many changes are taken into a table that were there before it: with
// more, it is made anew, so that values that nobody has any more are forgotten.
const staleLimit = 100_000

var errStale = errors.New("the index of matching values is made anew")

func (x *rivalIndex) watch(ctx context.Context) error {
	x.mu.Lock()
	x.table, x.seen, x.complete = newValueTable(), 0, 0
	x.mu.Unlock()
	stored, later := true, 0
	opts := bus.ReadOptions{
		Filters: []string{directoryv1.EntryFilter(directoryv1.Kind_KIND_USER, x.source)}, Follow: true, CaughtUp: func() { stored = false },
	}
	err := x.bus.Read(ctx, directoryv1.StreamUsers, opts, func(s *bus.Stored) error {
		if !stored {
			if later++; later > staleLimit {
				return errStale
			}
		}
		return x.take(ctx, s)
	})
	if errors.Is(err, errStale) {
		return nil
	}
	return err
}

// take adds a change to the table. One that cannot be evaluated is nobody's rival.
func (x *rivalIndex) take(ctx context.Context, s *bus.Stored) error {
	subject, err := directoryv1.ParseSubject(s.Subject)
	if err != nil {
		return err
	}
	change, set, err := x.decode(ctx, s)
	if err != nil {
		return err
	}
	values, err := x.mapper.distinct(change, set)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err == nil {
		x.table.add(entryID(subject.ID), values)
	}
	x.seen = s.Sequence
	close(x.moved)
	x.moved = make(chan struct{})
	return nil
}

func (x *rivalIndex) decode(ctx context.Context, s *bus.Stored) (*directoryv1.Change, mapping.Set, error) {
	change := &directoryv1.Change{}
	if err := proto.Unmarshal(s.Data, change); err != nil {
		return nil, nil, fmt.Errorf("decode %s: %w", s.Subject, err)
	}
	id := change.GetAttributeSet()
	if set, ok := x.sets.Load(id); ok {
		return change, set.(mapping.Set), nil
	}
	set, err := worker.ReadAttributeSet(ctx, x.bus, x.source, id)
	if errors.Is(err, bus.ErrNotFound) {
		return change, nil, nil // the entry itself says that it waits for the set
	}
	if err != nil {
		return nil, nil, err
	}
	x.sets.Store(id, set)
	return change, set, nil
}

// sharing waits until every change that was published with the job's is in the table.
func (x *rivalIndex) sharing(ctx context.Context, job *worker.Job, values []matchValue) ([]entryID, error) {
	if err := x.reach(ctx, job.Sequence); err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.table.sharing(entryID(job.Record.ID), values), nil
}

// reach waits until the table holds a change and, because changes are published in
// batches, everything that was stored when it was seen. One caller asks the server for
// all.
func (x *rivalIndex) reach(ctx context.Context, sequence uint64) error {
	x.asking.Lock()
	defer x.asking.Unlock()
	for {
		seen, _, complete := x.state()
		if complete >= sequence {
			return nil
		}
		next, err := x.bus.Next(ctx, directoryv1.StreamUsers, directoryv1.EntryFilter(directoryv1.Kind_KIND_USER, x.source), max(seen, sequence-1))
		if err != nil {
			return err
		}
		if next == 0 {
			x.completed(seen, sequence)
			continue
		}
		if err := x.await(ctx, next); err != nil {
			return err
		}
	}
}

// askAgain is after which time without news the server is asked again what is stored: the
// message that is waited for may have been purged.
const askAgain = time.Second

// await waits until the table holds a change, or nothing has come for askAgain.
func (x *rivalIndex) await(ctx context.Context, sequence uint64) error {
	for seen, moved, _ := x.state(); seen < sequence; seen, moved, _ = x.state() {
		timer := time.NewTimer(askAgain)
		select {
		case <-moved:
			timer.Stop()
		case <-timer.C:
			return nil
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
	return nil
}

func (x *rivalIndex) state() (seen uint64, moved <-chan struct{}, complete uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seen, x.moved, x.complete
}

// completed notes that nothing newer than seen was stored, or that the change with the
// wanted sequence is gone and nothing came after it.
func (x *rivalIndex) completed(seen, wanted uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.seen >= seen { // it was not made anew meanwhile
		x.complete = max(x.complete, seen, wanted)
	}
}

func (x *rivalIndex) change(ctx context.Context, id entryID) (*directoryv1.Change, mapping.Set, error) {
	s, err := x.bus.Last(ctx, directoryv1.StreamUsers, directoryv1.EntrySubject(directoryv1.Kind_KIND_USER, x.source, id[:]))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return x.decode(ctx, s)
}

func (x *rivalIndex) linked(ctx context.Context, id entryID) (bool, error) {
	record, err := x.links.Get(ctx, directoryv1.Kind_KIND_USER, id[:])
	if err != nil {
		return false, err
	}
	return record.Linked(), nil
}

// desiredRivals are the rivals among users that may not be published yet.
type desiredRivals struct {
	changes map[entryID]*directoryv1.Change
	set     mapping.Set
	has     func(entryID) bool
	table   *valueTable
}

func newDesiredRivals(changes map[entryID]*directoryv1.Change, set mapping.Set, m *mapper, linked func(entryID) bool) *desiredRivals {
	d := &desiredRivals{changes: changes, set: set, has: linked, table: newValueTable()}
	for id, change := range changes {
		if values, err := m.distinct(change, set); err == nil {
			d.table.add(id, values)
		}
	}
	return d
}

func (d *desiredRivals) sharing(_ context.Context, job *worker.Job, values []matchValue) ([]entryID, error) {
	return d.table.sharing(entryID(job.Record.ID), values), nil
}

func (d *desiredRivals) change(_ context.Context, id entryID) (*directoryv1.Change, mapping.Set, error) {
	return d.changes[id], d.set, nil
}

func (d *desiredRivals) linked(_ context.Context, id entryID) (bool, error) { return d.has(id), nil }
