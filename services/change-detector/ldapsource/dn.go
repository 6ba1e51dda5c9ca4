package ldapsource

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// NormalizeDN brings a distinguished name (RFC 4514) into the form by which two
// names of one entry are equal strings: types and values in lower case, short
// names for the well-known types, spaces squeezed, escapes resolved, the parts of
// a multi-valued RDN sorted. What must stay escaped is written as \xx, so that in
// a normalised name every comma separates two RDNs:
//
//	CN=Doe\, John , OU=People  →  cn=doe\2c john,ou=people
//
// The result is a valid name of the same entry, and normalising it changes
// nothing. The empty name is the root.
func NormalizeDN(dn string) (string, error) {
	if plain, lower := plainDN(dn); plain {
		if lower {
			return dn, nil
		}
		return strings.ToLower(dn), nil
	}
	rdns, err := splitDN(dn)
	if err != nil {
		return "", fmt.Errorf("parse the DN %q: %w", dn, err)
	}
	var b strings.Builder
	b.Grow(len(dn))
	for i, rdn := range rdns {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := writeRDN(&b, rdn); err != nil {
			return "", fmt.Errorf("parse the DN %q: %w", dn, err)
		}
	}
	return b.String(), nil
}

// Under reports whether the entry is the base or lies below it. Both names are
// normalised.
func Under(dn, base string) bool {
	switch {
	case base == "":
		return true
	case len(dn) <= len(base):
		return dn == base
	}
	return strings.HasSuffix(dn, base) && dn[len(dn)-len(base)-1] == ','
}

// Parent is the name of the entry above a normalised name; empty at the top.
func Parent(dn string) string {
	_, parent, _ := strings.Cut(dn, ",")
	return parent
}

// RDNValue is the value by which a name, as the server sent it, is told from those
// beside it; the name itself where it cannot be parsed.
func RDNValue(dn string) string {
	rdns, err := splitDN(dn)
	if err != nil || len(rdns) == 0 {
		return dn
	}
	parts, err := splitEscaped(rdns[0], '+')
	if err != nil || len(parts) == 0 {
		return dn
	}
	_, value, _ := strings.Cut(parts[0], "=")
	if value, err = unescapeDN(strings.TrimSpace(value)); err != nil || value == "" {
		return dn
	}
	return value
}

// Rebase replaces the container in the name of an entry below it, as a rename of
// the container does, and leaves the entry's own RDNs as they are written. All
// names are as the server sent them; false when the entry is not below from.
func Rebase(dn, from, to string) (string, bool) {
	name, err := NormalizeDN(dn)
	if err != nil {
		return "", false
	}
	base, err := NormalizeDN(from)
	if err != nil || base == "" || name == base || !Under(name, base) {
		return "", false
	}
	rdns, err := splitDN(dn)
	if err != nil {
		return "", false
	}
	own := rdns[:len(rdns)-strings.Count(base, ",")-1]
	return strings.Join(own, ",") + "," + to, true
}

// plainDN reports whether the name needs at most lower-casing, which holds for
// nearly every name that a server sends, and whether not even that.
func plainDN(dn string) (plain, lower bool) {
	const start, inType, inValue = 0, 1, 2
	state, valueStart, typeStart := start, 0, 0
	lower = true
	for i := range len(dn) {
		c := dn[i]
		switch {
		case c >= utf8.RuneSelf || c < ' ' || c == 0x7f || strings.IndexByte(`\"+;<>`, c) >= 0:
			return false, false
		case c >= 'A' && c <= 'Z':
			lower = false
		}
		switch state {
		case start:
			if !isLetter(c) {
				return false, false
			}
			typeStart, state = i, inType
		case inType:
			if c == '=' {
				if aliased(dn[typeStart:i]) {
					return false, false
				}
				valueStart, state = i+1, inValue
			} else if !isKeyChar(c) {
				return false, false
			}
		case inValue:
			if c == ',' {
				if i == valueStart || dn[i-1] == ' ' {
					return false, false
				}
				state = start
			} else if i == valueStart && (c == ' ' || c == '#') || c == ' ' && dn[i-1] == ' ' {
				return false, false
			}
		}
	}
	if state != inValue || valueStart == len(dn) || dn[len(dn)-1] == ' ' {
		return false, false
	}
	return true, lower
}

