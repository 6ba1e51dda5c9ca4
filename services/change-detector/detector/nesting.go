package detector

import (
	"slices"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// maxNested is how many members are remembered at most while groups are compared.
const maxNested = 1 << 20

// nesting computes the members of groups that are flattened, and remembers them
// while groups are compared: those above a big group have all of its members. It is
// good as long as the mirror does not change.
type nesting struct {
	mirror *mirror
	known  map[ID]*membership
	size   int
}

// membership is the members of one group, or of several that have the same. It is
// shared and must not be changed.
type membership struct {
	members  []member
	chunks   [][]byte                    // the same, packed; nil until asked for
	manifest *directoryv1.MemberManifest // of the chunks
	atLeast  int                         // with which it was packed
}

func newNesting(m *mirror) *nesting { return &nesting{mirror: m, known: map[ID]*membership{}} }

// pack is the members of a group, packed, and what describes them. Neither may be
// changed.
func (n *nesting) pack(g *entry, atLeast int) ([][]byte, *directoryv1.MemberManifest) {
	ms := n.of(g)
	if ms.manifest == nil || ms.atLeast != atLeast {
		ms.chunks, ms.atLeast = pack(ms.members, atLeast), atLeast
		ms.manifest = manifest(ms.chunks)
	}
	return ms.chunks, ms.manifest
}

func (n *nesting) of(g *entry) *membership {
	if n.mirror.rules.flattens() {
		if ms := n.flatten(g, map[ID]bool{}); ms != nil {
			return ms
		}
	}
	return &membership{members: n.mirror.membersOf(g)}
}

// flatten is nil for a group in or above a cycle, whose members depend on where one
// begins.
func (n *nesting) flatten(g *entry, above map[ID]bool) *membership {
	if ms := n.known[g.id]; ms != nil || above[g.id] {
		return ms
	}
	above[g.id] = true
	defer delete(above, g.id)
	own := make([]member, 0, len(g.members))
	var nested []*membership
	n.mirror.eachMember(g, func(e *entry) {
		switch {
		case e.class.user:
			own = append(own, member{e.id, directoryv1.Kind_KIND_USER})
		case e.class.group && !slices.Contains(nested, nil):
			nested = append(nested, n.flatten(e, above))
		}
	})
	if slices.Contains(nested, nil) {
		return nil
	}
	return n.remember(g.id, join(own, nested))
}

// join is everything in the lists.
func join(own []member, nested []*membership) *membership {
	if len(own) == 0 && len(nested) == 1 {
		return nested[0]
	}
	for _, ms := range nested {
		own = append(own, ms.members...)
	}
	slices.SortFunc(own, member.compare)
	return &membership{members: slices.Compact(own)}
}

func (n *nesting) remember(id ID, ms *membership) *membership {
	if n.size += len(ms.members); n.size > maxNested {
		clear(n.known)
		n.size = len(ms.members)
	}
	n.known[id] = ms
	return ms
}
