package detector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/held"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// Desired is what a source wants of one entry, as it is published or would be.
type Desired struct {
	Change *directoryv1.Change
	// DN is what the directory calls it, as far as it is known.
	DN string
	// Chunks are a group's members, packed as in a MemberChunk, by number.
	Chunks [][]byte
	// Sequence is that of the published change; 0 where it would be published anew.
	Sequence uint64
	// Held says why the removal of the entry would wait; the change is the removal.
	Held string
}

// errPreviewed ends the session of a preview.
var errPreviewed = errors.New("previewed")

// Preview reads a source whole and returns what it wants of every entry that is
// published or would be, and what was found on the way. Nothing is published, counted
// or held, and no lease is taken.
func Preview(ctx context.Context, cfg *connection.Config, source string, b *bus.Bus, log *slog.Logger) ([]Desired, Found, error) {
	d, err := newDetector(cfg, source, b, log)
	if err != nil {
		return nil, Found{}, err
	}
	former, known, err := d.formerSet(ctx)
	if err != nil {
		return nil, Found{}, err
	}
	if known {
		if err := d.prepare(cfg.AttributeSet(source).Union(former)); err != nil {
			return nil, Found{}, err
		}
	}
	memory, err := remember(ctx, b, source)
	if err != nil {
		return nil, Found{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)
	would := map[held.Key]*publication{}
	p := &preview{session: openSession(d, &publisher{detector: d, memory: memory, would: would}, func() {}), would: would}
	defer p.close()
	if err := p.attend(ctx, &running, cancel); err != nil {
		return nil, Found{}, err
	}
	if err := d.directory.Watch(ctx, p); !errors.Is(err, errPreviewed) {
		return nil, Found{}, err
	}
	desired, err := p.desired(ctx)
	return desired, d.found(p.mirror, &p.scope), err
}

// preview is a session that ends when everything was read and compared once.
type preview struct {
	*session

	would map[held.Key]*publication // what would be published
}

// Settled derives what would be published.
func (p *preview) Settled(ctx context.Context) error {
	if err := p.session.Settled(ctx); err != nil {
		return err
	}
	return errPreviewed
}

// desired is everything that is published or would be.
func (p *preview) desired(ctx context.Context) ([]Desired, error) {
	var all []Desired
	for _, kind := range kinds {
		for id, known := range p.publisher.memory[kind] {
			one, err := p.one(ctx, kind, id, known)
			if err != nil {
				return nil, fmt.Errorf("preview %s: %w", id, err)
			}
			one.DN = p.dn(id, one.Change)
			all = append(all, one)
		}
	}
	return all, nil
}

// one is what is desired of an entry: what would be published of it, the removal
// that waits for a person, what is published and derived again, or what is
// published and kept.
func (p *preview) one(ctx context.Context, kind directoryv1.Kind, id ID, known *published) (Desired, error) {
	key := held.Key{Kind: kind, ID: id}
	if pub := p.would[key]; pub != nil {
		return Desired{Change: pub.change, Chunks: pub.chunks}, nil
	}
	e := p.mirror.entries[id]
	in, reason := p.place(e, kind)
	if !in {
		gone, err := p.mirror.absent(id, e, kind, reason, known.chunks())
		if err != nil {
			return Desired{}, err
		}
		d := Desired{Change: gone.change, Sequence: known.sequence}
		if item := p.items[key]; item != nil {
			d.Held = item.GetReason()
		}
		return d, nil
	}
	now, err := p.mirror.present(e, kind, known)
	if err != nil {
		return Desired{}, err
	}
	if now.hash == known.hash {
		return Desired{Change: now.change, Chunks: now.chunks, Sequence: known.sequence}, nil
	}
	return p.stored(ctx, kind, id)
}

func (p *preview) place(e *entry, kind directoryv1.Kind) (in bool, reason directoryv1.Reason) {
	if e == nil {
		return false, directoryv1.Reason_REASON_DELETED
	}
	return p.mirror.inScope(e, kind, p.scope.of(kind))
}

// stored is what is published of an entry that keeps more than the directory says.
func (p *preview) stored(ctx context.Context, kind directoryv1.Kind, id ID) (Desired, error) {
	last, err := p.bus.Last(ctx, kind.Stream(), directoryv1.EntrySubject(kind, p.name, id[:]))
	if err != nil {
		return Desired{}, err
	}
	d := Desired{Change: &directoryv1.Change{}, Sequence: last.Sequence}
	if err := proto.Unmarshal(last.Data, d.Change); err != nil {
		return Desired{}, fmt.Errorf("decode %s: %w", last.Subject, err)
	}
	for n, hash := range d.Change.GetGroup().GetMembers().GetChunkHashes() {
		var members []member
		if len(hash) > 0 {
			if members, err = p.readChunk(ctx, id, n); err != nil {
				return Desired{}, err
			}
		}
		d.Chunks = append(d.Chunks, pack(members, 1)[0])
	}
	return d, nil
}

// dn is what the directory calls an entry, as far as it is known.
func (p *preview) dn(id ID, change *directoryv1.Change) string {
	if e := p.mirror.at(id); e != nil {
		return e.dn()
	}
	return cmp.Or(change.GetUser().GetDn(), change.GetGroup().GetDn())
}
