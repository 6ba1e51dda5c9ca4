package detector

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"slices"

	"google.golang.org/protobuf/proto"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

const (
	recordSize = directoryv1.IDSize + 1
	// fullChunk is the mean number of members above which a group gets twice as
	// many chunks.
	fullChunk = 2048
	maxChunks = 512
	hashSize  = 16
)

// publication is what the stream should hold for one entry.
type publication struct {
	change *directoryv1.Change
	data   []byte
	hash   string
	// chunks are a group's members, by chunk number; nil for a user.
	chunks [][]byte
	entry  *entry // nil when the entry is gone
}

// present makes the publication of an entry that is in scope. chunks is how many
// chunks the group has on the stream now.
func (m *mirror) present(e *entry, kind directoryv1.Kind, chunks int) (*publication, error) {
	attributes, err := e.attributes()
	if err != nil {
		return nil, err
	}
	p := &publication{entry: e, change: &directoryv1.Change{
		EntryId: e.id[:], Kind: kind, Op: directoryv1.Op_OP_PRESENT,
		AttributeSet: m.rules.set.ID(), SchemaVersion: directoryv1.SchemaVersion,
	}}
	if kind == directoryv1.Kind_KIND_USER {
		user := &directoryv1.User{Id: e.id[:], Dn: e.dn, Enabled: e.enabled, Attributes: attributes}
		if m.rules.usesGroups {
			user.Groups = m.groupNames(e)
		}
		p.change.Entry = &directoryv1.Change_User{User: user}
		p.change.References = m.references(attributes)
		return p, p.seal()
	}
	p.chunks = pack(m.membersOf(e), chunks)
	p.change.Entry = &directoryv1.Change_Group{Group: &directoryv1.Group{
		Id: e.id[:], Dn: e.dn, Attributes: attributes, Members: manifest(p.chunks),
	}}
	return p, p.seal()
}

// references resolves the attributes that name other entries (manager).
func (m *mirror) references(attributes []*directoryv1.Attribute) []*directoryv1.Reference {
	var all []*directoryv1.Reference
	for _, a := range attributes {
		if !slices.Contains(m.rules.references, a.GetName()) {
			continue
		}
		r := &directoryv1.Reference{Attribute: a.GetName()}
		for _, v := range a.GetValues() {
			name, err := ldapsource.NormalizeDN(string(v))
			if err != nil {
				continue // names nobody
			}
			if id, ok := m.byName[name]; ok {
				r.EntryIds = append(r.EntryIds, id[:])
			}
		}
		all = append(all, r)
	}
	return all
}

// absent makes the publication of an entry that is gone or out of scope.
func (m *mirror) absent(id ID, e *entry, kind directoryv1.Kind, reason directoryv1.Reason, chunks int) (*publication, error) {
	p := &publication{entry: e, chunks: make([][]byte, chunks), change: &directoryv1.Change{
		EntryId: id[:], Kind: kind, Op: directoryv1.Op_OP_ABSENT, Reason: reason,
		AttributeSet: m.rules.set.ID(), SchemaVersion: directoryv1.SchemaVersion,
	}}
	return p, p.seal()
}

// seal encodes the change; equal states have equal hashes.
func (p *publication) seal() error {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(p.change)
	if err != nil {
		return fmt.Errorf("encode change: %w", err)
	}
	sum := sha256.Sum256(data)
	p.data, p.hash = data, hex.EncodeToString(sum[:hashSize])
	return nil
}

func (p *publication) removal() bool { return p.change.GetOp() == directoryv1.Op_OP_ABSENT }

// groupNames are the names (cn, or the RDN's value) of the groups that hold a
// user directly, sorted.
func (m *mirror) groupNames(u *entry) []string {
	var names []string
	collect := func(id ID) {
		if g := m.at(id); g != nil && g.class.group && !g.flat {
			names = append(names, g.commonName())
		}
	}
	for _, key := range m.keys(u) {
		for id := range m.holders[key] {
			collect(id)
		}
	}
	for _, group := range u.memberOf {
		if id, ok := m.byName[group]; ok {
			collect(id)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (e *entry) commonName() string {
	attributes, err := e.attributes()
	if err == nil {
		for _, a := range attributes {
			if a.GetName() == "cn" {
				return string(a.GetValues()[0])
			}
		}
	}
	return e.dn
}

// membersOf are a group's members as the source's nesting rule says: users alone
// (ignore), users of member groups too (flatten), or users and groups (preserve).
func (m *mirror) membersOf(g *entry) []member {
	found := map[member]struct{}{}
	m.walk(g, map[ID]struct{}{}, found)
	delete(found, member{id: g.id, kind: directoryv1.Kind_KIND_GROUP})
	members := make([]member, 0, len(found))
	for one := range found {
		members = append(members, one)
	}
	slices.SortFunc(members, func(a, b member) int { return cmp.Or(slices.Compare(a.id[:], b.id[:]), cmp.Compare(a.kind, b.kind)) })
	return members
}

type member struct {
	id   ID
	kind directoryv1.Kind
}

func (m *mirror) walk(g *entry, visited map[ID]struct{}, found map[member]struct{}) {
	if _, seen := visited[g.id]; seen {
		return
	}
	visited[g.id] = struct{}{}
	m.eachMember(g, func(e *entry) {
		switch {
		case e.class.user:
			found[member{e.id, directoryv1.Kind_KIND_USER}] = struct{}{}
		case e.class.group && m.rules.groupNesting == nestedPreserve:
			found[member{e.id, directoryv1.Kind_KIND_GROUP}] = struct{}{}
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
	for _, one := range members {
		n := chunkOf(one.id, count)
		chunks[n] = append(append(chunks[n], one.id[:]...), byte(one.kind)) //nolint:gosec // a Kind is small
	}
	return chunks
}

// chunkOf is the chunk in which a member stands.
func chunkOf(id ID, count int) int {
	h := fnv.New64a()
	h.Write(id[:])
	return int(h.Sum64() % uint64(count)) //nolint:gosec // count is 1 to 512
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
