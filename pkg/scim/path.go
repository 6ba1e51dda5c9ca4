package scim

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const maxPathLength = 1024

var errPath = errors.New("not a SCIM attribute path")

// Path names one attribute of a resource, in canonical form:
//
//	userName
//	name.givenName
//	emails[type eq "work"].value
//	urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department
type Path struct {
	URN       string       // extension schema; empty for the core schema
	Attribute string       // top-level attribute
	Filter    *ValueFilter // which value of a multi-valued attribute
	Sub       string       // sub-attribute
}

// ValueFilter picks the values of a multi-valued attribute whose sub-attribute
// equals a string.
type ValueFilter struct {
	Attribute string
	Value     string
}

// String is the canonical form; ParsePath reads it back.
func (p Path) String() string {
	var b strings.Builder
	if p.URN != "" {
		b.WriteString(p.URN + ":")
	}
	b.WriteString(p.Attribute)
	if p.Filter != nil {
		b.WriteString("[" + p.Filter.Attribute + " eq " + quote(p.Filter.Value) + "]")
	}
	if p.Sub != "" {
		b.WriteString("." + p.Sub)
	}
	return b.String()
}

// ParsePath reads an attribute path. Names of known attributes are brought to
// their canonical case and the URN of a core schema is dropped.
func ParsePath(s string) (Path, error) {
	p, err := parsePath(s)
	if err != nil {
		return Path{}, fmt.Errorf("%w: %q: %w", errPath, clip(s, 100), err)
	}
	return p, nil
}

func parsePath(s string) (Path, error) {
	if s == "" || len(s) > maxPathLength || !utf8.ValidString(s) {
		return Path{}, fmt.Errorf("want 1 to %d characters of UTF-8, such as userName", maxPathLength)
	}
	urn, rest, err := cutURN(s)
	if err != nil {
		return Path{}, err
	}
	p := Path{URN: urn}
	p.Attribute, rest = cutName(rest)
	if p.Attribute == "" {
		return Path{}, errors.New("an attribute name starts with a letter, such as userName")
	}
	if strings.HasPrefix(rest, "[") {
		if p.Filter, rest, err = cutFilter(rest); err != nil {
			return Path{}, err
		}
	}
	if strings.HasPrefix(rest, ".") {
		p.Sub, rest = cutName(rest[1:])
		if p.Sub == "" {
			return Path{}, errors.New("a sub-attribute name follows the dot, such as name.givenName")
		}
	}
	if rest != "" {
		return Path{}, fmt.Errorf("unexpected %q; write attribute, attribute.sub or attribute[type eq \"work\"].sub", clip(rest, 40))
	}
	return p.canonical()
}

// cutURN splits the schema URN off. A URN holds dots ("2.0"), so the last colon
// before any value filter ends it.
func cutURN(s string) (urn, rest string, err error) {
	if len(s) < 4 || !strings.EqualFold(s[:4], "urn:") {
		return "", s, nil
	}
	head, _, _ := strings.Cut(s, "[")
	i := strings.LastIndexByte(head, ':')
	urn, rest = head[:i], s[i+1:]
	if strings.Count(urn, ":") < 2 || strings.ContainsFunc(urn, notInURN) {
		return "", "", errors.New("the schema URN is incomplete; write urn:...:User:attribute")
	}
	if strings.EqualFold(rest, "User") || strings.EqualFold(rest, "Group") {
		return "", "", fmt.Errorf("this names a schema; add an attribute, such as %s:department", clip(s, 100))
	}
	return canonicalURN(urn), rest, nil
}

func notInURN(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"\[]<>{}^`+"`|", r)
}

func canonicalURN(urn string) string {
	switch {
	case strings.EqualFold(urn, SchemaUser), strings.EqualFold(urn, SchemaGroup):
		return ""
	case strings.EqualFold(urn, SchemaEnterpriseUser):
		return SchemaEnterpriseUser
	}
	return urn
}

// cutName takes an attribute name (RFC 7644 section 3.10) off the front.
func cutName(s string) (name, rest string) {
	for i, r := range []byte(s) {
		letter := r|0x20 >= 'a' && r|0x20 <= 'z' || r == '$' && i == 0
		if letter || i > 0 && (r >= '0' && r <= '9' || r == '-' || r == '_') {
			continue
		}
		return s[:i], s[i:]
	}
	return s, ""
}

// cutFilter takes `[name eq "value"]` off the front.
func cutFilter(s string) (*ValueFilter, string, error) {
	cure := errors.New(`a value filter looks like [type eq "work"]`)
	name, rest := cutName(strings.TrimLeft(s[1:], " "))
	op, rest, ok := strings.Cut(strings.TrimLeft(rest, " "), " ")
	rest = strings.TrimLeft(rest, " ")
	if name == "" || !ok || !strings.EqualFold(op, "eq") || !strings.HasPrefix(rest, `"`) {
		return nil, "", cure
	}
	end := closingQuote(rest)
	if end < 0 {
		return nil, "", cure
	}
	var value string
	if err := json.Unmarshal([]byte(rest[:end+1]), &value); err != nil {
		return nil, "", cure
	}
	rest = strings.TrimLeft(rest[end+1:], " ")
	if value == "" || !strings.HasPrefix(rest, "]") {
		return nil, "", cure
	}
	return &ValueFilter{Attribute: name, Value: value}, rest[1:], nil
}

// closingQuote is the index of the quote that ends the JSON string at the start
// of s, or -1.
func closingQuote(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// canonical brings known names to their case and refuses what cannot be.
func (p Path) canonical() (Path, error) {
	if p.URN == "" || p.URN == SchemaEnterpriseUser {
		p.Sub = canonicalSub(p.Sub)
	}
	if p.Filter != nil {
		p.Filter.Attribute = canonicalSub(p.Filter.Attribute)
	}
	known := lookUp(p.URN, p.Attribute)
	if known == nil {
		return p, nil
	}
	p.Attribute = known.name
	switch {
	case p.Filter != nil && known.shape != shapeMulti:
		return Path{}, fmt.Errorf("%s has a single value; drop the filter", p.Attribute)
	case p.Sub != "" && known.shape == shapeSimple:
		return Path{}, fmt.Errorf("%s has no sub-attributes; write %s", p.Attribute, p.Attribute)
	}
	return p, nil
}

// quote writes s as a JSON string without escaping <, > and &.
func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always encodes
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// clip shortens a string for a message.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