// splitDN cuts a name at its unescaped commas; the parts keep their escapes.
func splitDN(dn string) ([]string, error) {
	if strings.TrimSpace(dn) == "" {
		return nil, nil
	}
	return splitEscaped(dn, ',')
}

// splitEscaped cuts at each separator that is not escaped.
func splitEscaped(s string, separator byte) ([]string, error) {
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++ // whatever follows is not a separator
		case '"', ';':
			return nil, fmt.Errorf("escape %q with a backslash", s[i])
		case separator:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:]), nil
}

func writeRDN(b *strings.Builder, rdn string) error {
	parts, err := splitEscaped(rdn, '+')
	if err != nil {
		return err
	}
	for i, part := range parts {
		if parts[i], err = normalizeAVA(part); err != nil {
			return err
		}
	}
	if len(parts) > 1 {
		slices.Sort(parts)
		parts = slices.Compact(parts)
	}
	b.WriteString(strings.Join(parts, "+"))
	return nil
}

// normalizeAVA normalises one type=value.
func normalizeAVA(ava string) (string, error) {
	name, value, ok := strings.Cut(ava, "=")
	if !ok {
		return "", fmt.Errorf("%q has no =", strings.TrimSpace(ava))
	}
	name = strings.ToLower(strings.Trim(name, " "))
	if !isKey(name) {
		return "", fmt.Errorf("%q is not an attribute type", name)
	}
	name = canonicalName(name)
	value = strings.TrimLeft(value, " ")
	if strings.HasPrefix(value, "#") {
		value = strings.ToLower(strings.TrimRight(value, " "))
		if !isHex(value[1:]) {
			return "", fmt.Errorf("%q is not a BER value in hex", value)
		}
		return name + "=" + value, nil
	}
	raw, err := unescapeDN(value)
	if err != nil {
		return "", err
	}
	return name + "=" + escapeDN(prepare(raw)), nil
}

// unescapeDN resolves \, and \2C alike.
func unescapeDN(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		rest := s[i+1:]
		switch {
		case len(rest) >= 2 && isHex(rest[:2]):
			n, err := strconv.ParseUint(rest[:2], 16, 8)
			if err != nil {
				return "", fmt.Errorf("read the escape %q: %w", rest[:2], err)
			}
			b.WriteByte(byte(n))
			i += 2
		case rest != "":
			b.WriteByte(rest[0])
			i++
		default:
			return "", errors.New("the name ends with a backslash")
		}
	}
	return b.String(), nil
}

// escapeDN writes everything that may not stand bare in a normalised value as \xx.
func escapeDN(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		bad := r == utf8.RuneError && n == 1 || r < ' ' || r == 0x7f ||
			strings.ContainsRune(`,+"\<>;`, r) || i == 0 && r == '#'
		if bad {
			fmt.Fprintf(&b, `\%02x`, s[i])
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// prepare makes two strings equal that LDAP's caseIgnoreMatch calls equal: lower
// case, spaces squeezed and trimmed. Bytes that are no UTF-8 stay as they are.
func prepare(s string) string { return squeeze(fold(s)) }

// fold brings a string to lower case and Unicode's compatibility form. Only ASCII
// letters change in a string that is no UTF-8.
func fold(s string) string {
	ascii := true
	for i := 0; i < len(s) && ascii; i++ {
		ascii = s[i] < utf8.RuneSelf
	}
	switch {
	case ascii:
		return strings.ToLower(s)
	case !utf8.ValidString(s):
		return lowerASCII(s)
	}
	lower := strings.Map(func(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }, norm.NFKC.String(s))
	return norm.NFKC.String(lower)
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// isKey reports whether s is an attribute type: a short name or an OID.
func isKey(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isKeyChar(c) && c != '.' {
			return false
		}
	}
	return true
}

func isKeyChar(c byte) bool { return isLetter(c) || c >= '0' && c <= '9' || c == '-' }

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isHex(s string) bool {
	for i := range len(s) {
		c := s[i]
		if digit := c >= '0' && c <= '9'; !digit && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return s != "" && len(s)%2 == 0
}
