// Package compare says whether a SCIM target holds what an LDAP directory says. It
// is the demo's judge and shares no code with the product: it reads ldapsearch's
// output and SCIM's JSON by itself, has its own idea of nested groups and of
// disabled people, and imports the standard library alone.
package compare

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// State is what one side holds.
type State struct {
	Users  map[string]User     // by userName
	Groups map[string][]string // userNames of the members, sorted, by displayName
	Faults []string            // what must not be, whatever the other side holds
	Names  map[string]string   // of a target: userName or displayName by resource id
}

// User is one account.
type User struct {
	Active     bool
	Attributes map[string]string // by the names in the table below; none is empty
	Departed   bool              // of a directory: the entry is gone, its attributes are unknown
}

// attributes are the SCIM attributes that are compared, and the directory's
// attribute that each of them comes from.
var attributes = map[string]string{ //nolint:gochecknoglobals // a table
	"name.givenName":  "givenname",
	"name.familyName": "sn",
	"displayName":     "cn",
	"emails.work":     "mail",
	"title":           "title",
	"department":      "departmentnumber",
	"employeeNumber":  "employeenumber",
}

func newState() State {
	return State{Users: map[string]User{}, Groups: map[string][]string{}, Names: map[string]string{}}
}

// Diff says in words how the target differs from what it should hold, sorted. No
// line means that both are equal.
func Diff(want, got State) []string {
	lines := slices.Concat(prefixed("directory: ", want.Faults), prefixed("target: ", got.Faults))
	for _, name := range keys(want.Users, got.Users) {
		w, wanted := want.Users[name]
		g, there := got.Users[name]
		switch {
		case !there:
			lines = append(lines, fmt.Sprintf("user %s: is missing on the target", name))
		case !wanted:
			lines = append(lines, fmt.Sprintf("user %s: is on the target and should not be", name))
		default:
			lines = append(lines, prefixed("user "+name+": ", diffUser(w, g))...)
		}
	}
	for _, name := range keys(want.Groups, got.Groups) {
		w, wanted := want.Groups[name]
		g, there := got.Groups[name]
		switch {
		case !there:
			lines = append(lines, fmt.Sprintf("group %s: is missing on the target", name))
		case !wanted:
			lines = append(lines, fmt.Sprintf("group %s: is on the target and should not be", name))
		default:
			lines = append(lines, prefixed("group "+name+": ", diffMembers(w, g))...)
		}
	}
	return lines
}

func diffUser(want, got User) (lines []string) {
	if want.Active != got.Active {
		lines = append(lines, fmt.Sprintf("active is %t, want %t", got.Active, want.Active))
	}
	if want.Departed {
		return lines
	}
	for _, name := range keys(want.Attributes, got.Attributes) {
		if w, g := want.Attributes[name], got.Attributes[name]; w != g {
			lines = append(lines, fmt.Sprintf("%s is %q, want %q", name, g, w))
		}
	}
	return lines
}

func diffMembers(want, got []string) (lines []string) {
	for _, name := range want {
		if !slices.Contains(got, name) {
			lines = append(lines, name+" is no member on the target and should be one")
		}
	}
	for _, name := range got {
		if !slices.Contains(want, name) {
			lines = append(lines, name+" is a member on the target and should not be one")
		}
	}
	return lines
}

// keys are the sorted keys of both maps.
func keys[V any](a, b map[string]V) []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(all)
	return slices.Compact(all)
}

func prefixed(prefix string, lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, line := range lines {
		out = append(out, prefix+strings.TrimSpace(line))
	}
	return out
}
