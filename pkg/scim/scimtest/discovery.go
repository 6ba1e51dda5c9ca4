package scimtest

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

const schemaPrefix = "urn:ietf:params:scim:schemas:core:2.0:"

// serviceProviderConfig is RFC 7643 section 5.
func (s *Server) serviceProviderConfig() (answer, error) {
	if s.quirks().MissingCapabilities {
		return answer{}, fail(http.StatusNotFound, "", "no ServiceProviderConfig here")
	}
	flag := func(on bool) map[string]any { return map[string]any{"supported": on} }
	return answer{status: http.StatusOK, body: map[string]any{
		"schemas":        []string{schemaPrefix + "ServiceProviderConfig"},
		"patch":          flag(!s.quirks().NoPatch),
		"bulk":           map[string]any{"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
		"filter":         map[string]any{"supported": !s.quirks().NoFilters, "maxResults": s.opts.MaxPage},
		"changePassword": flag(true),
		"sort":           flag(false),
		"etag":           flag(false),
		"authenticationSchemes": []map[string]any{{
			"type": "oauthbearertoken", "name": "Bearer token", "description": "A static token.",
		}},
		"meta": map[string]any{"resourceType": "ServiceProviderConfig", "location": s.URL() + "/ServiceProviderConfig"},
	}}, nil
}

func (s *Server) resourceTypes() answer {
	describe := func(t *resourceType) map[string]any {
		out := map[string]any{
			"schemas": []string{schemaPrefix + "ResourceType"}, "id": t.kind.String(), "name": t.kind.String(),
			"endpoint": t.endpoint, "schema": t.kind.Schema(),
		}
		if len(t.extensions) > 0 {
			var extensions []map[string]any
			for urn := range t.extensions {
				extensions = append(extensions, map[string]any{"schema": urn, "required": false})
			}
			out["schemaExtensions"] = extensions
		}
		return out
	}
	return listAnswer([]any{describe(userType), describe(groupType)}, 2, 1)
}

func schemas() answer {
	describe := func(urn, name string, definitions []definition) map[string]any {
		return map[string]any{"schemas": []string{schemaPrefix + "Schema"}, "id": urn, "name": name, "attributes": describeAll(definitions)}
	}
	all := []any{
		describe(scim.SchemaUser, "User", userAttributes),
		describe(scim.SchemaGroup, "Group", groupAttributes),
	}
	for _, t := range []*resourceType{userType, groupType} {
		for _, urn := range slices.Sorted(maps.Keys(t.extensions)) {
			all = append(all, describe(urn, urn[strings.LastIndexByte(urn, ':')+1:], t.extensions[urn]))
		}
	}
	return listAnswer(all, len(all), 1)
}

func describeAll(definitions []definition) []map[string]any {
	out := make([]map[string]any, len(definitions))
	for i := range definitions {
		out[i] = definitions[i].describe()
	}
	return out
}

func (d *definition) describe() map[string]any {
	mutability, returned, uniqueness := "readWrite", "default", "none"
	switch {
	case d.never:
		mutability, returned = "writeOnly", "never"
	case d.readOnly:
		mutability = "readOnly"
	case d.immutable:
		mutability = "immutable"
	}
	if d.unique {
		uniqueness = "server"
	}
	out := map[string]any{
		"name": d.name, "type": d.typ, "multiValued": d.multi, "required": d.required, "caseExact": d.caseExact,
		"mutability": mutability, "returned": returned, "uniqueness": uniqueness,
	}
	if len(d.subs) > 0 {
		out["subAttributes"] = describeAll(d.subs)
	}
	return out
}

func listAnswer(resources []any, total, start int) answer {
	if resources == nil {
		resources = []any{}
	}
	return answer{status: http.StatusOK, body: map[string]any{
		"schemas": []string{scim.SchemaListResponse}, "totalResults": total,
		"startIndex": start, "itemsPerPage": len(resources), "Resources": resources,
	}}
}
