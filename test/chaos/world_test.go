package chaos

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

const suffix = "dc=example,dc=com"

// world is what the directory holds, by itself and as LDIF: every change is made
// here, and the target must come to hold the same.
type world struct {
	people map[int]*person
	teams  map[int]*team
	names  int // how many there were
}

// person is a user; out of scope, or while somebody else has the name on the target,
// it is in the directory and not on the target.
type person struct {
	rdn                      string // empty: by uid
	uid, family, title, mail string
	out                      bool
}

// team is a group with its members, by number.
type team struct {
	name    string
	members map[int]bool
}

// newWorld makes people and teams; each team has some of the people. The first team
// and the first people may be on the target before, and are adopted; what is adopted
// must not have to lose members, because a first run removes nothing.
func newWorld(r *rand.Rand, people, teams int) *world {
	w := &world{people: map[int]*person{}, teams: map[int]*team{}}
	for range people {
		w.hire()
	}
	for n := range teams {
		t := &team{name: fmt.Sprintf("team%02d", n), members: map[int]bool{}}
		for range 1 + r.IntN(1+people/10) {
			t.members[w.anybody(r)] = true
		}
		w.teams[n] = t
	}
	for n := range accounts {
		w.teams[0].members[n] = true
	}
	return w
}

// hire adds a person and returns the number.
func (w *world) hire() int {
	n := w.names
	w.people[n] = &person{uid: w.name(), family: "Family" + strconv.Itoa(n)}
	return n
}

// name is one that nobody has had.
func (w *world) name() string {
	w.names++
	return fmt.Sprintf("u%05d", w.names)
}

func (w *world) anybody(r *rand.Rand) int { return pick(r, w.people) }
func (w *world) anyTeam(r *rand.Rand) int { return pick(r, w.teams) }

func pick[V any](r *rand.Rand, m map[int]V) int {
	keys := slices.Sorted(maps.Keys(m))
	return keys[r.IntN(len(keys))]
}

// lines are what the target should hold, as state says it.
func (w *world) lines() []string {
	var lines []string
	for _, p := range w.people {
		if !p.out {
			lines = append(lines, userLine(p.uid, true, p.family, p.title, p.mail))
		}
	}
	for _, t := range w.teams {
		var members []string
		for n := range t.members {
			if p := w.people[n]; p != nil && !p.out {
				members = append(members, p.uid)
			}
		}
		lines = append(lines, groupLine(t.name, members))
	}
	slices.Sort(lines)
	return lines
}

func userLine(name string, active bool, family, title, mail string) string {
	return fmt.Sprintf("user %s active=%t family=%s title=%s mail=%s", name, active, family, title, mail)
}

func groupLine(name string, members []string) string {
	slices.Sort(members)
	return "group " + name + ": " + strings.Join(members, " ")
}

func (p *person) dn() string { return cmp.Or(p.rdn, "uid="+p.uid) + ",ou=people," + suffix }
func (t *team) dn() string   { return "cn=" + t.name + ",ou=groups," + suffix }

// ldif is everything, as entries. Every group also holds somebody who is no user,
// because it may not be empty.
func (w *world) ldif() string {
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(w.people)) {
		b.WriteString(w.people[n].entry())
	}
	for _, n := range slices.Sorted(maps.Keys(w.teams)) {
		b.WriteString(w.teamEntry(n))
	}
	return b.String()
}

func (w *world) teamEntry(n int) string {
	var b strings.Builder
	t := w.teams[n]
	fmt.Fprintf(&b, "dn: %s\nobjectClass: groupOfNames\ncn: %s\nmember: cn=admin,%s\n", t.dn(), t.name, suffix)
	for _, m := range slices.Sorted(maps.Keys(t.members)) {
		fmt.Fprintf(&b, "member: %s\n", w.people[m].dn())
	}
	return b.String() + "\n"
}

func (p *person) entry() string {
	return fmt.Sprintf("dn: %s\nobjectClass: inetOrgPerson\nuid: %[2]s\ncn: %[2]s\nsn: %[3]s\n\n", p.dn(), p.uid, p.family)
}

// add hires somebody in the directory.
func (w *world) add() string { return w.people[w.hire()].entry() }

// namesake hires somebody who bears the name of another.
func (w *world) namesake(of int) string {
	n := w.hire()
	p := w.people[n]
	p.rdn, p.uid, p.out = "cn=namesake", w.people[of].uid, true
	return fmt.Sprintf("dn: %s\nobjectClass: inetOrgPerson\nuid: %s\ncn: namesake\nsn: %s\n\n", p.dn(), p.uid, p.family)
}

// retitle changes an attribute.
func (w *world) retitle(n int, title string) string {
	p := w.people[n]
	p.title = title
	return fmt.Sprintf("dn: %s\nchangetype: modify\nreplace: title\ntitle: %s\n\n", p.dn(), title)
}

// rename gives a person a name that nobody had; the server changes the groups.
func (w *world) rename(n int) string {
	p := w.people[n]
	before := p.dn()
	p.uid = w.name()
	return fmt.Sprintf("dn: %s\nchangetype: modrdn\nnewrdn: uid=%s\ndeleteoldrdn: 1\n\n", before, p.uid)
}

func (w *world) join(team, n int) string {
	if w.teams[team].members[n] {
		return ""
	}
	w.teams[team].members[n] = true
	return fmt.Sprintf("dn: %s\nchangetype: modify\nadd: member\nmember: %s\n\n", w.teams[team].dn(), w.people[n].dn())
}

func (w *world) leave(team, n int) string {
	if !w.teams[team].members[n] {
		return ""
	}
	delete(w.teams[team].members, n)
	return fmt.Sprintf("dn: %s\nchangetype: modify\ndelete: member\nmember: %s\n\n", w.teams[team].dn(), w.people[n].dn())
}

// fire deletes a person; the server takes them out of the groups.
func (w *world) fire(n int) string {
	dn := w.people[n].dn()
	delete(w.people, n)
	for _, t := range w.teams {
		delete(t.members, n)
	}
	return fmt.Sprintf("dn: %s\nchangetype: delete\n\n", dn)
}

// found makes a new team.
func (w *world) found(name string, members ...int) string {
	t := &team{name: name, members: map[int]bool{}}
	for _, n := range members {
		t.members[n] = true
	}
	n := len(w.teams)
	w.teams[n] = t
	return w.teamEntry(n)
}

func (w *world) renameTeam(n int, name string) string {
	t := w.teams[n]
	before := t.dn()
	t.name = name
	return fmt.Sprintf("dn: %s\nchangetype: modrdn\nnewrdn: cn=%s\ndeleteoldrdn: 1\n\n", before, name)
}

func (w *world) disband(n int) string {
	dn := w.teams[n].dn()
	delete(w.teams, n)
	return fmt.Sprintf("dn: %s\nchangetype: delete\n\n", dn)
}

// succeed deletes a person, and a namesake is there instead.
func (w *world) succeed(n int) string {
	name := w.people[n].uid
	text := w.fire(n)
	for _, p := range w.people {
		p.out = p.out && p.uid != name
	}
	return text
}
