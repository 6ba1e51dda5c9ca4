package scimtest

import (
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// scimTypes of RFC 7644 section 3.12.
const (
	typeSyntax     = "invalidSyntax"
	typeFilter     = "invalidFilter"
	typePath       = "invalidPath"
	typeValue      = "invalidValue"
	typeNoTarget   = "noTarget"
	typeMutability = "mutability"
	typeUniqueness = "uniqueness"
)

type dataType string

const (
	dtString    dataType = "string"
	dtBoolean   dataType = "boolean"
	dtComplex   dataType = "complex"
	dtReference dataType = "reference"
	dtDateTime  dataType = "dateTime"
	dtBinary    dataType = "binary"
)

// definition describes one attribute (RFC 7643 section 7).
type definition struct {
	name      string
	typ       dataType
	multi     bool
	readOnly  bool
	immutable bool
	required  bool
	caseExact bool
	unique    bool
	never     bool // never returned
	subs      []definition
}

func text(names ...string) []definition {
	out := make([]definition, len(names))
	for i, name := range names {
		out[i] = definition{name: name, typ: dtString}
	}
	return out
}

// plural is a multi-valued attribute with the usual sub-attributes.
func plural(name string, value dataType) definition {
	return definition{name: name, typ: dtComplex, multi: true, subs: []definition{
		{name: "value", typ: value, caseExact: value != dtString},
		{name: "display", typ: dtString},
		{name: "type", typ: dtString},
		{name: "primary", typ: dtBoolean},
	}}
}

// common are the attributes of every resource (RFC 7643 section 3.1).
var common = []definition{
	{name: "id", typ: dtString, readOnly: true, caseExact: true},
	{name: "externalId", typ: dtString, caseExact: true},
	{name: "meta", typ: dtComplex, readOnly: true, subs: []definition{
		{name: "resourceType", typ: dtString, caseExact: true, readOnly: true},
		{name: "created", typ: dtDateTime, readOnly: true},
		{name: "lastModified", typ: dtDateTime, readOnly: true},
		{name: "location", typ: dtReference, caseExact: true, readOnly: true},
	}},
}

var userAttributes = concat(
	[]definition{
		{name: "userName", typ: dtString, required: true, unique: true},
		{name: "name", typ: dtComplex, subs: text("formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix")},
	},
	text("displayName", "nickName", "title", "userType", "preferredLanguage", "locale", "timezone"),
	[]definition{
		{name: "profileUrl", typ: dtReference, caseExact: true},
		{name: "active", typ: dtBoolean},
		{name: "password", typ: dtString, never: true},
		plural("emails", dtString),
		plural("phoneNumbers", dtString),
		plural("ims", dtString),
		plural("photos", dtReference),
		{name: "addresses", typ: dtComplex, multi: true, subs: concat(
			text("formatted", "streetAddress", "locality", "region", "postalCode", "country", "type"),
			[]definition{{name: "primary", typ: dtBoolean}})},
		{name: "groups", typ: dtComplex, multi: true, readOnly: true, subs: []definition{
			{name: "value", typ: dtString, caseExact: true, readOnly: true},
			{name: "$ref", typ: dtReference, caseExact: true, readOnly: true},
			{name: "display", typ: dtString, readOnly: true},
			{name: "type", typ: dtString, readOnly: true},
		}},
		plural("entitlements", dtString),
		plural("roles", dtString),
		plural("x509Certificates", dtBinary),
	},
)

var enterpriseAttributes = concat(
	text("employeeNumber", "costCenter", "organization", "division", "department"),
	[]definition{{name: "manager", typ: dtComplex, subs: []definition{
		{name: "value", typ: dtString, caseExact: true},
		{name: "$ref", typ: dtReference, caseExact: true},
		{name: "displayName", typ: dtString, readOnly: true},
	}}},
)

var groupAttributes = []definition{
	{name: "displayName", typ: dtString, required: true},
	{name: "members", typ: dtComplex, multi: true, subs: []definition{
		{name: "value", typ: dtString, caseExact: true, immutable: true},
		{name: "$ref", typ: dtReference, caseExact: true, immutable: true},
		{name: "type", typ: dtString, immutable: true},
		{name: "display", typ: dtString, immutable: true},
	}},
}

func concat(parts ...[]definition) []definition {
	var out []definition
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// resourceType is a kind with its schemas.
type resourceType struct {
	kind       scim.Kind
	endpoint   string
	core       []definition
	extensions map[string][]definition
}

var (
	userType = &resourceType{
		kind: scim.KindUser, endpoint: "/Users", core: concat(common, userAttributes),
		extensions: map[string][]definition{scim.SchemaEnterpriseUser: enterpriseAttributes, SchemaUser: text("badge", "desk")},
	}
	groupType = &resourceType{
		kind: scim.KindGroup, endpoint: "/Groups", core: concat(common, groupAttributes),
		extensions: map[string][]definition{SchemaGroup: text("purpose")},
	}
)

// The server's own extensions, as many targets have some. Their URNs are not of the
// usual form.
const (
	SchemaUser  = "urn:scimtest:2.0:User"
	SchemaGroup = "urn:scimtest:2.0:Group"
)

func typeOf(kind scim.Kind) *resourceType {
	if kind == scim.KindGroup {
		return groupType
	}
	return userType
}

// find looks an attribute up without regard to case; nil when there is none.
func find(definitions []definition, name string) *definition {
	for i := range definitions {
		if strings.EqualFold(definitions[i].name, name) {
			return &definitions[i]
		}
	}
	return nil
}

// extension gives the canonical URN of an extension of this type.
func (t *resourceType) extension(urn string) (string, []definition, bool) {
	for name, definitions := range t.extensions {
		if strings.EqualFold(name, urn) {
			return name, definitions, true
		}
	}
	return "", nil, false
}

// attributePath is a resolved `urn:attr.sub`.
type attributePath struct {
	urn  string // extension, or empty
	attr *definition
	sub  *definition
}

// resolve reads an attribute path against the schemas; false when it names
// nothing.
func (t *resourceType) resolve(s string) (attributePath, bool) {
	definitions := t.core
	var p attributePath
	if strings.HasPrefix(strings.ToLower(s), "urn:") {
		i := strings.LastIndexByte(s, ':')
		urn := s[:i]
		if !strings.EqualFold(urn, t.kind.Schema()) {
			var ok bool
			if p.urn, definitions, ok = t.extension(urn); !ok {
				return p, false
			}
		}
		s = s[i+1:]
	}
	name, sub, dotted := strings.Cut(s, ".")
	if p.attr = find(definitions, name); p.attr == nil {
		return p, false
	}
	if dotted {
		p.sub = find(p.attr.subs, sub)
		return p, p.sub != nil
	}
	return p, true
}
