//go:build cluster

package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

const suffix = "dc=example,dc=com"

// world is what the directory holds, and everything that it ever let go. It is safe for
// concurrent use.
type world struct {
	mu     sync.Mutex
	r      *rand.Rand
	people map[int]*person
	teams  map[int]*team
	number int    // of the last person or team
	prefix string // of every title at the target
	// named and called are the people and teams by every name that they ever had. No
	// name is given twice.
	named  map[string]int
	called map[string]int
	// What was taken away, ever, each before it was in the directory: a removal at the
	// target of anything else is harm.
	deleted, disabled, disbanded map[int]bool
	left                         map[[2]int]bool // team and person
}

// person is a user.
type person struct {
	uid, family, title, mail string
	disabled                 bool
}

// team is a group with its members, by number.
type team struct {
	name    string
	members map[int]bool
}

// newWorld makes people and teams; each team has some of the people.
func newWorld(r *rand.Rand, people, teams int) *world {
	w := &world{
		r: r, people: map[int]*person{}, teams: map[int]*team{}, named: map[string]int{}, called: map[string]int{},
		deleted: map[int]bool{}, disabled: map[int]bool{}, disbanded: map[int]bool{}, left: map[[2]int]bool{},
	}
	for range people {
		w.hire()
	}
	for range teams {
		w.found()
	}
	return w
}

func (p *person) dn() string { return "uid=" + p.uid + ",ou=people," + suffix }
func (t *team) dn() string   { return "cn=" + t.name + ",ou=groups," + suffix }

// anybody and anyTeam choose by chance.
func (w *world) anybody() int { return pick(w.r, w.people) }
func (w *world) anyTeam() int { return pick(w.r, w.teams) }

func pick[V any](r *rand.Rand, m map[int]V) int {
	keys := slices.Sorted(maps.Keys(m))
	return keys[r.IntN(len(keys))]
}

// ldif is everything, as entries.
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

func (p *person) entry() string {
	return fmt.Sprintf("dn: %s\nobjectClass: inetOrgPerson\nuid: %[2]s\ncn: %[2]s\nsn: %[3]s\n\n", p.dn(), p.uid, p.family)
}

// teamEntry is a group; it also holds one who is no user, because it may not be empty.
func (w *world) teamEntry(n int) string {
	var b strings.Builder
	t := w.teams[n]
	fmt.Fprintf(&b, "dn: %s\nobjectClass: groupOfNames\ncn: %s\nmember: cn=admin,%s\n", t.dn(), t.name, suffix)
	for _, m := range slices.Sorted(maps.Keys(t.members)) {
		fmt.Fprintf(&b, "member: %s\n", w.people[m].dn())
	}
	return b.String() + "\n"
}

// change makes one random change and says it as LDIF; empty where it changes nothing.
func (w *world) change() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, t := w.anybody(), w.anyTeam()
	switch choice := w.r.IntN(100); {
	case choice < 8:
		return w.people[w.hire()].entry()
	case choice < 30:
		return w.set(n, "title", &w.people[n].title, fmt.Sprintf("Title %d", w.r.IntN(1000)))
	case choice < 38:
		return w.set(n, "mail", &w.people[n].mail, fmt.Sprintf("m%d@example.com", w.r.IntN(1_000_000)))
	case choice < 46:
		return w.rename(n)
	case choice < 54:
		return w.disable(n)
	case choice < 60:
		return w.enable(n)
	case choice < 64:
		return w.fire(n)
	case choice < 80:
		return w.join(t, n)
	case choice < 92:
		return w.leave(t, n)
	case choice < 96:
		return w.renameTeam(t)
	case choice < 98:
		return w.teamEntry(w.found())
	default:
		return w.disband(t)
	}
}

// growth is change without anything that takes something away or makes an account
// active: what a first run does not hold.
func (w *world) growth() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, t := w.anybody(), w.anyTeam()
	switch w.r.IntN(6) {
	case 0:
		return w.people[w.hire()].entry()
	case 1:
		return w.set(n, "title", &w.people[n].title, fmt.Sprintf("Title %d", w.r.IntN(1000)))
	case 2:
		return w.rename(n)
	case 3:
		return w.join(t, n)
	case 4:
		return w.renameTeam(t)
	default:
		return w.teamEntry(w.found())
	}
}

// update is change of what is there, without anything that comes or goes.
func (w *world) update() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, t := w.anybody(), w.anyTeam()
	switch w.r.IntN(6) {
	case 0:
		return w.set(n, "title", &w.people[n].title, fmt.Sprintf("Title %d", w.r.IntN(1000)))
	case 1:
		return w.rename(n)
	case 2:
		return w.disable(n)
	case 3:
		return w.enable(n)
	case 4:
		return w.join(t, n)
	default:
		return w.leave(t, n)
	}
}

// renames gives so many people and teams other names.
func (w *world) renames(people, teams int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for range people {
		b.WriteString(w.rename(w.anybody()))
	}
	for range teams {
		b.WriteString(w.renameTeam(w.anyTeam()))
	}
	return b.String()
}

// rewrite gives everybody another name and another title.
func (w *world) rewrite() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(w.people)) {
		b.WriteString(w.set(n, "title", &w.people[n].title, fmt.Sprintf("Title %d of %d", w.r.IntN(1000), n)))
		b.WriteString(w.rename(n))
	}
	return b.String()
}

