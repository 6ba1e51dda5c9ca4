package connection

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// Compiled holds the expressions of a configuration, ready to be evaluated.
type Compiled struct {
	Sources     map[string]*CompiledSource
	Connections map[string]*CompiledConnection
}

// CompiledSource holds the expressions of one source.
type CompiledSource struct {
	Enabled *mapping.Expression
}

// CompiledConnection holds the expressions of one connection.
type CompiledConnection struct {
	Scope  *mapping.Expression // nil: every user of the source
	Users  []CompiledAttribute // sorted by path
	Groups *CompiledGroups     // nil: users only
}

// CompiledGroups holds the expressions of one connection's groups.
type CompiledGroups struct {
	Scope      *mapping.Expression // nil: every group of the source
	Name       *mapping.Expression
	NameOn     string              // OnAlways, or OnCreate where the target never changes it
	Attributes []CompiledAttribute // sorted by path
}

// CompiledAttribute is one line of a mapping.
type CompiledAttribute struct {
	Path    scim.Path
	Value   *mapping.Expression
	On      string // OnAlways or OnCreate
	Mask    bool
	Default string // empty: none
}

// Compile compiles every expression. After Load it does not fail.
func (c *Config) Compile() (*Compiled, error) {
	out := &Compiled{Sources: map[string]*CompiledSource{}, Connections: map[string]*CompiledConnection{}}
	var errs []error
	for _, name := range sortedNames(c.Sources) {
		enabled, err := compileBool(directoryv1.Kind_KIND_USER, c.Sources[name].Users.Enabled)
		if err != nil {
			errs = append(errs, fmt.Errorf("compile sources.%s.users.enabled: %w", name, err))
		}
		out.Sources[name] = &CompiledSource{Enabled: enabled}
	}
	for _, name := range sortedNames(c.Connections) {
		compiled, err := c.Connections[name].compile()
		if err != nil {
			errs = append(errs, fmt.Errorf("compile connections.%s: %w", name, err))
		}
		out.Connections[name] = compiled
	}
	return out, errors.Join(errs...)
}

// compile returns what compiled, and an error for what did not.
func (c *Connection) compile() (*CompiledConnection, error) {
	scope, scopeErr := compileBool(directoryv1.Kind_KIND_USER, c.Scope)
	users, usersErr := compileAttributes(directoryv1.Kind_KIND_USER, c.Users.Attributes)
	ways, ok := c.Target.Ways()
	if !ok {
		ways = scim.Generic()
	}
	users = fit(users, ways.Drops, ways.Keeps)
	out := &CompiledConnection{Scope: scope, Users: users}
	err := errors.Join(scopeErr, usersErr)
	if c.Groups == nil {
		return out, err
	}
	groups, groupsErr := c.Groups.compile()
	groups.Attributes = fit(groups.Attributes, ways.Drops, ways.KeepsOfGroup)
	if ways.KeepsOfGroup(scim.Path{Attribute: "displayName"}) {
		groups.NameOn = OnCreate
	}
	out.Groups = groups
	return out, errors.Join(err, groupsErr)
}

func (g *GroupPolicy) compile() (*CompiledGroups, error) {
	scope, scopeErr := compileBool(directoryv1.Kind_KIND_GROUP, g.Scope)
	name, nameErr := mapping.Compile(directoryv1.Kind_KIND_GROUP, g.Name)
	attributes, err := compileAttributes(directoryv1.Kind_KIND_GROUP, g.Attributes)
	return &CompiledGroups{Scope: scope, Name: name, NameOn: OnAlways, Attributes: attributes}, errors.Join(scopeErr, nameErr, err)
}

// compileBool compiles an optional condition; an empty one is nil.
func compileBool(kind directoryv1.Kind, source string) (*mapping.Expression, error) {
	if strings.TrimSpace(source) == "" {
		return nil, nil //nolint:nilnil // no condition
	}
	return mapping.CompileBool(kind, source)
}

