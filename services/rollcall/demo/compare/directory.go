package compare

import (
	"maps"
	"slices"
)

// Expected is what the target should hold, given the directory's people and groups
// and the people whose accounts stay, disabled, because they had one when they
// left. Other disabled people have no account.
func Expected(people, groups []Entry, kept []string) State {
	e := expectation{state: newState(), people: map[string]string{}, groups: map[string]Entry{}}
	for _, p := range people {
		e.person(p, kept)
	}
	for _, name := range kept {
		if _, there := e.state.Users[name]; !there {
			e.state.Users[name] = User{Departed: true}
		}
	}
	for _, g := range groups {
		e.groups[sameDN(g.DN)] = g
	}
	for _, g := range groups {
		name := g.First("cn")
		if _, twice := e.state.Groups[name]; twice {
			e.state.Faults = append(e.state.Faults, "there are two groups "+name)
		}
		members := map[string]bool{}
		e.members(g, members, map[string]bool{})
		e.state.Groups[name] = slices.Sorted(maps.Keys(members))
	}
	return e.state
}

type expectation struct {
	state  State
	people map[string]string // userName by DN, of those who have an account
	groups map[string]Entry  // by DN
}

func (e *expectation) person(p Entry, kept []string) {
	name := p.First("uid")
	active := !slices.Contains(p.Attributes["employeetype"], "left")
	if !active && !slices.Contains(kept, name) {
		return
	}
	if _, twice := e.state.Users[name]; twice {
		e.state.Faults = append(e.state.Faults, "there are two people "+name)
	}
	u := User{Active: active, Attributes: map[string]string{}}
	for scim, ldap := range attributes {
		if value := p.First(ldap); value != "" {
			u.Attributes[scim] = value
		}
	}
	e.state.Users[name] = u
	e.people[sameDN(p.DN)] = name
}

// members adds the people of a group and of the groups in it. A DN that leads
// nowhere, or to a person without an account, counts for nothing.
func (e *expectation) members(g Entry, found, seen map[string]bool) {
	dn := sameDN(g.DN)
	if seen[dn] {
		return
	}
	seen[dn] = true
	for _, member := range g.Attributes["member"] {
		member = sameDN(member)
		if name, is := e.people[member]; is {
			found[name] = true
		} else if inner, is := e.groups[member]; is {
			e.members(inner, found, seen)
		}
	}
}