// away disables so many people and takes a member out of each team; back makes it as it
// was.
func (w *world) away(people int) (change string, back func() string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	var undo []func() string
	for _, n := range slices.Sorted(maps.Keys(w.people))[:people] {
		if !w.people[n].disabled {
			b.WriteString(w.disable(n))
			undo = append(undo, func() string { return w.enable(n) })
		}
	}
	for _, t := range slices.Sorted(maps.Keys(w.teams)) {
		if members := slices.Sorted(maps.Keys(w.teams[t].members)); len(members) > 0 {
			b.WriteString(w.leave(t, members[0]))
			undo = append(undo, func() string { return w.join(t, members[0]) })
		}
	}
	return b.String(), func() string {
		w.mu.Lock()
		defer w.mu.Unlock()
		var b strings.Builder
		for _, one := range undo {
			b.WriteString(one())
		}
		return b.String()
	}
}

// hire adds a person.
func (w *world) hire() int {
	w.number++
	n := w.number
	w.people[n] = &person{family: fmt.Sprintf("Family%d", n)}
	w.name(n)
	return n
}

// name gives a person a name that nobody had.
func (w *world) name(n int) {
	uid := fmt.Sprintf("u%05d", len(w.named))
	w.named[uid], w.people[n].uid = n, uid
}

// call gives a team a name that no team had.
func (w *world) call(n int) {
	name := fmt.Sprintf("team%04d", len(w.called))
	w.called[name], w.teams[n].name = n, name
}

// found makes a team of some people.
func (w *world) found() int {
	w.number++
	n := w.number
	w.teams[n] = &team{members: map[int]bool{}}
	w.call(n)
	for range 1 + w.r.IntN(1+len(w.people)/8) {
		w.teams[n].members[w.anybody()] = true
	}
	return n
}

func modify(dn, operation, attribute, value string) string {
	return fmt.Sprintf("dn: %s\nchangetype: modify\n%s: %[3]s\n%[3]s: %[4]s\n\n", dn, operation, attribute, value)
}

func (w *world) set(n int, attribute string, field *string, value string) string {
	*field = value
	return modify(w.people[n].dn(), "replace", attribute, value)
}

// rename gives a person another name; the server changes the groups.
func (w *world) rename(n int) string {
	before := w.people[n].dn()
	w.name(n)
	return fmt.Sprintf("dn: %s\nchangetype: modrdn\nnewrdn: uid=%s\ndeleteoldrdn: 1\n\n", before, w.people[n].uid)
}

func (w *world) disable(n int) string {
	w.people[n].disabled, w.disabled[n] = true, true
	return modify(w.people[n].dn(), "replace", "employeeType", "left")
}

func (w *world) enable(n int) string {
	w.people[n].disabled = false
	return modify(w.people[n].dn(), "replace", "employeeType", "staff")
}

// fire deletes a person; the server takes them out of the groups.
func (w *world) fire(n int) string {
	if len(w.people) < 10 {
		return ""
	}
	dn := w.people[n].dn()
	delete(w.people, n)
	w.deleted[n] = true
	for _, t := range w.teams {
		delete(t.members, n)
	}
	return fmt.Sprintf("dn: %s\nchangetype: delete\n\n", dn)
}

func (w *world) join(t, n int) string {
	if w.teams[t].members[n] {
		return ""
	}
	w.teams[t].members[n] = true
	return modify(w.teams[t].dn(), "add", "member", w.people[n].dn())
}

func (w *world) leave(t, n int) string {
	if !w.teams[t].members[n] {
		return ""
	}
	delete(w.teams[t].members, n)
	w.left[[2]int{t, n}] = true
	return modify(w.teams[t].dn(), "delete", "member", w.people[n].dn())
}

func (w *world) renameTeam(n int) string {
	before := w.teams[n].dn()
	w.call(n)
	return fmt.Sprintf("dn: %s\nchangetype: modrdn\nnewrdn: cn=%s\ndeleteoldrdn: 1\n\n", before, w.teams[n].name)
}

func (w *world) disband(n int) string {
	if len(w.teams) < 5 {
		return ""
	}
	dn := w.teams[n].dn()
	delete(w.teams, n)
	w.disbanded[n] = true
	return fmt.Sprintf("dn: %s\nchangetype: delete\n\n", dn)
}

// lines are what the target should hold, as target.lines says it. A person who is
// disabled and never was on the target need not be there.
func (w *world) lines(present map[string]bool) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	on := func(p *person) bool { return p != nil && (!p.disabled || present[p.uid]) }
	for _, p := range w.people {
		if on(p) {
			title := p.title
			if title != "" {
				title = w.prefix + title
			}
			lines = append(lines, userLine(p.uid, !p.disabled, p.family, title, p.mail))
		}
	}
	for _, t := range w.teams {
		var members []string
		for n := range t.members {
			if p := w.people[n]; on(p) {
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

// entitle says what the mapping writes before each title from now on.
func (w *world) entitle(prefix string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.prefix = prefix
}

// mayDelete, mayDisable, mayDisband and mayLeave say whether the directory ever gave a
// cause for a removal at the target.
func (w *world) mayDelete(user string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, known := w.named[user]
	return known && w.deleted[n]
}

func (w *world) mayDisable(user string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, known := w.named[user]
	return known && (w.disabled[n] || w.deleted[n])
}

func (w *world) mayDisband(group string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, known := w.called[group]
	return known && w.disbanded[n]
}

func (w *world) mayLeave(group, user string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, known := w.called[group]
	n, named := w.named[user]
	return known && named && (w.left[[2]int{t, n}] || w.deleted[n])
}
