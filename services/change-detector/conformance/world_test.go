package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

type kind int

const (
	unit kind = iota
	user
	group
)

// node is an entry of the directory, by its place in the tree.
type node struct {
	kind   kind
	name   string // value of the relative name
	parent *node  // nil for what stands below the suffix
	pinned bool   // stays where it is
	off    bool
}

// world is what a history knows of the directory: which entries there are and what
// they are called. What they hold is the server's business.
type world struct {
	*place
	random *rand.Rand
	nodes  []*node
	next   int
	people, groups, away,
	staff *node
	fixed bool // units stay where they are for now
}

const (
	units  = 3
	crowd  = 40 // users at the start
	circle = 6  // groups at the start
	pinned = 5  // users who stay in the scope group
)

// newWorld makes the tree: people and groups are watched, away is not.
func newWorld(p *place, random *rand.Rand) (w *world, ldif string) {
	w = &world{place: p, random: random}
	w.people, w.groups, w.away = &node{name: "people", pinned: true}, &node{name: "groups", pinned: true}, &node{name: "away", pinned: true}
	ldif = add(w.dnOf(w.away), []attribute{{"objectClass", []string{"organizationalUnit"}}})
	for range units {
		ldif += w.add(unit, w.people)
	}
	for n := range crowd {
		if n >= pinned {
			ldif += w.add(user, w.container())
			continue
		}
		ldif += w.add(user, w.people)
		w.nodes[len(w.nodes)-1].pinned = true
	}
	return w, ldif
}

func (w *world) dnOf(n *node) string {
	name := w.rdnOf(n)
	if n.parent == nil {
		return name + "," + w.suffix
	}
	return name + "," + w.dnOf(n.parent)
}

func (w *world) rdnOf(n *node) string {
	switch n.kind {
	case user:
		return rdn(w.userRDN, n.name)
	case group:
		return rdn("cn", n.name)
	default:
		return rdn("ou", n.name)
	}
}

// fresh is a name that nobody had, now and then one that needs escaping.
func (w *world) fresh(k kind) string {
	w.next++
	name := fmt.Sprintf("%c%d", "oug"[k], w.next)
	if w.random.IntN(8) == 0 {
		name += w.odd
	}
	return name
}

// add makes an entry with the least that it needs.
func (w *world) add(k kind, parent *node) string {
	n := &node{kind: k, name: w.fresh(k), parent: parent}
	w.nodes = append(w.nodes, n)
	account := fmt.Sprintf("%c%d", "oug"[k], w.next)
	switch k {
	case user:
		return add(w.dnOf(n), w.user(account))
	case group:
		return add(w.dnOf(n), w.group(account))
	default:
		return add(w.dnOf(n), []attribute{{"objectClass", []string{"organizationalUnit"}}})
	}
}

// pick is some entry of these kinds for which ok says yes; nil when there is none.
func (w *world) pick(ok func(*node) bool, kinds ...kind) *node {
	var some []*node
	for _, n := range w.nodes {
		if slices.Contains(kinds, n.kind) && (ok == nil || ok(n)) {
			some = append(some, n)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return some[w.random.IntN(len(some))]
}

func loose(n *node) bool { return !n.pinned }

// container is where a user may stand: mostly inside the base.
func (w *world) container() *node {
	switch w.random.IntN(6) {
	case 0:
		return w.away
	case 1, 2:
		return w.people
	default:
		if n := w.pick(nil, unit); n != nil {
			return n
		}
		return w.people
	}
}

// step is one operation: what it does in LDIF, and whether the server may find that
// it was done already. It is empty where there is nothing to do it to.
func (w *world) step() (ldif string, idempotent bool) {
	switch w.random.IntN(14) {
	case 0:
		return w.add(user, w.container()), false
	case 1:
		return w.add(group, w.groups), false
	case 2, 3, 4:
		return w.edit(), false
	case 5:
		return w.rename(), false
	case 6, 7:
		return w.move(), false
	case 8, 9:
		return w.membership("add"), true
	case 10:
		return w.membership("delete"), true
	case 11:
		return w.toggle(), false
	case 12:
		return w.delete(), false
	default:
		return w.moveUnit(), false
	}
}

// edit gives an attribute of a user another value, or none.
func (w *world) edit() string {
	n := w.pick(nil, user)
	if n == nil {
		return ""
	}
	a := attribute{name: w.editable[w.random.IntN(len(w.editable))]}
	if w.random.IntN(4) > 0 {
		a.values = []string{fmt.Sprintf("value %d", w.random.IntN(1000))}
	}
	return modify(w.dnOf(n), "replace", a)
}

func (w *world) rename() string {
	n := w.pick(loose, user, group)
	if n == nil {
		return ""
	}
	before := w.dnOf(n)
	n.name = w.fresh(n.kind)
	return rename(before, w.rdnOf(n), w.dnOf(n.parent))
}

// move takes a user or a group elsewhere, out of what is watched or back.
func (w *world) move() string {
	n := w.pick(loose, user, group)
	if n == nil {
		return ""
	}
	to := w.container()
	if n.kind == group {
		to = []*node{w.groups, w.groups, w.away}[w.random.IntN(3)]
	}
	if to == n.parent {
		return ""
	}
	before := w.dnOf(n)
	n.parent = to
	return rename(before, w.rdnOf(n), w.dnOf(to))
}

// moveUnit renames a container with all that is in it, or takes it out of what is
// watched, or back.
func (w *world) moveUnit() string {
	if w.fixed {
		return ""
	}
	n := w.pick(nil, unit)
	before := w.dnOf(n)
	if w.rootedUnits || w.random.IntN(2) == 0 {
		n.name = w.fresh(unit)
	} else {
		n.parent = []*node{w.people, w.people, w.away}[w.random.IntN(3)]
	}
	if w.dnOf(n) == before {
		return ""
	}
	return rename(before, w.rdnOf(n), w.dnOf(n.parent))
}

// membership lets somebody join or leave a group: a user or a group, itself apart.
func (w *world) membership(how string) string {
	g := w.pick(nil, group)
	if g == nil {
		return ""
	}
	m := w.pick(func(n *node) bool { return n != g && !(g == w.staff && n.pinned) }, user, user, group)
	if m == nil {
		return ""
	}
	return modify(w.dnOf(g), how, attribute{"member", []string{w.dnOf(m)}})
}

func (w *world) toggle() string {
	n := w.pick(nil, user)
	if n == nil {
		return ""
	}
	n.off = !n.off
	return modify(w.dnOf(n), "replace", w.enabled(!n.off))
}

func (w *world) delete() string {
	n := w.pick(loose, user, user, group)
	if n == nil {
		return ""
	}
	w.nodes = slices.DeleteFunc(w.nodes, func(other *node) bool { return other == n })
	return remove(w.dnOf(n))
}

// gather makes the groups, with members: the pinned users are in the first, which
// stays.
func (w *world) gather() string {
	ldif := ""
	for n := range circle {
		ldif += w.add(group, w.groups)
		if n == 0 {
			w.staff = w.nodes[len(w.nodes)-1]
			w.staff.pinned = true
		}
	}
	for _, n := range w.nodes {
		if n.kind == user && n.pinned {
			ldif += modify(w.dnOf(w.staff), "add", attribute{"member", []string{w.dnOf(n)}})
		}
	}
	return ldif
}
