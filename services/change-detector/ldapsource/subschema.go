package ldapsource

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/rollcall-scim/rollcall/pkg/spelling"
)

// ErrUnknownAttribute says that the configuration names an attribute that the
// directory's schema does not know. Such an attribute is absent from every entry, so
// that a mapping of it would clear what the target has: the source is refused.
var ErrUnknownAttribute = errors.New("the directory's schema does not know an attribute that the configuration names")

// CheckAttributes connects and compares the attributes that the configuration names
// with the server's schema. It returns ErrUnknownAttribute, with the keys and the
// remedy, for those that the schema does not know under this name; any other error
// says that the schema cannot be read, which proves nothing about the attributes.
func (s *Source) CheckAttributes(ctx context.Context) error {
	c, err := s.dial(ctx, s.where())
	if err != nil {
		return err
	}
	defer c.close()
	server, err := s.rootDSE(c)
	if err != nil {
		return err
	}
	schema, err := s.readSchema(c, server)
	if err != nil {
		return err
	}
	return s.checkAttributes(schema)
}

// checkAttributes refuses the attributes that the schema does not know, all at once.
func (s *Source) checkAttributes(schema *Schema) error {
	var lines []string
	for _, one := range s.unknown(schema) {
		lines = append(lines, s.refusal(one))
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrUnknownAttribute, strings.Join(lines, "; "))
}

// refusal names an unknown attribute, the keys that read it and the remedy.
func (s *Source) refusal(one unknownAttribute) string {
	keys := []string{"sources." + s.cfg.Name}
	if s.deps.Keys != nil {
		if readers := s.deps.Keys(one.name); len(readers) > 0 {
			keys = readers
		}
	}
	hint := "correct it there, or add the attribute to the directory's schema"
	switch {
	case one.canonical != "":
		hint = "the directory calls it " + one.canonical + ", write that name"
	case one.nearest != "":
		hint = "did you mean " + one.nearest + "?"
	}
	return fmt.Sprintf("%s (%s): %s", one.name, strings.Join(keys, ", "), hint)
}

// readSchema reads what the server says about its attributes and classes.
func (s *Source) readSchema(c *conn, server *Server) (*Schema, error) {
	dn := server.SubschemaDN
	if dn == "" {
		return nil, &cured{
			fmt.Errorf("%s does not name its schema (subschemaSubentry)", server.URL),
			"give the account read access to the root DSE",
		}
	}
	entry, err := s.readEntry(c, dn, "attributeTypes", "objectClasses")
	if err == nil && hasRange(entry) {
		entry, err = joinRanges(entry, func(name string) (*ldap.Entry, error) { return s.readEntry(c, dn, name) })
	}
	if err != nil {
		return nil, fmt.Errorf("read the schema %s: %w", dn, s.cure(err, ""))
	}
	schema := ParseSchema(entry.GetEqualFoldAttributeValues("attributeTypes"), entry.GetEqualFoldAttributeValues("objectClasses"), dialectOf(server.Vendor))
	if len(schema.types) == 0 || len(schema.classes) == 0 {
		return nil, &cured{fmt.Errorf("the schema %s shows no attribute types or no object classes", dn), "give the account read access to it"}
	}
	return schema, nil
}

// dialectOf is the way of a server that says this of itself.
func dialectOf(vendor string) Dialect {
	switch {
	case vendor == openLDAP:
		return DialectOpenLDAP
	case strings.Contains(vendor, "389"):
		return Dialect389
	case strings.Contains(vendor, "Samba"):
		return DialectSamba
	}
	return DialectStandard
}

// learned is a schema and, by its every name, what is asked for under one of them.
type learned struct {
	schema  *Schema
	visible map[string]bool
}

// learn prepares a session: it reads the schema for the filters, and asks what only
// the directory can evaluate where no full read of its own does it.
func (s *Source) learn(ctx context.Context, server *Server) error {
	c, err := s.dial(ctx, server.endpoint)
	if err != nil {
		return err
	}
	defer c.close()
	if err := s.learnSchema(ctx, c, server); err != nil {
		return err
	}
	s.tellRemote(ctx, server)
	if server.Mode != ModeSyncrepl {
		return nil
	}
	return s.mark(ctx, c, server)
}

// learnSchema reads the schema, and refuses a configuration that names attributes
// which it does not know. Where it cannot be read, the one of the session before
// stays, or filters are evaluated by the well-known attributes.
func (s *Source) learnSchema(ctx context.Context, c *conn, server *Server) error {
	schema, err := s.readSchema(c, server)
	if err == nil {
		if err := s.checkAttributes(schema); err != nil {
			return err
		}
	}
	switch {
	case err == nil && s.schema.Load() != nil && s.schema.Load().schema.Equal(schema):
		return nil
	case err == nil:
		s.schema.Store(&learned{schema: schema, visible: schema.names(s.visible)})
		return nil
	case c.lapsed.Load(), c.IsClosing(), isCode(err, ldap.ErrorNetwork):
		return err
	case s.unschooled.CompareAndSwap(false, true):
		s.deps.Log.WarnContext(ctx, "filters are evaluated by the well-known attributes, without the directory's schema",
			"source", s.cfg.Name, "error", err, "cure", "let the account read the schema")
	}
	return nil
}

// unknownAttribute is an attribute of the configuration that a schema does not know
// under this name.
type unknownAttribute struct {
	name      string
	canonical string // what the directory calls it; empty when it does not know it at all
	nearest   string // a name that is spelt alike, or empty
}

// unknown are the attributes that the configuration names and the schema does not
// know. What only an earlier configuration read is not judged.
func (s *Source) unknown(schema *Schema) []unknownAttribute {
	var unknown []unknownAttribute
	names := append([]string{strings.ToLower(s.id.attribute)}, slices.Sorted(maps.Keys(s.visible))...)
	for _, name := range slices.Compact(names) {
		if slices.Contains(s.deps.Former, name) {
			continue
		}
		switch canonical := schema.canonical(baseName(name)); canonical {
		case baseName(name):
		case "":
			unknown = append(unknown, unknownAttribute{name: name, nearest: spelling.Nearest(baseName(name), slices.Sorted(maps.Keys(schema.types)))})
		default:
			unknown = append(unknown, unknownAttribute{name: name, canonical: canonical})
		}
	}
	return unknown
}
