package connection

import (
	"regexp"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
)

// Readers returns the keys of the configuration that read a directory attribute of a
// source, in order: its own settings and filters, and the expressions of the
// connections that use it. The attribute is a lower-case name.
func (c *Config) Readers(source, attribute string) []string {
	s := c.Sources[source]
	if s == nil {
		return nil
	}
	keys := s.readers("sources."+source+".", attribute)
	compiled, _ := c.Compile() // what does not compile reads nothing
	reads := func(e *mapping.Expression) bool { return e != nil && slices.Contains(e.Attributes(), attribute) }
	if one := compiled.Sources[source]; one != nil && reads(one.Enabled) {
		keys = append(keys, "sources."+source+".users.enabled")
	}
	for _, name := range c.ConnectionsOf(source) {
		keys = append(keys, compiled.Connections[name].readers("connections."+name+".", reads)...)
	}
	return keys
}

// readers are the settings and filters of a source that name an attribute.
func (s *Source) readers(prefix, attribute string) []string {
	var keys []string
	for _, one := range []struct{ key, name string }{
		{"id.attribute", s.ID.Attribute},
		{"users.member_of", s.Users.MemberOf},
		{"users.primary_group", s.Users.PrimaryGroup},
		{"groups.members", s.Groups.Members},
	} {
		if strings.EqualFold(one.name, attribute) {
			keys = append(keys, prefix+one.key)
		}
	}
	item := regexp.MustCompile(`(?i)\(\s*` + regexp.QuoteMeta(attribute) + `\s*[;:=<>~]`)
	for _, one := range []struct{ key, filter string }{{"users.filter", s.Users.Filter}, {"groups.filter", s.Groups.Filter}} {
		if item.MatchString(one.filter) {
			keys = append(keys, prefix+one.key)
		}
	}
	return keys
}

// readers are the expressions of a connection that read something.
func (c *CompiledConnection) readers(prefix string, reads func(*mapping.Expression) bool) []string {
	var keys []string
	add := func(key string, e *mapping.Expression) {
		if reads(e) {
			keys = append(keys, prefix+key)
		}
	}
	add("scope", c.Scope)
	for _, a := range c.Users {
		add("users.attributes."+a.Path.String(), a.Value)
	}
	if c.Groups == nil {
		return keys
	}
	add("groups.scope", c.Groups.Scope)
	add("groups.name", c.Groups.Name)
	for _, a := range c.Groups.Attributes {
		add("groups.attributes."+a.Path.String(), a.Value)
	}
	return keys
}

// ConnectionsOf returns the names of the connections that use a source, in order.
func (c *Config) ConnectionsOf(source string) []string {
	return slices.DeleteFunc(sortedNames(c.Connections), func(name string) bool { return c.Connections[name].Source != source })
}
