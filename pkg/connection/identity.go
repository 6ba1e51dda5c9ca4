package connection

import (
	"slices"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// TargetID is the target's address without what makes no difference. Links belong
// to it.
func (c *Connection) TargetID() string { return targetID(c.Target.URL) }

// MatchingPaths are the SCIM attributes, as one PATCH operation writes them, whose
// change makes a resource another one for the people who use it: the first one it
// is matched by, and a user's userName.
func (c *Connection) MatchingPaths(kind directoryv1.Kind) []string {
	match, paths := c.Users.Match, []string{"userName"}
	if kind == directoryv1.Kind_KIND_GROUP {
		match, paths = c.Groups.Match, nil
	}
	if len(match) == 0 {
		return paths
	}
	if path, err := scim.UnitPath(match[0]); err == nil && !slices.Contains(paths, path) {
		paths = append(paths, path)
	}
	return paths
}

// MaskedPaths are the mapped SCIM attributes whose values are never shown, sorted.
func (c *Connection) MaskedPaths(kind directoryv1.Kind) []string {
	attributes := c.Users.Attributes
	if kind == directoryv1.Kind_KIND_GROUP {
		attributes = c.Groups.Attributes
	}
	var paths []string
	for path, a := range attributes {
		if a.Mask {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}
