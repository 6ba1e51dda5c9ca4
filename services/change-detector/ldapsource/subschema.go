package ldapsource

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// CheckAttributes returns those of the attributes to be read that the server's
// schema does not know under this name; where it knows them under another one,
// that one stands behind in brackets.
func (s *Source) CheckAttributes(ctx context.Context) ([]string, error) {
	c, err := s.dial(ctx, s.where())
	if err != nil {
		return nil, err
	}
	defer c.close()
	server, err := s.rootDSE(c)
	if err != nil {
		return nil, err
	}
	schema, err := s.readSchema(c, server)
	if err != nil {
		return nil, err
	}
	return s.unknown(schema), nil
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

// learnSchema reads the schema. Where it cannot be read, the one of the session
// before stays, or filters are evaluated by the well-known attributes.
func (s *Source) learnSchema(ctx context.Context, c *conn, server *Server) error {
	schema, err := s.readSchema(c, server)
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

func (s *Source) unknown(schema *Schema) []string {
	var unknown []string
	for _, name := range append([]string{s.id.attribute}, slices.Sorted(maps.Keys(s.visible))...) {
		switch canonical := schema.canonical(baseName(name)); canonical {
		case baseName(name):
		case "":
			unknown = append(unknown, name)
		default:
			unknown = append(unknown, fmt.Sprintf("%s (%s)", name, canonical))
		}
	}
	return slices.Compact(unknown)
}
