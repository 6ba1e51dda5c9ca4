package detector

import (
	"maps"
	"time"
)

// maxFormer is how many former names are kept between two full reads.
const maxFormer = 10_000

// formerHolders are the entries that held a name whose entry went away or was renamed,
// by that name. What was noted before a full read began is forgotten when it ends.
type formerHolders struct {
	recent  idIndex // since the last full read began
	earlier idIndex
}

func newFormerHolders() formerHolders { return formerHolders{recent: idIndex{}, earlier: idIndex{}} }

func (f *formerHolders) add(name string, id ID) { f.recent.add(name, id) }

// take marks those who held a name, and forgets them.
func (f *formerHolders) take(name string, in map[ID]struct{}) {
	for _, index := range []idIndex{f.recent, f.earlier} {
		index[name].mark(in)
		delete(index, name)
	}
}

// begin notes that a full read begins; one that began before and did not end has not
// brought what was noted meanwhile.
func (f *formerHolders) begin() {
	for name, ids := range f.recent {
		for id := range ids.all() {
			f.earlier.add(name, id)
		}
	}
	f.recent = idIndex{}
}

// complete forgets what was noted before the full read began, which brought what the
// holders have now.
func (f *formerHolders) complete() { f.earlier = idIndex{} }

func (f *formerHolders) len() int { return len(f.recent) + len(f.earlier) }

// hadName remembers that an entry held a name as a member, as a group or as a reference.
// Where there are too many names, they are forgotten and whoever held them is read
// again in a while: then the server's word is final, as after a rename.
func (m *mirror) hadName(name string, id ID) {
	m.former.add(name, id)
	if m.former.len() <= maxFormer {
		return
	}
	holders := map[ID]struct{}{}
	for _, index := range []idIndex{m.former.recent, m.former.earlier} {
		for ids := range maps.Values(index) {
			ids.mark(holders)
		}
	}
	at := time.Now().Add(renameLag)
	for holder := range holders {
		if _, due := m.suspects[holder]; !due {
			m.suspects[holder] = at
		}
	}
	m.former = newFormerHolders()
}
