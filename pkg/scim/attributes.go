package scim

import (
	"maps"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/spelling"
)

// userAttributes and groupAttributes are the attributes of the core schemas (RFC 7643
// sections 4.1 and 4.2) with their sub-attributes, extensionAttributes those of the
// enterprise extension (section 4.3). Every multi-valued one has the default
// sub-attributes of section 2.4.
var (
	commonAttributes = map[string][]string{
		"id": nil, "externalId": nil, "schemas": nil, "meta": {"resourceType", "created", "lastModified", "location", "version"},
	}
	userAttributes = map[string][]string{
		"userName": nil, "displayName": nil, "nickName": nil, "profileUrl": nil, "title": nil, "userType": nil,
		"preferredLanguage": nil, "locale": nil, "timezone": nil, "active": nil, "password": nil,
		"name":   {"formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix"},
		"emails": defaultSubs, "phoneNumbers": defaultSubs, "ims": defaultSubs, "photos": defaultSubs, "groups": defaultSubs,
		"entitlements": defaultSubs, "roles": defaultSubs, "x509Certificates": defaultSubs,
		"addresses": append(slices.Clone(defaultSubs), "formatted", "streetAddress", "locality", "region", "postalCode", "country"),
	}
	groupAttributes     = map[string][]string{"displayName": nil, "members": defaultSubs}
	extensionAttributes = map[string][]string{"employeeNumber": nil, "costCenter": nil, "organization": nil, "division": nil, "department": nil, "manager": {"value", "$ref", "displayName"}}
	defaultSubs         = []string{"value", "display", "type", "primary", "$ref"}
	standardUsers       = merged(commonAttributes, userAttributes)
	standardGroups      = merged(commonAttributes, groupAttributes)
)

func merged(a, b map[string][]string) map[string][]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// standardOf are the attributes of RFC 7643 under a schema's URN; none for others.
func standardOf(kind Kind, urn string) map[string][]string {
	switch {
	case urn == SchemaEnterpriseUser && kind == KindUser:
		return extensionAttributes
	case urn != "":
		return nil
	case kind == KindGroup:
		return standardGroups
	default:
		return standardUsers
	}
}

// Standard says whether the attribute of a resource of this kind stands in the core
// schemas or in the enterprise extension (RFC 7643 section 4), with its sub-attribute
// and the one that a value filter names.
func (p Path) Standard(kind Kind) bool {
	subs, ok := standardOf(kind, p.URN)[p.Attribute]
	return ok && (p.Sub == "" || slices.Contains(subs, p.Sub)) && (p.Filter == nil || slices.Contains(subs, p.Filter.Attribute))
}

// Meant is the standard path that a path was probably meant to be: one that is spelt
// alike, or the attribute of the enterprise extension that is written without its URN.
// It is empty for a standard path, one in another extension, and one that resembles
// none.
func (p Path) Meant(kind Kind) string {
	table := standardOf(kind, p.URN)
	if p.Standard(kind) || len(table) == 0 {
		return ""
	}
	if subs, ok := table[p.Attribute]; ok {
		return p.withSub(spelling.Nearest(p.wrongSub(subs), subs), subs)
	}
	if kind == KindUser && p.URN == "" {
		if name := spelledAs(p.Attribute, extensionAttributes); name != "" {
			p.URN, p.Attribute = SchemaEnterpriseUser, name
			return p.String()
		}
	}
	name := spelling.Nearest(p.Attribute, slices.Sorted(maps.Keys(table)))
	if name == "" {
		return ""
	}
	p.Attribute = name
	return p.String()
}

// wrongSub is the sub-attribute that is none: the path's own, or that of its filter.
func (p Path) wrongSub(subs []string) string {
	if p.Sub != "" && !slices.Contains(subs, p.Sub) {
		return p.Sub
	}
	return p.Filter.Attribute
}

// withSub is the path with another sub-attribute in place of the wrong one; empty for
// an empty one.
func (p Path) withSub(sub string, subs []string) string {
	if sub == "" {
		return ""
	}
	if p.Sub != "" && !slices.Contains(subs, p.Sub) {
		p.Sub = sub
	} else {
		p.Filter = &ValueFilter{Attribute: sub, Value: p.Filter.Value}
	}
	return p.String()
}

// spelledAs is the name of a table that equals a name without regard to case.
func spelledAs(name string, table map[string][]string) string {
	for one := range table {
		if strings.EqualFold(one, name) {
			return one
		}
	}
	return ""
}

// Knowledge is what can be said of an attribute before it is sent.
type Knowledge int

// What can be said.
const (
	AttributeKnown   Knowledge = iota // it is standard, or the target says that it has it
	AttributeUnknown                  // it is not standard, and the target does not say that it has it
	AttributeUnsure                   // it belongs to an extension, and the target does not say what it has
)

// Knows says what can be said of the attribute of a mapping, by RFC 7643 and by what
// the target says about itself. Meant is a path that is spelt alike, or empty.
func (d *Discovered) Knows(kind Kind, p Path) (k Knowledge, meant string) {
	switch {
	case p.Standard(kind):
		return AttributeKnown, ""
	case len(d.Attributes) == 0 && p.URN != "" && p.URN != SchemaEnterpriseUser:
		return AttributeUnsure, ""
	case len(d.Attributes) == 0:
		return AttributeUnknown, p.Meant(kind)
	}
	schema := p.URN
	if schema == "" {
		schema = kind.Schema()
	}
	whole := strings.ToLower(schema + ":" + p.Attribute)
	hasSubs := slices.ContainsFunc(d.Attributes, func(one string) bool { return strings.HasPrefix(one, whole+".") })
	if slices.Contains(d.Attributes, whole) && (p.Sub == "" || !hasSubs || slices.Contains(d.Attributes, whole+"."+strings.ToLower(p.Sub))) {
		return AttributeKnown, ""
	}
	if meant = p.Meant(kind); meant == "" {
		meant = spelling.Nearest(whole, d.Attributes)
	}
	return AttributeUnknown, meant
}

// readAttributes takes the names of all attributes from an answer of /Schemas, in lower
// case and behind their schema. An answer without the schema of users says nothing.
func (d *Discovered) readAttributes(schemas schemaList) {
	var names []string
	users := false
	for _, r := range schemas.Resources {
		users = users || strings.EqualFold(r.ID, SchemaUser)
		for _, a := range r.Attributes {
			name := strings.ToLower(r.ID + ":" + a.Name)
			names = append(names, name)
			for _, sub := range a.SubAttributes {
				names = append(names, name+"."+strings.ToLower(sub.Name))
			}
		}
	}
	if users {
		d.Attributes = slices.Compact(slices.Sorted(slices.Values(names)))
	}
}
