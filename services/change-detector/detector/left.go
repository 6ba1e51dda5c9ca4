package detector

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/held"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// findLeft finds out which members groups lose. The chunks that changed are read
// for it, and no others.
func (s *session) findLeft(ctx context.Context, p *pass) error {
	leaving := p.leaving()
	for _, pub := range p.upserts {
		before := s.publisher.memory[pub.key().Kind][pub.id()]
		if pub.chunks == nil && before.chunks() == 0 || before == nil || !before.present || sameChunks(before, pub) {
			continue
		}
		o := s.oldOf(pub)
		if !o.readLeft {
			var err error
			if o.left, err = s.readLeft(ctx, pub, before); err != nil {
				return fmt.Errorf("read who was a member of a group: %w", s.publisher.again(err))
			}
			o.readLeft = true
		}
		s.sortLeft(leaving, pub, o.left)
	}
	return nil
}

// leaving are the entries that a pass removes.
func (p *pass) leaving() map[member]bool {
	all := make(map[member]bool, len(p.removals))
	for _, r := range p.removals {
		all[member{id: r.id(), kind: r.key().Kind}] = true
	}
	return all
}

// sortLeft tells members that left a group from those who leave with their own
// entry; whose entry is not published at all is neither.
func (s *session) sortLeft(leaving map[member]bool, pub *publication, all []member) {
	for _, m := range all {
		switch {
		case !s.publisher.memory.shows(m.kind, m.id):
		case leaving[m]:
			pub.following = append(pub.following, m)
		default:
			pub.left = append(pub.left, m)
		}
	}
}

// sameChunks says whether a publication has the members that the stream holds.
func sameChunks(before *published, now *publication) bool {
	if before.chunks() != len(now.chunks) {
		return before.manifest.GetCount() == 0
	}
	for n := range now.chunks {
		if !before.same(n, now) {
			return false
		}
	}
	return true
}

// members are those of all chunks.
func (p *publication) members() []member {
	var all []member
	for _, chunk := range p.chunks {
		all = append(all, unpack(chunk)...)
	}
	return all
}

// readLeft compares the published members with those that are there now: chunk by
// chunk, or all of them where the group gets more chunks.
func (s *session) readLeft(ctx context.Context, pub *publication, before *published) ([]member, error) {
	same := before.chunks() == len(pub.chunks)
	var was, left []member
	for n, hash := range before.manifest.GetChunkHashes() {
		if len(hash) == 0 || same && before.same(n, pub) {
			continue
		}
		members, err := s.readChunk(ctx, pub.id(), n)
		switch {
		case err != nil:
			return nil, err
		case same:
			left = append(left, without(members, unpack(pub.chunks[n]))...)
		default:
			was = append(was, members...)
		}
	}
	if !same {
		left = without(was, pub.members())
	}
	return left, nil
}

func (s *session) readChunk(ctx context.Context, id ID, n int) ([]member, error) {
	if would := s.publisher.would[held.Key{Kind: directoryv1.Kind_KIND_GROUP, ID: id}]; would != nil {
		return unpack(would.chunks[n]), nil
	}
	stored, err := s.bus.Last(ctx, directoryv1.StreamGroups, directoryv1.ChunkSubject(s.name, id[:], n))
	if err != nil {
		return nil, err
	}
	var chunk directoryv1.MemberChunk
	if err := proto.Unmarshal(stored.Data, &chunk); err != nil {
		return nil, fmt.Errorf("decode %s: %w", stored.Subject, err)
	}
	return unpack(chunk.GetMembers()), nil
}
