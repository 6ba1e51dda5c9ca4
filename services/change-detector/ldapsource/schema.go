package ldapsource

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxSuperiors bounds how long a chain of types or classes may be.
const maxSuperiors = 32

// Schema is what a directory says about its attributes and object classes, as far
// as filters need it. A nil Schema knows only the well-known ones.
type Schema struct {
	types   map[string]*attributeType // by every name and OID, in lower case
	classes map[string]*class
	dialect Dialect
	sum     [sha256.Size]byte // of the definitions
}

// Dialect is in which way a server departs from what others do with a schema.
type Dialect int

const (
	// DialectStandard takes the rules that are named, and those of the syntax where
	// none is.
	DialectStandard Dialect = iota
	// DialectOpenLDAP takes only the rules that are named.
	DialectOpenLDAP
	// Dialect389 knows no subtypes, orders numbers only by a rule that is named, and
	// calls false what makes no sense.
	Dialect389
	// DialectSamba calls false what makes no sense.
	DialectSamba
)

// Equal reports whether two schemas were made of the same definitions.
func (s *Schema) Equal(other *Schema) bool {
	if s == nil || other == nil {
		return s == other
	}
	return s.sum == other.sum
}

// attributeType is one attribute type, with what it has of itself.
type attributeType struct {
	names    []string // the first one is what the directory calls it; the OID is the last
	superior string
	syntax   string
	named    [3]string // the names of its rules: equality, ordering, substrings
	rules    matching  // with what it inherits
}

type class struct {
	names     []string
	superiors []string
}

// ParseSchema reads the attributeTypes and objectClasses of a subschema entry (RFC
// 4512 section 4.1). A definition that cannot be read is left out.
func ParseSchema(attributeTypes, objectClasses []string, dialect Dialect) *Schema {
	s := &Schema{types: map[string]*attributeType{}, classes: map[string]*class{}, dialect: dialect}
	for _, text := range attributeTypes {
		d := parseDefinition(text)
		t := &attributeType{names: d.names(), superior: d.first("SUP"), syntax: syntaxOf(d.first("SYNTAX"))}
		for i, key := range []string{"EQUALITY", "ORDERING", "SUBSTR"} {
			t.named[i] = d.first(key)
		}
		enter(s.types, t.names, t)
	}
	for _, text := range objectClasses {
		d := parseDefinition(text)
		c := &class{names: d.names(), superiors: d["SUP"]}
		enter(s.classes, c.names, c)
	}
	for _, t := range s.types {
		t.rules = s.matching(t)
	}
	s.sum = sha256.Sum256(fmt.Appendf(nil, "%q %q %d", attributeTypes, objectClasses, dialect))
	return s
}

// enter makes a definition known by its names; what was there first stays.
func enter[T any](index map[string]T, names []string, one T) {
	for _, name := range names {
		if _, taken := index[name]; !taken {
			index[name] = one
		}
	}
}

// syntaxOf cuts the length that may follow: 1.3.6.…15{64}.
func syntaxOf(s string) string {
	s, _, _ = strings.Cut(s, "{")
	return s
}

// above visits a type and those it derives from.
func (s *Schema) above(t *attributeType) func(yield func(*attributeType) bool) {
	return func(yield func(*attributeType) bool) {
		for range maxSuperiors {
			if t == nil || !yield(t) {
				return
			}
			t = s.types[t.superior]
		}
	}
}

// matching is how the values of a type compare: by the nearest rule that is named,
// or, but on OpenLDAP, by the nearest syntax.
func (s *Schema) matching(t *attributeType) matching {
	var named [3]string
	syntax := ""
	for up := range s.above(t) {
		for i, name := range up.named {
			if named[i] == "" {
				named[i] = name
			}
		}
		if syntax == "" {
			syntax = up.syntax
		}
	}
	fallback := s.fallback(t, syntax)
	pick := func(i int, otherwise rule) rule {
		r, ok := ruleNames[named[i]]
		switch {
		case ok && r == boolean && s.dialect == DialectOpenLDAP:
			return booleanExact
		case ok:
			return r
		case s.dialect == DialectOpenLDAP:
			return noRule
		}
		return otherwise
	}
	m := matching{pick(0, fallback.equality), pick(1, fallback.ordering), pick(2, fallback.substrings)}
	if r := wellKnown[t.names[0]]; r == objectClass {
		m.equality = r
	}
	return m
}

// fallback is what a syntax says; some attributes of Active Directory have their
// own ways.
func (s *Schema) fallback(t *attributeType, syntax string) matching {
	if r := wellKnown[t.names[0]]; r == sid || r == objectCategory {
		return r.everywhere()
	}
	r, ok := syntaxes[syntax]
	if !ok {
		return wellKnownMatching(t.names[0])
	}
	m := r.everywhere()
	if s.dialect == Dialect389 && r == integer {
		m.ordering = noRule
	}
	return m
}

// nonsense is what an assertion is that makes no sense.
func (s *Schema) nonsense() truth {
	if s != nil && (s.dialect == Dialect389 || s.dialect == DialectSamba) {
		return no
	}
	return undefined
}

