package mapping

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
)

// GroupsMarker stands in an attribute set for the names of a user's groups
// (user.groups). It is no directory attribute: the colon keeps it apart.
const GroupsMarker = "rollcall:groups"

// Set is an attribute set: the lower-case names of the directory attributes that
// a detector read, and GroupsMarker when it read the names of groups. A nil Set
// holds everything.
type Set map[string]struct{}

// NewSet returns the set of names, which may be in any case. Without names it
// returns the empty set, not the one that holds everything.
func NewSet(names []string) Set {
	s := make(Set, len(names))
	for _, name := range names {
		s[strings.ToLower(name)] = struct{}{}
	}
	return s
}

// Contains reports whether name was read, in any case.
func (s Set) Contains(name string) bool {
	if s == nil {
		return true
	}
	if _, ok := s[name]; ok {
		return true
	}
	_, ok := s[strings.ToLower(name)]
	return ok
}

// Names returns everything in the set, sorted: what is stored, and what NewSet
// makes the same set of.
func (s Set) Names() []string {
	return slices.Sorted(maps.Keys(s))
}

// Attributes returns the directory attributes in the set, sorted: what is asked
// of the directory. It is Names without GroupsMarker.
func (s Set) Attributes() []string {
	return slices.DeleteFunc(s.Names(), func(name string) bool { return name == GroupsMarker })
}

// Union returns the names of both sets; nil when one of them holds everything.
func (s Set) Union(other Set) Set {
	if s == nil || other == nil {
		return nil
	}
	both := maps.Clone(s)
	maps.Copy(both, other)
	return both
}

// ID returns the id that stands in Change.attribute_set: 16 hexadecimal digits
// of a hash over the sorted names, empty for the set that holds everything.
func (s Set) ID() string {
	if s == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join(s.Names(), "\x00")))
	return hex.EncodeToString(sum[:8])
}
