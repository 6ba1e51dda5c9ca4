package mapping

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ava is one attribute and value of a relative distinguished name.
type ava struct{ name, value string }

// CheckDN reports what is wrong with a distinguished name (RFC 4514), or nil.
func CheckDN(dn string) error {
	_, err := parseDN(dn)
	return err
}

// parseDN takes a distinguished name (RFC 4514) apart, unescaped, first part
// first. A value of the form #hex stays as it is.
func parseDN(dn string) ([][]ava, error) {
	if strings.TrimSpace(dn) == "" {
		return nil, nil
	}
	var rdns [][]ava
	var rdn []ava
	for rest := dn; ; {
		part, separator, tail, err := parseAVA(rest)
		if err != nil {
			return nil, err
		}
		rdn = append(rdn, part)
		if separator != '+' {
			rdns = append(rdns, rdn)
			rdn = nil
		}
		if separator == 0 {
			return rdns, nil
		}
		rest = tail
	}
}

// parseAVA reads "name=value" up to a separator: one of , ; + or 0 at the end.
func parseAVA(s string) (part ava, separator byte, rest string, err error) {
	name, value, ok := strings.Cut(s, "=")
	name = strings.TrimSpace(name)
	if !ok || !attributeType(name) {
		return ava{}, 0, "", fmt.Errorf("a distinguished name has attribute=value between its commas, not %q", shorten(s))
	}
	end, text, err := scanValue(value)
	if err != nil {
		return ava{}, 0, "", err
	}
	part = ava{name: name, value: text}
	if end == len(value) {
		return part, 0, "", nil
	}
	return part, value[end], value[end+1:], nil
}

// scanValue reads an escaped value up to the next separator and returns where
// it ends. Unescaped white space at both ends does not count.
func scanValue(s string) (end int, text string, err error) {
	if trimmed := strings.TrimLeft(s, " "); strings.HasPrefix(trimmed, `"`) {
		return 0, "", errors.New("a distinguished name cannot have a quoted value: escape with a backslash")
	}
	var out strings.Builder
	kept := 0 // length of out without trailing unescaped spaces
	i := 0
	for i < len(s) && !strings.ContainsRune(",;+", rune(s[i])) {
		switch c := s[i]; c {
		case '\\':
			n, err := unescape(&out, s[i+1:])
			if err != nil {
				return 0, "", err
			}
			i += n + 1
			kept = out.Len()
			continue
		case '"', '<', '>', 0:
			return 0, "", fmt.Errorf("a distinguished name has an unescaped %q", c)
		case ' ':
			if out.Len() > 0 {
				out.WriteByte(c)
			}
		default:
			out.WriteByte(c)
			kept = out.Len()
		}
		i++
	}
	return i, out.String()[:kept], nil
}

// unescape writes what follows a backslash and returns how much of s it took.
func unescape(out *strings.Builder, s string) (int, error) {
	if len(s) >= 2 {
		if b, err := hex.DecodeString(s[:2]); err == nil {
			out.Write(b)
			return 2, nil
		}
	}
	if s == "" || !strings.ContainsRune(` "#+,;<=>\`, rune(s[0])) {
		return 0, errors.New("a distinguished name has a backslash before something that needs none")
	}
	out.WriteByte(s[0])
	return 1, nil
}

// attributeType reports whether name is a descriptor or a numeric object
// identifier.
func attributeType(name string) bool {
	if attributeName.MatchString(name) {
		return true
	}
	for arc := range strings.SplitSeq(name, ".") {
		if arc == "" || strings.Trim(arc, "0123456789") != "" {
			return false
		}
	}
	return true
}

func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}
