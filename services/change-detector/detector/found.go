package detector

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// Found is what a full read of a source found.
type Found struct {
	InScope // of the source

	// Connections are what is in the scope of each connection of the source, by name.
	Connections map[string]InScope
	// Warnings say what is probably wrong, each with the key of the configuration and
	// the remedy: a scope group that is not there, a filter that matches nothing.
	Warnings []string
}

// InScope counts entries in a scope. Disabled are among Users.
type InScope struct{ Users, Disabled, Groups int }

// connectionScope is what a connection of the source leaves of its users and groups.
type connectionScope struct {
	name          string
	users, groups *mapping.Expression // nil: all of them
	withGroups    bool                // the connection synchronizes groups
}

// scopesOf are the scopes of the connections of a source, by name.
func scopesOf(cfg *connection.Config, compiled *connection.Compiled, source string) []connectionScope {
	var scopes []connectionScope
	for _, name := range cfg.ConnectionsOf(source) {
		c := compiled.Connections[name]
		one := connectionScope{name: name, users: c.Scope}
		if c.Groups != nil {
			one.withGroups, one.groups = true, c.Groups.Scope
		}
		scopes = append(scopes, one)
	}
	return scopes
}

// areaCount is how far the entries of a kind get on their way into the scope: below a
// base, which itself does not count, matching the filter, and in scope.
type areaCount struct{ covered, matching, inScope int }

// found counts what the mirror holds, and says what is probably wrong. An entry whose
// scope expression fails is not counted: what was published of it stays.
func (d *detector) found(m *mirror, in *closures) Found {
	f := Found{Connections: map[string]InScope{}}
	for _, c := range d.scopes {
		f.Connections[c.name] = InScope{}
	}
	areas := map[directoryv1.Kind]*areaCount{}
	for _, kind := range kinds {
		areas[kind] = &areaCount{}
		for _, e := range m.entries {
			if areas[kind].add(m, e, kind, in.of(kind)) {
				f.add(e, kind)
				d.addScopes(f.Connections, m, e, kind)
			}
		}
	}
	f.Warnings = d.warnings(m, f, areas)
	return f
}

// add counts an entry, and says whether it is in scope.
func (a *areaCount) add(m *mirror, e *entry, kind directoryv1.Kind, in *closure) bool {
	is, reason := m.inScope(e, kind, in)
	if is {
		a.inScope++
	}
	if area, _ := m.rules.of(kind); reason == directoryv1.Reason_REASON_MOVED || slices.Contains(area.bases, e.name) {
		return is
	}
	a.covered++
	if reason == directoryv1.Reason_REASON_FILTER {
		return false
	}
	a.matching++
	return is
}

func (s *InScope) add(e *entry, kind directoryv1.Kind) {
	if kind == directoryv1.Kind_KIND_GROUP {
		s.Groups++
		return
	}
	s.Users++
	if !e.enabled {
		s.Disabled++
	}
}

// addScopes counts an entry of the source in the connections whose scope it is in.
func (d *detector) addScopes(all map[string]InScope, m *mirror, e *entry, kind directoryv1.Kind) {
	var pub *publication
	for _, c := range d.scopes {
		scope := c.users
		if kind == directoryv1.Kind_KIND_GROUP {
			if scope = c.groups; !c.withGroups {
				continue
			}
		}
		if scope != nil {
			if pub == nil {
				var err error
				if pub, err = m.present(e, kind, nil); err != nil {
					return
				}
			}
			if in, err := scope.Bool(objectOf(pub.change, d.rules.set)); err != nil || !in {
				continue
			}
		}
		one := all[c.name]
		one.add(e, kind)
		all[c.name] = one
	}
}

func objectOf(change *directoryv1.Change, set mapping.Set) mapping.Object {
	if group := change.GetGroup(); group != nil {
		return mapping.GroupObject(group, set)
	}
	return mapping.UserObject(change.GetUser(), set)
}

// warnings say what is probably a mistake in the configuration.
func (d *detector) warnings(m *mirror, f Found, areas map[directoryv1.Kind]*areaCount) []string {
	all := d.missing(m)
	withGroups := false
	for _, c := range d.scopes {
		withGroups = withGroups || c.withGroups
		in := f.Connections[c.name]
		if c.users != nil && in.Users == 0 && f.Users > 0 {
			all = append(all, fmt.Sprintf("connections.%s.scope: matches none of the %d users of the source; correct the expression", c.name, f.Users))
		}
		if c.groups != nil && in.Groups == 0 && f.Groups > 0 {
			all = append(all, fmt.Sprintf("connections.%s.groups.scope: matches none of the %d groups of the source; correct the expression", c.name, f.Groups))
		}
	}
	if why := d.empty("users", &d.rules.users, areas[directoryv1.Kind_KIND_USER]); why != "" {
		all = append(all, why)
	}
	if !withGroups {
		return all
	}
	if why := d.empty("groups", &d.rules.groups, areas[directoryv1.Kind_KIND_GROUP]); why != "" {
		all = append(all, why)
	}
	return all
}

// empty says why no entry of a kind is in scope; empty where some are.
func (d *detector) empty(kind string, a *area, n *areaCount) string {
	key := "sources." + d.name + "." + kind + "."
	switch {
	case n.inScope > 0:
		return ""
	case n.covered == 0:
		return fmt.Sprintf("%sbase_dns: no entry lies below %s; correct it, or give the account the right to read there", key, strings.Join(a.bases, " or "))
	case n.matching == 0:
		return fmt.Sprintf("%sfilter: matches none of the %d entries below %s; correct the filter, or give the account the right to read the attributes that it names", key, n.covered, strings.Join(a.bases, " or "))
	default:
		return fmt.Sprintf("%sscope_groups: none of the %d %s that match the filter is a member of them; correct the names, or fill the groups", key, n.matching, kind)
	}
}

// missing names the groups that decide about the scope and are not in the directory.
func (d *detector) missing(m *mirror) []string {
	var all []string
	for _, kind := range kinds {
		key := "sources." + d.name + "." + kind.Token()
		for _, name := range m.missingScope(kind) {
			all = append(all, fmt.Sprintf("%s.scope_groups: there is no group %s, or the account may not read it; correct the name, or give the account the right to read it", key, name))
		}
		for _, name := range m.missingNamed(kind) {
			all = append(all, fmt.Sprintf("%s.filter: there is no group %s, or the account may not read it; correct the name, or give the account the right to read it", key, name))
		}
	}
	return all
}
