package detector

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

const (
	recordSize = directoryv1.IDSize + 1
	// fullChunk is the mean number of members above which a group gets twice as
	// many chunks.
	fullChunk = 2048
	maxChunks = 512
)

// membersOf are a group's members as the source's nesting rule says: users alone
// (ignore), users of member groups too (flatten), or users and groups (preserve).
func (m *mirror) membersOf(g *entry) []member {
	members := make([]member, 0, len(g.members))
	m.walk(g, map[ID]struct{}{}, func(one member) { members = append(members, one) })
	slices.SortFunc(members, member.compare)
	members = slices.Compact(members)
	self := member{id: g.id, kind: directoryv1.Kind_KIND_GROUP}
	return slices.DeleteFunc(members, func(one member) bool { return one == self })
}

type member struct {
	id   ID
	kind directoryv1.Kind
}

func (a member) compare(b member) int {
	if order := bytes.Compare(a.id[:], b.id[:]); order != 0 {
		return order
	}
	return cmp.Compare(a.kind, b.kind)
}

func (m *mirror) walk(g *entry, visited map[ID]struct{}, found func(member)) {
	if _, seen := visited[g.id]; seen {
		return
	}
	visited[g.id] = struct{}{}
	m.eachMember(g, func(e *entry) {
		switch {
		case e.class.user:
			found(member{e.id, directoryv1.Kind_KIND_USER})
		case e.class.group && m.rules.groupNesting == nestedPreserve:
			found(member{e.id, directoryv1.Kind_KIND_GROUP})
		case e.class.group && m.rules.groupNesting != nestedIgnore:
			m.walk(e, visited, found)
		}
	})
}

// pack spreads sorted members over chunks: a power of two, never fewer than there
// are on the stream, doubled while the mean passes fullChunk.
func pack(members []member, atLeast int) [][]byte {
	if len(members) == 0 && atLeast == 0 {
		return nil
	}
	count := max(1, atLeast)
	for len(members) > fullChunk*count && count < maxChunks {
		count *= 2
	}
	chunks := make([][]byte, count)
	for n := range chunks {
		chunks[n] = make([]byte, 0, (len(members)/count+len(members)/count/4)*recordSize)
	}
	for _, one := range members {
		n := chunkOf(one.id, count)
		chunks[n] = append(append(chunks[n], one.id[:]...), byte(one.kind)) //nolint:gosec // a Kind is small
	}
	return chunks
}

// unpack reads the members of a chunk.
func unpack(chunk []byte) []member {
	members := make([]member, 0, len(chunk)/recordSize)
	for record := range slices.Chunk(chunk, recordSize) {
		if len(record) == recordSize {
			members = append(members, member{id: ID(record[:directoryv1.IDSize]), kind: directoryv1.Kind(record[directoryv1.IDSize])})
		}
	}
	return members
}

// union is everything that stands in one of the lists, sorted.
func union(a, b []member) []member {
	both := slices.Concat(a, b)
	slices.SortFunc(both, member.compare)
	return slices.Compact(both)
}

// without is what stands in the first list and not in the second.
func without(a, b []member) []member {
	in := make(map[member]struct{}, len(b))
	for _, one := range b {
		in[one] = struct{}{}
	}
	return slices.DeleteFunc(slices.Clone(a), func(one member) bool {
		_, both := in[one]
		return both
	})
}

// chunkOf is the chunk in which a member stands: by the 64-bit FNV-1a hash of its id.
func chunkOf(id ID, count int) int {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, b := range id {
		h = (h ^ uint64(b)) * prime
	}
	return int(h % uint64(count)) //nolint:gosec // count is 1 to 512
}

// manifest describes the chunks.
func manifest(chunks [][]byte) *directoryv1.MemberManifest {
	m := &directoryv1.MemberManifest{ChunkCount: uint32(len(chunks))} //nolint:gosec // at most 512
	for _, c := range chunks {
		m.Count += uint64(len(c) / recordSize)
		m.ChunkHashes = append(m.ChunkHashes, chunkHash(c))
	}
	return m
}

// chunkHash is empty for an empty chunk.
func chunkHash(members []byte) []byte {
	if len(members) == 0 {
		return nil
	}
	sum := sha256.Sum256(members)
	return sum[:hashSize]
}

// membersHash is the same for the same members, in whatever order.
func membersHash(all []member) []byte {
	h := sha256.New()
	for _, m := range slices.SortedFunc(slices.Values(all), member.compare) {
		h.Write(m.id[:])
		h.Write([]byte(m.kind.Token()))
	}
	return h.Sum(nil)[:hashSize]
}
