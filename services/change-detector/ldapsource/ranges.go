package ldapsource

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// maxRanges bounds how often the rest of one attribute is asked for.
const maxRanges = 100_000

// hasRange reports whether the server sent only a part of an attribute's values,
// as Active Directory does beyond 1,500: member;range=0-1499.
func hasRange(e *ldap.Entry) bool {
	for _, a := range e.Attributes {
		if _, _, ok := parseRange(a.Name); ok {
			return true
		}
	}
	return false
}

// parseRange takes "member;range=0-1499" apart into the name and the number of
// the next value; next is -1 for the last part, "member;range=1500-*".
func parseRange(description string) (name string, next int, ok bool) {
	lower := strings.ToLower(description)
	at := strings.Index(lower, ";range=")
	if at < 0 {
		return "", 0, false
	}
	_, end, ok := strings.Cut(lower[at+len(";range="):], "-")
	if !ok {
		return "", 0, false
	}
	if end == "*" {
		return description[:at], -1, true
	}
	last, err := strconv.Atoi(end)
	if err != nil || last < 0 {
		return "", 0, false
	}
	return description[:at], last + 1, true
}

// joinRanges returns the entry with all values; fetch reads one attribute of it.
func joinRanges(e *ldap.Entry, fetch func(string) (*ldap.Entry, error)) (*ldap.Entry, error) {
	out := &ldap.Entry{DN: e.DN}
	ranged := map[string]bool{}
	for _, a := range e.Attributes {
		name, next, ok := parseRange(a.Name)
		if !ok {
			continue
		}
		ranged[strings.ToLower(name)] = true
		whole := &ldap.EntryAttribute{Name: name, Values: a.Values, ByteValues: a.ByteValues}
		if err := appendRanges(whole, next, fetch); err != nil {
			return nil, err
		}
		out.Attributes = append(out.Attributes, whole)
	}
	for _, a := range e.Attributes {
		// An empty "member" often stands beside "member;range=…".
		if _, _, ok := parseRange(a.Name); !ok && !ranged[strings.ToLower(a.Name)] {
			out.Attributes = append(out.Attributes, a)
		}
	}
	return out, nil
}

func appendRanges(whole *ldap.EntryAttribute, next int, fetch func(string) (*ldap.Entry, error)) error {
	for i := 0; next >= 0; i++ {
		if i == maxRanges {
			return fmt.Errorf("%w: %s has no end", ErrIncomplete, whole.Name)
		}
		e, err := fetch(fmt.Sprintf("%s;range=%d-*", whole.Name, next))
		if err != nil {
			return err
		}
		part, after := findRange(e, whole.Name)
		if part == nil || after >= 0 && after <= next {
			return fmt.Errorf("%w: %s ends at value %d", ErrIncomplete, whole.Name, next)
		}
		whole.Values = append(whole.Values, part.Values...)
		whole.ByteValues = append(whole.ByteValues, part.ByteValues...)
		next = after
	}
	return nil
}

func findRange(e *ldap.Entry, name string) (*ldap.EntryAttribute, int) {
	for _, a := range e.Attributes {
		if n, next, ok := parseRange(a.Name); ok && strings.EqualFold(n, name) {
			return a, next
		}
	}
	return nil, 0
}
