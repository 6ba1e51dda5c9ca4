package connection

import (
	"fmt"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// misspelt says that a SCIM attribute is probably misspelt, and what to do. An
// attribute that resembles no standard one may be the target's own, which only the
// target can say.
func misspelt(p scim.Path, target *Target, kind scim.Kind) (problem, hint string) {
	meant := p.Meant(kind)
	if ways, ok := target.Ways(); meant == "" || ok && ways.Has(p) {
		return "", ""
	}
	return "is no SCIM attribute of a " + kind.String(), "did you mean " + meant + "? (or name it at target.overrides.attributes where the target has it)"
}

// CheckAttributes compares the SCIM attributes of the mappings with RFC 7643, with the
// profile, and with what the target says about itself. It returns a line with the key
// and the remedy for each attribute that the target does not have, and one for each of
// an extension where the target does not say what it has.
func (c *Connection) CheckAttributes(said scim.Discovered) (unknown, unsure []string) {
	mappings := map[scim.Kind]map[string]Attribute{scim.KindUser: c.Users.Attributes}
	if c.Groups != nil {
		mappings[scim.KindGroup] = c.Groups.Attributes
	}
	ways, _ := c.Target.Ways()
	for _, kind := range []scim.Kind{scim.KindUser, scim.KindGroup} {
		for _, name := range sortedNames(mappings[kind]) {
			p, err := parsePath(name)
			if err != nil || ways.Has(p) {
				continue
			}
			key := fmt.Sprintf("connections.%s.%ss.attributes.%s", c.Name, strings.ToLower(kind.String()), name)
			switch knows, meant := said.Knows(kind, p); knows {
			case scim.AttributeKnown:
			case scim.AttributeUnsure:
				unsure = append(unsure, key+": the target does not say which attributes it has, so that this one is not checked")
			case scim.AttributeUnknown:
				hint := "name it at target.overrides.attributes where the target has it"
				if meant != "" {
					hint = "did you mean " + meant + "? (or " + hint + ")"
				}
				unknown = append(unknown, key+": is neither an attribute of RFC 7643 nor one that the target says it has; "+hint)
			}
		}
	}
	return unknown, unsure
}
