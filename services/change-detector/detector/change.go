package detector

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/held"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

const (
	// hashSize is how much of a SHA-256 is kept.
	hashSize = 16
	// signSize is what most users take when they are hashed.
	signSize = 1024
)

// digest is the hash of what is published of an entry.
type digest [hashSize]byte

func (d digest) String() string { return hex.EncodeToString(d[:]) }

// parseDigest reads a digest in hex; of a text that is none, one that no entry has.
func parseDigest(text string) (d digest) {
	if n, err := hex.Decode(d[:], []byte(text)); err != nil || n != hashSize {
		return digest{}
	}
	return d
}

var deterministic = proto.MarshalOptions{Deterministic: true}

// publication is what the stream should hold for one entry.
type publication struct {
	change *directoryv1.Change
	data   []byte
	hash   digest
	// chunks are a group's members, by chunk number; nil for a user.
	chunks [][]byte
	entry  *entry // nil when the entry is gone
	// detected is when the mirror saw that it has to be published; see mirror.detected.
	detected int64
	fields   fields // of what is published; none for a removal
	// lost are the fields that the entry has no longer, though they are published.
	lost []string
	// left are the members that the group has no longer, though they are published
	// and stay.
	left []member
	// following are the members that leave it with their own entry.
	following []member
	// why is why a removal is held whatever the limits say.
	why string
	// unasked says that the server was not asked whether the entry is gone.
	unasked bool
	// replaced says that another entry has the name of one that is gone.
	replaced bool
	// approval names the approval of what it takes away; empty where nobody was
	// asked.
	approval string
}

// key names the entry in everything that is kept by entry.
func (p *publication) key() held.Key {
	return held.Key{Kind: p.change.GetKind(), ID: [directoryv1.IDSize]byte(p.change.GetEntryId())}
}

// chunkHash is the hash of chunk n; empty for an empty one.
func (p *publication) chunkHash(n int) []byte {
	if hashes := p.change.GetGroup().GetMembers().GetChunkHashes(); n < len(hashes) {
		return hashes[n]
	}
	return nil
}

// id is the entry's id.
func (p *publication) id() ID { return ID(p.change.GetEntryId()) }

// present makes the publication of an entry that is in scope.
func (m *mirror) present(e *entry, kind directoryv1.Kind, before *published) (*publication, error) {
	p, err := m.outline(e, kind, before, newNesting(m))
	if err != nil {
		return nil, err
	}
	return p, p.complete()
}

// outline is the publication of an entry that is in scope without the attributes:
// all that it takes to tell whether the entry is what the stream holds, for a
// hundred thousand of which nearly all are. before is what the stream holds of it
// now: a group never gets fewer chunks than it has, and a user of whom nobody can say
// whether it is enabled stays what it is.
func (m *mirror) outline(e *entry, kind directoryv1.Kind, before *published, nested *nesting) (*publication, error) {
	p := &publication{entry: e, detected: m.detected(e), change: &directoryv1.Change{
		EntryId: e.id[:], Kind: kind, Op: directoryv1.Op_OP_PRESENT,
		AttributeSet: m.rules.setID, SchemaVersion: directoryv1.SchemaVersion,
	}}
	if kind == directoryv1.Kind_KIND_USER {
		user := &directoryv1.User{Id: e.id[:], Dn: e.dn(), Enabled: e.enabled}
		if e.broken != "" {
			user.Enabled = before.has(directoryv1.FieldEnabled)
		}
		if m.rules.usesGroups {
			user.Groups = m.groupNames(e)
		}
		p.change.Entry = &directoryv1.Change_User{User: user}
		if err := m.refer(p); err != nil {
			return nil, err
		}
		return p, p.sign(e.packed())
	}
	group := &directoryv1.Group{Id: e.id[:], Dn: e.dn()}
	p.chunks, group.Members = nested.pack(e, before.chunks())
	p.change.Entry = &directoryv1.Change_Group{Group: group}
	return p, p.sign(e.packed())
}

// refer adds the references of a user, where a mapping asks for any.
func (m *mirror) refer(p *publication) error {
	if len(m.rules.references) == 0 {
		return nil
	}
	attributes, err := p.entry.attributes()
	p.change.References = m.references(attributes)
	return err
}

// complete adds what an outline leaves out.
func (p *publication) complete() error {
	attributes, err := p.entry.attributes()
	if err != nil {
		return err
	}
	if user := p.change.GetUser(); user != nil {
		user.Attributes = attributes
	} else {
		p.change.GetGroup().Attributes = attributes
	}
	return p.encode()
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
			if e := m.referred(name); e != nil {
				r.EntryIds = append(r.EntryIds, e.id[:])
			}
		}
		all = append(all, r)
	}
	return all
}

// absent makes the publication of an entry that is gone or out of scope.
func (m *mirror) absent(id ID, e *entry, kind directoryv1.Kind, reason directoryv1.Reason, chunks int) (*publication, error) {
	p := &publication{entry: e, detected: m.detected(e), chunks: make([][]byte, chunks), change: &directoryv1.Change{
		EntryId: id[:], Kind: kind, Op: directoryv1.Op_OP_ABSENT, Reason: reason,
		AttributeSet: m.rules.setID, SchemaVersion: directoryv1.SchemaVersion,
	}}
	return p, p.seal()
}

// seal signs and encodes a change that is complete.
func (p *publication) seal() error {
	user, group := p.change.GetUser(), p.change.GetGroup()
	attributes := append(user.GetAttributes(), group.GetAttributes()...)
	packed, err := proto.Marshal(&directoryv1.User{Attributes: attributes})
	if err != nil {
		return fmt.Errorf("pack entry: %w", err)
	}
	if user != nil {
		user.Attributes = nil
	}
	if group != nil {
		group.Attributes = nil
	}
	if err := p.sign(string(packed)); err != nil {
		return err
	}
	if user != nil {
		user.Attributes = attributes
	}
	if group != nil {
		group.Attributes = attributes
	}
	return p.encode()
}

// sign hashes a change that is without its attributes together with those, packed;
// equal states have equal hashes.
func (p *publication) sign(packed string) error {
	data, err := deterministic.MarshalAppend(make([]byte, 0, signSize), p.change)
	if err != nil {
		return fmt.Errorf("encode change: %w", err)
	}
	sum := sha256.Sum256(append(data, packed...))
	p.hash = digest(sum[:hashSize])
	return nil
}

func (p *publication) encode() error {
	data, err := deterministic.Marshal(p.change)
	if err != nil {
		return fmt.Errorf("encode change: %w", err)
	}
	p.data = data
	return nil
}

func (p *publication) removal() bool { return p.change.GetOp() == directoryv1.Op_OP_ABSENT }

// groupNames are the names (cn, or the RDN's value) of the groups that hold a
// user directly, sorted.
func (m *mirror) groupNames(u *entry) []string {
	var names []string
	collect := func(g *entry) {
		if g.class.group && !g.flat {
			names = append(names, g.commonName())
		}
	}
	for _, key := range m.keys(u) {
		for id := range m.holders[key].all() {
			if g := m.at(id); g != nil {
				collect(g)
			}
		}
	}
	for _, group := range u.memberOf {
		if g := m.byName[group]; g != nil {
			collect(g)
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
	return ldapsource.RDNValue(e.dn())
}
