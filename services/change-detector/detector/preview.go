package detector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
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
// published or would be. Nothing is published, and no lease is taken.
func Preview(ctx context.Context, cfg *connection.Config, source string, b *bus.Bus, log *slog.Logger) ([]Desired, error) {
	d, err := newDetector(cfg, source, b, log)
	if err != nil {
		return nil, err
	}
	memory, err := remember(ctx, b, source)
	if err != nil {
		return nil, err
	}
	before := memory.clone()
	p := &preview{session: &session{
		detector: d, mirror: newMirror(d.rules), proven: func() {},
		publisher: &publisher{detector: d, memory: memory, dry: true},
	}}
	if err := d.directory.Watch(ctx, p); !errors.Is(err, errPreviewed) {
		return nil, err
	}
	return p.desired(before)
}

// preview is a session that ends when everything was read and compared once.
type preview struct{ *session }

// Settled derives what would be published.
func (p *preview) Settled(ctx context.Context) error {
	if err := p.session.Settled(ctx); err != nil {
		return err
	}
	return errPreviewed
}

// desired is everything that the mirror and the memory know.
func (p *preview) desired(before memory) ([]Desired, error) {
	var all []Desired
	for _, kind := range kinds {
		for id, known := range p.publisher.memory[kind] {
			one, err := p.one(kind, id, known)
			if err != nil {
				return nil, fmt.Errorf("preview %s: %w", id, err)
			}
			if former := before[kind][id]; former != nil && former.hash == known.hash {
				one.Sequence = former.sequence
			}
			all = append(all, one)
		}
	}
	return all, nil
}

// one makes what is desired of an entry: a removal where it is gone, also where the
// removal is held.
func (p *preview) one(kind directoryv1.Kind, id ID, known *published) (Desired, error) {
	e := p.mirror.entries[id]
	closure := p.scope.users
	if kind == directoryv1.Kind_KIND_GROUP {
		closure = p.scope.groups
	}
	in, reason := false, directoryv1.Reason_REASON_DELETED
	if e != nil {
		in, reason = p.mirror.inScope(e, kind, closure)
	}
	if !in {
		gone, err := p.mirror.absent(id, e, kind, reason, known.chunks())
		if err != nil {
			return Desired{}, err
		}
		d := Desired{Change: gone.change, DN: dnOf(p.mirror.at(id))}
		if _, held := p.held[id]; held && known.present {
			d.Held = p.whyNot()
		}
		return d, nil
	}
	now, err := p.mirror.present(e, kind, known.chunks())
	if err != nil {
		return Desired{}, err
	}
	return Desired{Change: now.change, DN: e.dn, Chunks: now.chunks}, nil
}

func dnOf(e *entry) string {
	if e == nil {
		return ""
	}
	return e.dn
}
