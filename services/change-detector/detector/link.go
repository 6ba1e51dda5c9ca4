package detector

import (
	"slices"
	"time"
)

// Link takes over which values the member attribute of a group gained and lost.
func (s *session) Link(id ID, added, removed []string) { s.mirror.Link(id, added, removed) }

// Link edits the members of a known group, as its values in the directory were
// edited. A group that is not known is read, and so is one that lost a member which
// it does not have here: that may stand in it under another name.
func (m *mirror) Link(id ID, added, removed []string) {
	g := m.entries[id]
	if g == nil || !m.keepsMembers(g) {
		m.reread[id] = struct{}{}
		return
	}
	fresh := *g
	fresh.detected = time.Now().UnixNano()
	have := make(map[string]struct{}, len(g.members))
	for _, key := range g.members {
		have[key] = struct{}{}
	}
	for _, key := range m.rules.memberKeys(values(removed), nil) {
		if _, has := have[key]; !has {
			m.reread[id] = struct{}{}
		}
		delete(have, key)
	}
	fresh.own().members = slices.DeleteFunc(slices.Clone(g.members), func(key string) bool {
		_, stays := have[key]
		return !stays
	})
	for _, key := range m.rules.memberKeys(values(added), nil) {
		if _, has := have[key]; !has {
			have[key] = struct{}{}
			fresh.members = append(fresh.members, key)
		}
	}
	if !slices.Equal(fresh.members, g.members) {
		m.replace(g, &fresh)
	}
}

// keepsMembers says whether the members of an entry are in the mirror.
func (m *mirror) keepsMembers(e *entry) bool { return e.class.group || m.rules.scopes(e.name) }

func values(texts []string) [][]byte {
	out := make([][]byte, len(texts))
	for i, text := range texts {
		out[i] = []byte(text)
	}
	return out
}
