package scim

import "strings"

// Schema and message URNs (RFC 7643 section 10, RFC 7644 section 8.2).
const (
	SchemaUser           = "urn:ietf:params:scim:schemas:core:2.0:User"
	SchemaGroup          = "urn:ietf:params:scim:schemas:core:2.0:Group"
	SchemaEnterpriseUser = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
	SchemaPatchOp        = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
	SchemaListResponse   = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	SchemaError          = "urn:ietf:params:scim:api:messages:2.0:Error"
)

// ContentType is SCIM's media type.
const ContentType = "application/scim+json"

type shape int

const (
	shapeSimple  shape = iota // one value
	shapeComplex              // one object with sub-attributes
	shapeMulti                // an array of objects
)

// standard is what the client has to know of a standard attribute.
type standard struct {
	name     string
	shape    shape
	boolean  bool
	readOnly bool // set by the target alone
	fold     bool // compared without regard to case (caseExact is false and targets fold it)
}

// coreAttributes are those of User and Group (RFC 7643 section 4).
var coreAttributes = []standard{
	{name: "id", readOnly: true},
	{name: "externalId"},
	{name: "meta", shape: shapeComplex, readOnly: true},
	{name: "schemas", readOnly: true},
	{name: "userName", fold: true},
	{name: "name", shape: shapeComplex},
	{name: "displayName"},
	{name: "nickName"},
	{name: "profileUrl"},
	{name: "title"},
	{name: "userType"},
	{name: "preferredLanguage"},
	{name: "locale"},
	{name: "timezone"},
	{name: "active", boolean: true},
	{name: "password"},
	{name: "emails", shape: shapeMulti, fold: true},
	{name: "phoneNumbers", shape: shapeMulti},
	{name: "ims", shape: shapeMulti},
	{name: "photos", shape: shapeMulti},
	{name: "addresses", shape: shapeMulti},
	{name: "groups", shape: shapeMulti, readOnly: true},
	{name: "entitlements", shape: shapeMulti},
	{name: "roles", shape: shapeMulti},
	{name: "x509Certificates", shape: shapeMulti},
	{name: "members", shape: shapeMulti},
}

// enterpriseAttributes are those of the enterprise extension.
var enterpriseAttributes = []standard{
	{name: "employeeNumber"},
	{name: "costCenter"},
	{name: "organization"},
	{name: "division"},
	{name: "department"},
	{name: "manager", shape: shapeComplex},
}

// subAttributes are the names of all standard sub-attributes.
var subAttributes = []string{
	"value", "type", "primary", "display", "$ref", "displayName",
	"formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix",
	"streetAddress", "locality", "region", "postalCode", "country",
	"resourceType", "created", "lastModified", "location", "version",
}

// lookUp finds a standard attribute by schema and name; nil when it is none.
func lookUp(urn, name string) *standard {
	table := coreAttributes
	switch urn {
	case "":
	case SchemaEnterpriseUser:
		table = enterpriseAttributes
	default:
		return nil
	}
	for i := range table {
		if strings.EqualFold(table[i].name, name) {
			return &table[i]
		}
	}
	return nil
}

func canonicalSub(name string) string {
	for _, s := range subAttributes {
		if strings.EqualFold(s, name) {
			return s
		}
	}
	return name
}