func compileAttributes(kind directoryv1.Kind, attributes map[string]Attribute) ([]CompiledAttribute, error) {
	var out []CompiledAttribute
	var errs []error
	for _, name := range sortedNames(attributes) {
		a := attributes[name]
		path, pathErr := parsePath(name)
		value, err := mapping.Compile(kind, a.Value)
		if err := errors.Join(pathErr, err); err != nil {
			errs = append(errs, fmt.Errorf("attribute %s: %w", name, err))
			continue
		}
		out = append(out, CompiledAttribute{Path: path, Value: value, On: a.On, Mask: a.Mask, Default: a.Default})
	}
	slices.SortFunc(out, func(a, b CompiledAttribute) int { return strings.Compare(a.Path.String(), b.Path.String()) })
	return out, errors.Join(errs...)
}

// fit leaves out what a target does not take, and sends once what it does not let
// change.
func fit(attributes []CompiledAttribute, drops, keeps func(scim.Path) bool) []CompiledAttribute {
	attributes = slices.DeleteFunc(attributes, func(a CompiledAttribute) bool { return drops(a.Path) })
	for i, a := range attributes {
		if keeps(a.Path) {
			attributes[i].On = OnCreate
		}
	}
	return attributes
}

// expressions returns every expression of a connection.
func (c *CompiledConnection) expressions() []*mapping.Expression {
	out := []*mapping.Expression{c.Scope}
	for _, a := range c.Users {
		out = append(out, a.Value)
	}
	if c.Groups != nil {
		out = append(out, c.Groups.Scope, c.Groups.Name)
		for _, a := range c.Groups.Attributes {
			out = append(out, a.Value)
		}
	}
	return slices.DeleteFunc(out, func(e *mapping.Expression) bool { return e == nil })
}

// AttributeSet returns what the detector of a source has to read for all its
// connections and for the `enabled` expression, users and groups together.
// Filters are not among it. It holds mapping.GroupsMarker when an expression
// uses user.groups.
func (c *Config) AttributeSet(source string) mapping.Set {
	set := mapping.NewSet(nil)
	compiled, _ := c.Compile() // what does not compile reads nothing
	if s := compiled.Sources[source]; s != nil && s.Enabled != nil {
		set = set.Union(s.Enabled.Set())
	}
	for name, conn := range c.Connections {
		if conn.Source == source {
			set = set.Union(compiled.Connections[name].needs())
		}
	}
	return set
}

// Needs returns what the expressions of one connection read: its part of the
// attribute set of its source.
func (c *Config) Needs(connection string) mapping.Set {
	compiled, _ := c.Compile() // what does not compile reads nothing
	if conn := compiled.Connections[connection]; conn != nil {
		return conn.needs()
	}
	return mapping.NewSet(nil)
}

func (c *CompiledConnection) needs() mapping.Set {
	set := mapping.NewSet(nil)
	for _, e := range c.expressions() {
		set = set.Union(e.Set())
	}
	return set
}

// UsesGroups reports whether an expression over entries of the source uses
// user.groups, so that the detector has to read them.
func (c *Config) UsesGroups(source string) bool {
	_, ok := c.AttributeSet(source)[mapping.GroupsMarker]
	return ok
}

// References returns the lower-case directory attributes of a source whose
// values name other entries: those that the SCIM attribute manager is mapped
// from, in any connection.
func (c *Config) References(source string) []string {
	set := mapping.NewSet(nil)
	compiled, _ := c.Compile() // what does not compile reads nothing
	for name, conn := range c.Connections {
		if conn.Source != source {
			continue
		}
		for _, a := range compiled.Connections[name].Users {
			if a.Path.URN == scim.SchemaEnterpriseUser && a.Path.Attribute == "manager" {
				set = set.Union(mapping.NewSet(a.Value.Attributes()))
			}
		}
	}
	return set.Names()
}