// attribute finds an attribute: by which names its values and those of its subtypes
// come, how they compare, and whether the schema does not know it.
func (s *Schema) attribute(name string) (accepted map[string]bool, rules matching, unknown bool) {
	accepted = map[string]bool{name: true}
	if s == nil {
		return accepted, wellKnownMatching(name), false
	}
	wanted := s.types[name]
	if wanted == nil {
		return accepted, wellKnownMatching(name), true
	}
	for _, t := range s.types {
		for up := range s.above(t) {
			if up == wanted && (t == wanted || s.dialect != Dialect389) {
				for _, name := range t.names {
					accepted[name] = true
				}
				break
			}
		}
	}
	return accepted, wanted.rules, false
}

// names are attributes by every name of theirs, and of their subtypes.
func (s *Schema) names(descriptions map[string]bool) map[string]bool {
	all := maps.Clone(descriptions)
	for description := range descriptions {
		names, _, _ := s.attribute(baseName(description))
		for name := range names {
			all[name] = true
		}
	}
	return all
}

// canonical is what the directory calls an attribute; empty when it is unknown.
func (s *Schema) canonical(name string) string {
	if t := s.types[name]; t != nil {
		return t.names[0]
	}
	return ""
}

// classEquality returns the test of one object class for being the wanted one or
// derived from it; nil for a class that nobody knows.
func (s *Schema) classEquality(wanted string) func([]byte) truth {
	if s == nil {
		return func(v []byte) truth {
			return truthOf(wanted == "top" || derives(fold(string(v)), wanted, func(name string) []string { return superclasses[name] }))
		}
	}
	known := s.classes[wanted]
	if known == nil {
		return nil
	}
	return func(v []byte) truth {
		return truthOf(derives(s.className(fold(string(v))), known.names[0], func(name string) []string {
			c := s.classes[name]
			if c == nil {
				return nil
			}
			var superiors []string
			for _, superior := range c.superiors {
				superiors = append(superiors, s.className(superior))
			}
			return superiors
		}))
	}
}

func (s *Schema) className(name string) string {
	if c := s.classes[name]; c != nil {
		return c.names[0]
	}
	return name
}

// derives reports whether a class is another one, or below it.
func derives(name, wanted string, superiors func(string) []string) bool {
	for todo, n := []string{name}, 0; len(todo) > 0 && n < maxSuperiors; n++ {
		if slices.Contains(todo, wanted) {
			return true
		}
		var above []string
		for _, one := range todo {
			above = append(above, superiors(one)...)
		}
		slices.Sort(above)
		todo = slices.Compact(above)
	}
	return false
}

// definition is a definition of RFC 4512, by keyword; under the empty one is its
// OID. Names are in lower case.
type definition map[string][]string

// first is the first word of a keyword.
func (d definition) first(key string) string {
	if len(d[key]) == 0 {
		return ""
	}
	return d[key][0]
}

// names are the names of a definition, the first one first, then its OID.
func (d definition) names() []string { return append(slices.Clone(d["NAME"]), d[""]...) }

// wanted are the keywords that are read, and whether they have words.
var keywords = map[string]bool{"NAME": true, "SUP": true, "EQUALITY": true, "ORDERING": true, "SUBSTR": true, "SYNTAX": true}

// parseDefinition reads ( OID NAME ( 'a' 'b' ) SUP c … ). What it does not know it
// passes over.
func parseDefinition(text string) definition {
	words := definitionWords(text)
	d := definition{}
	if len(words) < 2 || words[0] != "(" {
		return d
	}
	if words[1] != ")" {
		d[""] = []string{strings.ToLower(words[1])}
	}
	for i := 2; i < len(words); i++ {
		if keywords[words[i]] && d[words[i]] == nil {
			d[words[i]] = values(words[i+1:])
		}
	}
	return d
}

// values are the words behind a keyword: one, or several in brackets.
func values(words []string) []string {
	if len(words) == 0 || words[0] == ")" {
		return nil
	}
	if words[0] != "(" {
		return []string{bare(words[0])}
	}
	var list []string
	for _, word := range words[1:] {
		switch word {
		case ")":
			return list
		case "$":
		default:
			list = append(list, bare(word))
		}
	}
	return list
}

func bare(word string) string { return strings.ToLower(strings.Trim(word, "'")) }

// definitionWords cuts a definition into brackets, words, and quoted strings that
// keep their quotes.
func definitionWords(text string) []string {
	var words []string
	for text = strings.TrimLeft(text, " \t\r\n"); text != ""; text = strings.TrimLeft(text, " \t\r\n") {
		n := 1
		switch text[0] {
		case '(', ')', '$':
		case '\'':
			if end := strings.IndexByte(text[1:], '\''); end >= 0 {
				n = end + 2
			} else {
				n = len(text)
			}
		default:
			if n = strings.IndexAny(text, " \t\r\n()$'"); n < 0 {
				n = len(text)
			}
		}
		words = append(words, text[:n])
		text = text[n:]
	}
	return words
}
