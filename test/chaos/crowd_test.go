package chaos

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// crowd is a world whose changes are published without a directory. Who was deleted
// and which team was disbanded is remembered, because it may come back.
type crowd struct {
	*world

	gone      map[int]*person
	disbanded map[int]*team
}

// entry names a person or a team.
type entry struct {
	kind directoryv1.Kind
	n    int
}

func user(n int) entry  { return entry{directoryv1.Kind_KIND_USER, n} }
func group(n int) entry { return entry{directoryv1.Kind_KIND_GROUP, teamBase + n} }

// teamBase is the number of the first team's entry id.
const teamBase = 1_000_000

func id(n int) []byte { return fmt.Appendf(nil, "%016d", n) }

func newCrowd(r *rand.Rand, people, teams int) *crowd {
	return &crowd{world: newWorld(r, people, teams), gone: map[int]*person{}, disbanded: map[int]*team{}}
}

// all is everything there ever was.
func (c *crowd) all() []entry {
	var all []entry
	for _, m := range []map[int]*person{c.people, c.gone} {
		for n := range m {
			all = append(all, user(n))
		}
	}
	for _, m := range []map[int]*team{c.teams, c.disbanded} {
		for n := range m {
			all = append(all, group(n))
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return a.n - b.n })
	return all
}

func (c *crowd) anything(r *rand.Rand) entry {
	all := c.all()
	return all[r.IntN(len(all))]
}

// protected is who was adopted and is not deleted, so that it can be told in the
// end whether adoption kept what nobody mapped.
func protected(n int) bool { return n < 3 }

// event lets something happen and says which entries it changed.
func (c *crowd) event(r *rand.Rand) []entry {
	n, t := c.anybody(r), c.anyTeam(r)
	switch choice := r.IntN(100); {
	case choice < 4:
		return []entry{user(c.hire())}
	case choice < 30:
		c.retitle(n, fmt.Sprintf("Title %d", r.IntN(1000)))
	case choice < 38:
		c.people[n].mail = []string{"", c.people[n].uid + "@example.com", fmt.Sprintf("m%d@example.com", r.IntN(1_000_000))}[r.IntN(3)]
	case choice < 48:
		c.rename(n)
	case choice < 50:
		return c.inherit(n, c.anybody(r))
	case choice < 66:
		c.join(t, n)
		return []entry{group(t)}
	case choice < 78:
		c.leave(t, n)
		return []entry{group(t)}
	case choice < 83:
		c.people[n].out = !c.people[n].out && !protected(n)
	case choice < 88:
		return c.fireFor(n)
	case choice < 92:
		return c.comeBack(r)
	case choice < 94:
		return c.formTeam(r)
	case choice < 97:
		c.teams[t].name = "team" + c.name()
		return []entry{group(t)}
	case choice < 99:
		return c.disbandFor(t)
	default:
		return c.replace(n)
	}
	return []entry{user(n)}
}

// fireFor deletes a person, and takes them out of their teams as a server does.
func (c *crowd) fireFor(n int) []entry {
	if protected(n) {
		return nil
	}
	changed := []entry{user(n)}
	for t, team := range c.teams {
		if team.members[n] {
			changed = append(changed, group(t))
		}
	}
	c.gone[n] = c.people[n]
	c.fire(n)
	return changed
}

// comeBack lets somebody return under the same entry id, or a team.
func (c *crowd) comeBack(r *rand.Rand) []entry {
	if len(c.disbanded) > 0 && r.IntN(4) == 0 {
		t := pick(r, c.disbanded)
		c.teams[t] = c.disbanded[t]
		delete(c.disbanded, t)
		return []entry{group(t)}
	}
	if len(c.gone) == 0 {
		return nil
	}
	n := pick(r, c.gone)
	c.people[n] = c.gone[n]
	c.people[n].uid = c.name()
	delete(c.gone, n)
	return []entry{user(n)}
}

func (c *crowd) formTeam(r *rand.Rand) []entry {
	n := len(c.teams) + len(c.disbanded)
	c.teams[n] = &team{name: "team" + c.name(), members: map[int]bool{c.anybody(r): true, c.anybody(r): true}}
	return []entry{group(n)}
}

