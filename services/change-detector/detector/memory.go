package detector

import (
	"bytes"
	"context"
	"fmt"
	"unique"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// published is what the stream holds for one entry.
type published struct {
	sequence uint64
	hash     digest
	present  bool
	fields   fields
	manifest *directoryv1.MemberManifest // groups only
}

// memory is what was published for a source; the streams themselves are the
// durable form of it, so that it cannot disagree with them.
type memory map[directoryv1.Kind]map[ID]*published

// remember reads what the streams hold for the source.
func remember(ctx context.Context, b *bus.Bus, source string) (memory, error) {
	m := memory{directoryv1.Kind_KIND_USER: {}, directoryv1.Kind_KIND_GROUP: {}}
	var shelf shelf[published]
	for kind, entries := range m {
		opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(kind, source)}, HeadersOnly: kind == directoryv1.Kind_KIND_USER}
		err := b.Read(ctx, kind.Stream(), opts, func(s *bus.Stored) error {
			return recall(entries, &shelf, s)
		})
		if err != nil {
			return nil, fmt.Errorf("read what was published: %w", err)
		}
	}
	return m, nil
}

func recall(entries map[ID]*published, shelf *shelf[published], s *bus.Stored) error {
	subject, err := directoryv1.ParseSubject(s.Subject)
	if err != nil {
		return err
	}
	p := shelf.put(published{
		sequence: s.Sequence, hash: parseDigest(s.Header[directoryv1.HeaderContentHash]),
		present: s.Header[directoryv1.HeaderOp] == directoryv1.Op_OP_PRESENT.String(),
		fields:  unique.Make(s.Header[directoryv1.HeaderFields]),
	})
	if subject.Kind == directoryv1.Kind_KIND_GROUP {
		var change directoryv1.Change
		if err := proto.Unmarshal(s.Data, &change); err != nil {
			return fmt.Errorf("decode %s: %w", s.Subject, err)
		}
		p.manifest = change.GetGroup().GetMembers()
	}
	entries[ID(subject.ID)] = p
	return nil
}

// holds says whether an entry is published as present, as whatever kind.
func (m memory) holds(id ID) bool {
	for _, entries := range m {
		if p := entries[id]; p != nil && p.present {
			return true
		}
	}
	return false
}

// shows says whether an entry is published as present, as this kind.
func (m memory) shows(kind directoryv1.Kind, id ID) bool {
	p := m[kind][id]
	return p != nil && p.present
}

// present counts the entries of a kind that are published as present.
func (m memory) present(kind directoryv1.Kind) int {
	n := 0
	for _, p := range m[kind] {
		if p.present {
			n++
		}
	}
	return n
}

// members counts the memberships that are published.
func (m memory) members() int {
	var n uint64
	for _, p := range m[directoryv1.Kind_KIND_GROUP] {
		n += p.manifest.GetCount()
	}
	return int(n)
}

// chunks is how many chunks an entry has on the stream.
func (p *published) chunks() int {
	if p == nil {
		return 0
	}
	return int(p.manifest.GetChunkCount())
}

// same says whether chunk n on the stream holds what a publication has there.
func (p *published) same(n int, now *publication) bool {
	hash := now.chunkHash(n)
	if p == nil || n >= len(p.manifest.GetChunkHashes()) || p.chunks() == 0 {
		return len(hash) == 0
	}
	return bytes.Equal(p.manifest.GetChunkHashes()[n], hash)
}
