package ldapsource

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// maxRanges bounds how often the rest of one attribute is asked for.
const maxRanges = 100_000

const rangeOption = ";range="

// hasRange reports whether the server sent only a part of an attribute's values,
// as Active Directory does beyond 1,500: member;range=0-1499.
func hasRange(e *ldap.Entry) bool {
	return slices.ContainsFunc(e.Attributes, func(a *ldap.EntryAttribute) bool { return isRange(a.Name) })
}

func isRange(description string) bool {
	return strings.IndexByte(description, ';') >= 0 && strings.Contains(strings.ToLower(description), rangeOption)
}

// span says which values of an attribute came.
type span struct {
	name  string
	first int
	next  int // behind the last one; -1 where that is the last of all
}

// parseRange takes "member;range=0-1499" or "member;range=1500-*" apart.
func parseRange(description string) (span, bool) {
	lower := strings.ToLower(description)
	at := strings.Index(lower, rangeOption)
	if at < 0 || len(lower) != len(description) {
		return span{}, false
	}
	first, last, _ := strings.Cut(lower[at+len(rangeOption):], "-")
	s := span{name: description[:at], next: -1}
	var err error
	if s.first, err = strconv.Atoi(first); err != nil || s.first < 0 {
		return span{}, false
	}
	if last == "*" {
		return s, true
	}
	n, err := strconv.Atoi(last)
	if err != nil || n < s.first || n == math.MaxInt {
		return span{}, false
	}
	s.next = n + 1
	return s, true
}

// joinRanges returns the entry with all values; fetch reads one attribute of it.
func joinRanges(e *ldap.Entry, fetch func(string) (*ldap.Entry, error)) (*ldap.Entry, error) {
	out := &ldap.Entry{DN: e.DN}
	joined := map[string]bool{}
	for _, a := range e.Attributes {
		if !isRange(a.Name) {
			continue
		}
		s, ok := parseRange(a.Name)
		if !ok || s.first != 0 {
			return nil, fmt.Errorf("%w: the values begin with %s", ErrIncomplete, a.Name)
		}
		joined[strings.ToLower(s.name)] = true
		whole := &ldap.EntryAttribute{Name: s.name, Values: a.Values, ByteValues: a.ByteValues}
		if err := appendRanges(whole, s.next, fetch); err != nil {
			return nil, err
		}
		out.Attributes = append(out.Attributes, whole)
	}
	for _, a := range e.Attributes {
		// An empty "member" often stands beside "member;range=…".
		if !isRange(a.Name) && !joined[strings.ToLower(a.Name)] {
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
		part, s := findRange(e, whole.Name)
		if part == nil || s.first != next {
			return fmt.Errorf("%w: %s ends at value %d", ErrIncomplete, whole.Name, next)
		}
		whole.Values = append(whole.Values, part.Values...)
		whole.ByteValues = append(whole.ByteValues, part.ByteValues...)
		next = s.next
	}
	return nil
}

func findRange(e *ldap.Entry, name string) (*ldap.EntryAttribute, span) {
	for _, a := range e.Attributes {
		if s, ok := parseRange(a.Name); ok && strings.EqualFold(s.name, name) {
			return a, s
		}
	}
	return nil, span{}
}