func (c *crowd) disbandFor(t int) []entry {
	if t == 0 || len(c.teams) < 5 {
		return nil
	}
	c.disbanded[t] = c.teams[t]
	delete(c.teams, t)
	return []entry{group(t)}
}

// replace deletes a person, and somebody new gets the name.
func (c *crowd) replace(n int) []entry {
	changed := c.fireFor(n)
	if changed == nil {
		return nil
	}
	successor := c.hire()
	c.people[successor].uid = c.gone[n].uid
	return append(changed, user(successor))
}

// inherit gives a person the name that another one gives up at the same time.
func (c *crowd) inherit(giver, taker int) []entry {
	if giver == taker {
		return nil
	}
	name := c.people[giver].uid
	c.rename(giver)
	c.people[taker].uid = name
	return []entry{user(giver), user(taker)}
}

// change is the entry as the detector would publish it now.
func (c *crowd) change(e entry) (*directoryv1.Change, []byte) {
	change := &directoryv1.Change{EntryId: id(e.n), Kind: e.kind, SchemaVersion: directoryv1.SchemaVersion}
	p, t := c.people[e.n], c.teams[e.n-teamBase]
	switch {
	case e.kind == directoryv1.Kind_KIND_USER && p != nil && !p.out:
		change.Op = directoryv1.Op_OP_PRESENT
		change.Entry = &directoryv1.Change_User{User: &directoryv1.User{Id: id(e.n), Dn: p.dn(), Enabled: true, Attributes: attributes("mail", p.mail, "sn", p.family, "title", p.title, "uid", p.uid)}}
		return change, nil
	case e.kind == directoryv1.Kind_KIND_GROUP && t != nil:
		packed := t.packed()
		change.Op = directoryv1.Op_OP_PRESENT
		change.Entry = &directoryv1.Change_Group{Group: &directoryv1.Group{Id: id(e.n), Dn: t.dn(), Members: manifest(packed, len(t.members)), Attributes: attributes("cn", t.name)}}
		return change, packed
	}
	change.Op, change.Reason = directoryv1.Op_OP_ABSENT, directoryv1.Reason_REASON_DELETED
	if p != nil {
		change.Reason = directoryv1.Reason_REASON_FILTER
	}
	return change, nil
}

func attributes(namesAndValues ...string) (all []*directoryv1.Attribute) {
	for pair := range slices.Chunk(namesAndValues, 2) {
		if pair[1] != "" {
			all = append(all, &directoryv1.Attribute{Name: pair[0], Values: [][]byte{[]byte(pair[1])}})
		}
	}
	return all
}

// packed are the members as a chunk holds them. Who is out of scope is a member all
// the same.
func (t *team) packed() []byte {
	packed := []byte{}
	for _, n := range slices.Sorted(maps.Keys(t.members)) {
		packed = append(append(packed, id(n)...), byte(directoryv1.Kind_KIND_USER))
	}
	return packed
}

func manifest(packed []byte, count int) *directoryv1.MemberManifest {
	m := &directoryv1.MemberManifest{Count: uint64(count), ChunkCount: 1, ChunkHashes: [][]byte{nil}}
	if count > 0 {
		sum := sha256.Sum256(packed)
		m.ChunkHashes[0] = sum[:16]
	}
	return m
}

// messages carry an entry as it is now.
func (c *crowd) messages(t *testing.T, e entry, set string) []bus.Message {
	t.Helper()
	change, members := c.change(e)
	change.AttributeSet = set
	data, err := proto.Marshal(change)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	messages := []bus.Message{{
		Subject: directoryv1.EntrySubject(e.kind, source, id(e.n)), Data: data,
		Header: map[string]string{
			directoryv1.HeaderContentHash: hex.EncodeToString(sum[:]), directoryv1.HeaderOp: change.GetOp().String(),
			directoryv1.HeaderDetectedAt: time.Now().UTC().Format(time.RFC3339Nano),
		},
	}}
	if members != nil {
		chunk, err := proto.Marshal(&directoryv1.MemberChunk{Members: members})
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, bus.Message{Subject: directoryv1.ChunkSubject(source, id(e.n), 0), Data: chunk})
	}
	return messages
}
