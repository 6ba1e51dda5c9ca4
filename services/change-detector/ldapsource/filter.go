package ldapsource

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

const (
	// maxFilterDepth bounds how deep a filter may nest.
	maxFilterDepth = 100
	// maxMemberships bounds the memberships that a filter may name: a Table holds
	// 2^6 answers.
	maxMemberships = 6
)

// Filter is a parsed search filter (RFC 4515). It is evaluated on entries as the
// directory would do it, by the rules of its schema (see With) or else by those of
// the well-known attributes.
//
// Two kinds of clauses do not show on the entry. A membership, (memberOf=…), is a
// question for who knows the groups: Table answers for either case. A remote
// clause, which only the directory can evaluate, is answered by Entry.Matches.
type Filter struct {
	root        clause
	memberships []Membership
	remote      []string
}

// Membership is a clause about a group: (memberOf=…), or, nested,
// (memberOf:1.2.840.113556.1.4.1941:=…).
type Membership struct {
	Group  string // normalised DN
	Nested bool   // members of member groups count, too
}

// Table says for each combination of memberships whether an entry matches: bit i
// answers for a member of exactly those groups whose bits are set in i.
type Table uint64

// At reports whether an entry with these memberships matches.
func (t Table) At(members uint) bool { return t>>members&1 != 0 }

// Open reports whether an entry matches whatever the unknown memberships are, and
// whether it does for some of them.
func (t Table) Open(members, unknown uint) (always, possibly bool) {
	members &^= unknown
	always = true
	for guess := unknown; ; guess = (guess - 1) & unknown { // every subset of unknown
		if t.At(members | guess) {
			possibly = true
		} else {
			always = false
		}
		if guess == 0 {
			return always, possibly
		}
	}
}

// truth is LDAP's three-valued logic (RFC 4511 section 4.5.1.7): an assertion that
// makes no sense is undefined, and so is its negation.
type truth int8

const (
	no        truth = -1
	undefined truth = 0
	yes       truth = 1
)

// clause is a part of a filter.
type clause interface {
	// eval looks at an entry; bit i of members says whether membership i is given.
	eval(e *Entry, members uint) truth
	// with is the same clause by the rules of a schema.
	with(s *Schema) clause
}

// ParseFilter parses a filter. memberOf are attributes, besides memberOf and
// isMemberOf, that hold the groups of an entry.
func ParseFilter(text string, memberOf ...string) (*Filter, error) {
	packet, err := ldap.CompileFilter(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("parse the filter %q: %w", text, err)
	}
	p := &filterParser{memberOf: memberOf, filter: &Filter{}}
	if p.filter.root, err = p.clause(packet, 0, false); err != nil {
		return nil, fmt.Errorf("parse the filter %q: %w", text, err)
	}
	return p.filter, nil
}

// With returns the filter as the directory with this schema evaluates it; a nil
// schema stands for the well-known attributes.
func (f *Filter) With(s *Schema) *Filter {
	return &Filter{root: f.root.with(s), memberships: f.memberships, remote: f.remote}
}

// Match reports whether an entry matches that is in none of the groups.
func (f *Filter) Match(e *Entry) bool { return f.root.eval(e, 0) == yes }

// Table evaluates the filter for each combination of its memberships.
func (f *Filter) Table(e *Entry) Table {
	var t Table
	for members := range uint(1) << len(f.memberships) {
		if f.root.eval(e, members) == yes {
			t |= 1 << members
		}
	}
	return t
}

// Memberships are the clauses about groups; their places are the bits of Table.
func (f *Filter) Memberships() []Membership { return slices.Clone(f.memberships) }

// Remote are the clauses that only the directory can evaluate, as filters of their
// own. One below a negation is asked for negated: what the directory cannot
// evaluate either matches neither.
func (f *Filter) Remote() []string { return slices.Clone(f.remote) }

// Attributes are the attributes that the filter reads, sorted, in lower case.
func (f *Filter) Attributes() []string {
	var names []string
	for one := range leaves(f.root) {
		if i, ok := one.(*item); ok {
			names = append(names, i.description())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// leaves visits the clauses that have no others in them.
func leaves(c clause) func(yield func(clause) bool) {
	return func(yield func(clause) bool) {
		j, ok := c.(*junction)
		if !ok {
			yield(c)
			return
		}
		for _, part := range j.parts {
			for leaf := range leaves(part) {
				if !yield(leaf) {
					return
				}
			}
		}
	}
}

// junction is and, or, or not.
type junction struct {
	op    uint64
	parts []clause
}

func (j *junction) eval(e *Entry, members uint) truth {
	switch j.op {
	case ldap.FilterNot:
		return -j.parts[0].eval(e, members)
	case ldap.FilterOr:
		result := no
		for _, part := range j.parts {
			result = max(result, part.eval(e, members))
		}
		return result
	}
	result := yes
	for _, part := range j.parts {
		result = min(result, part.eval(e, members))
	}
	return result
}

func (j *junction) with(s *Schema) clause {
	bound := &junction{op: j.op, parts: make([]clause, len(j.parts))}
	for i, part := range j.parts {
		bound.parts[i] = part.with(s)
	}
	return bound
}

// membership is a clause about a group, by its place in Filter.memberships.
type membership int

func (m membership) eval(_ *Entry, members uint) truth { return truthOf(members>>m&1 != 0) }

func (m membership) with(*Schema) clause { return m }

// remote is a clause that the directory evaluated. Negated, it stands below a
// negation, and its text says (!…).
type remote struct {
	text    string
	negated bool
}

func (r *remote) eval(e *Entry, _ uint) truth {
	switch {
	case !slices.Contains(e.Matches, r.text):
		return undefined
	case r.negated:
		return no
	}
	return yes
}

func (r *remote) with(*Schema) clause { return r }
