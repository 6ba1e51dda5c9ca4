package ldapsource

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	if server.SubschemaDN == "" {
		return nil, &cured{
			fmt.Errorf("%s does not name its schema (subschemaSubentry)", server.URL),
			"give the account read access to the root DSE",
		}
	}
	entry, err := s.readSchema(c, server.SubschemaDN)
	if err != nil {
		return nil, err
	}
	return s.unknown(entry), nil
}

func (s *Source) readSchema(c *conn, dn string) (map[string]string, error) {
	entry, err := s.readEntry(c, dn, "attributeTypes")
	if err != nil {
		return nil, fmt.Errorf("read the schema %s: %w", dn, s.cure(err, ""))
	}
	known := map[string]string{}
	for _, definition := range entry.GetEqualFoldAttributeValues("attributeTypes") {
		for i, name := range typeNames(definition) {
			if i == 0 {
				known[name] = name
			} else if _, taken := known[name]; !taken {
				known[name] = typeNames(definition)[0]
			}
		}
	}
	if len(known) == 0 {
		return nil, &cured{fmt.Errorf("the schema %s shows no attribute types", dn), "give the account read access to it"}
	}
	return known, nil
}

func (s *Source) unknown(known map[string]string) []string {
	var unknown []string
	for _, name := range append([]string{s.id.attribute}, slices.Sorted(maps.Keys(s.visible))...) {
		canonical, ok := known[baseName(name)]
		switch {
		case !ok:
			unknown = append(unknown, name)
		case canonical != baseName(name):
			unknown = append(unknown, fmt.Sprintf("%s (%s)", name, canonical))
		}
	}
	return slices.Compact(unknown)
}

// typeNames are the names of an attribute type definition (RFC 4512 section
// 4.1.2) in lower case, the first one first, then its OID.
func typeNames(definition string) []string {
	fields := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(definition))
	var list []string
	for i, field := range fields {
		if field != "NAME" {
			continue
		}
		for _, word := range fields[i+1:] {
			if name, quoted := strings.CutPrefix(word, "'"); quoted {
				list = append(list, strings.ToLower(strings.TrimSuffix(name, "'")))
			} else if word != "(" {
				break
			}
			if fields[i+1] != "(" {
				break
			}
		}
		break
	}
	if len(fields) > 1 {
		list = append(list, fields[1])
	}
	return list
}
