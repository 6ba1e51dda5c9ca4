package detector

import (
	"slices"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// maxMoves bounds how many renames of one entry are followed until its name is read
// anew.
const maxMoves = 16

// referred resolves the name of an entry that a user refers to; nil is nobody. Who was
// renamed since the name was read is found by the former one: some servers rewrite it
// without a word, and nobody else has it.
func (m *mirror) referred(name string) *entry {
	for range maxMoves {
		if e := m.byName[name]; e != nil {
			return e
		}
		next, moved := m.moved[name]
		if !moved {
			return nil
		}
		name = next
	}
	return nil
}

// referTo remembers whom an entry names in the attributes that are mapped as
// references: what old said is forgotten, what fresh says is added. Either may be nil.
func (m *mirror) referTo(old, fresh *entry) {
	if len(m.rules.references) == 0 || old != nil && fresh != nil && old.packed() == fresh.packed() {
		return
	}
	for _, name := range m.refersTo(old) {
		m.referrers.remove(name, old.id)
	}
	for _, name := range m.refersTo(fresh) {
		m.referrers.add(name, fresh.id)
	}
}

// refersTo are the names in an entry's references, normalised. What cannot be read
// is reported where the entry is published.
func (m *mirror) refersTo(e *entry) (names []string) {
	if e == nil {
		return nil
	}
	attributes, err := e.attributes()
	if err != nil {
		return nil
	}
	for _, a := range attributes {
		if !slices.Contains(m.rules.references, a.GetName()) {
			continue
		}
		for _, v := range a.GetValues() {
			if name, err := ldapsource.NormalizeDN(string(v)); err == nil {
				names = append(names, name)
			}
		}
	}
	return names
}

// touchReferrers looks again at those who refer to a name, because an entry got or
// lost it.
func (m *mirror) touchReferrers(name string) { m.referrers[name].mark(m.dirty) }
