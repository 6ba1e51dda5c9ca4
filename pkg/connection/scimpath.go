package connection

import "github.com/rollcall-scim/rollcall/pkg/scim"

// parsePath reads a SCIM attribute path.
func parsePath(path string) (scim.Path, error) { return scim.ParsePath(path) }

// sameAttribute reports whether a mapped path provides what a match path asks
// for: emails.value is provided by emails[type eq "work"].value.
func sameAttribute(match, mapped scim.Path) bool {
	return match.URN == mapped.URN && match.Attribute == mapped.Attribute && match.Sub == mapped.Sub &&
		(match.Filter == nil || mapped.Filter != nil && *match.Filter == *mapped.Filter)
}

// reservedPath says why a SCIM attribute cannot be mapped, and what to do.
func reservedPath(p scim.Path, groups bool) (problem, cure string) {
	if p.URN != "" {
		return "", ""
	}
	switch p.Attribute {
	case "active":
		if !groups {
			return "is set by Rollcall", "write the source's users.enabled instead"
		}
	case "id", "meta", "schemas":
		return "belongs to the target", "leave it out"
	case "password":
		return "cannot be mapped", "leave it out: no passwords are read or sent"
	case "groups":
		return "is read-only in SCIM", "write connections.<name>.groups to keep groups"
	case "members":
		return "is set by Rollcall", "leave it out: members come from the source's groups.members"
	case "displayName":
		if groups {
			return "is set by Rollcall", "write the expression at groups.name"
		}
	}
	return "", ""
}
