package compare

import (
	"encoding/hex"
	"slices"
	"strings"
)

// sameDN gives one text to all spellings of a distinguished name (RFC 4514): case,
// spaces, escapes and the order within a multi-valued part do not matter.
func sameDN(dn string) string {
	var parts []string
	for _, rdn := range splitUnescaped(dn, ',') {
		var pairs []string
		for _, pair := range splitUnescaped(rdn, '+') {
			attribute, value, _ := strings.Cut(pair, "=")
			pairs = append(pairs, strings.ToLower(strings.TrimSpace(attribute))+"="+sameValue(value))
		}
		slices.Sort(pairs)
		parts = append(parts, strings.Join(pairs, "\x00+"))
	}
	return strings.Join(parts, "\x00,")
}

// splitUnescaped splits at a separator that has no backslash before it.
func splitUnescaped(s string, separator byte) []string {
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case separator:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// sameValue removes escapes, and what a comparison without regard to case ignores.
func sameValue(value string) string {
	var b strings.Builder
	value = strings.TrimLeft(value, " ")
	for i := 0; i < len(value); i++ {
		if value[i] != '\\' || i+1 == len(value) {
			b.WriteByte(value[i])
			continue
		}
		if raw, err := hex.DecodeString(value[i+1 : min(i+3, len(value))]); err == nil && len(raw) == 1 {
			b.Write(raw)
			i += 2
			continue
		}
		i++
		b.WriteByte(value[i])
	}
	return strings.ToLower(strings.Join(strings.Fields(b.String()), " "))
}
