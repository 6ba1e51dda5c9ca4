package ldapsource

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxSubAuthorities is how many parts a security identifier may have.
const maxSubAuthorities = 15

var errNoSID = errors.New("not a security identifier")

// SIDText writes a binary security identifier, Active Directory's objectSid, as
// text: S-1-5-21-….
func SIDText(sid []byte) (string, error) {
	if len(sid) < 8 || sid[0] != 1 || int(sid[1]) > maxSubAuthorities || len(sid) != 8+4*int(sid[1]) {
		return "", errNoSID
	}
	authority := binary.BigEndian.Uint64(append([]byte{0, 0}, sid[2:8]...))
	var b strings.Builder
	if authority >= 1<<32 {
		fmt.Fprintf(&b, "S-1-0x%012x", authority)
	} else {
		fmt.Fprintf(&b, "S-1-%d", authority)
	}
	for part := sid[8:]; len(part) > 0; part = part[4:] {
		fmt.Fprintf(&b, "-%d", binary.LittleEndian.Uint32(part))
	}
	return b.String(), nil
}

// ParseSID reads a security identifier that is written as text.
func ParseSID(text string) ([]byte, error) {
	parts := strings.Split(strings.ToUpper(text), "-")
	if len(parts) < 3 || parts[0] != "S" || parts[1] != "1" || len(parts)-3 > maxSubAuthorities {
		return nil, fmt.Errorf("%q: %w", text, errNoSID)
	}
	authority, err := parseAuthority(parts[2])
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, errNoSID)
	}
	sid := binary.BigEndian.AppendUint64(nil, authority)
	sid[0], sid[1] = 1, byte(len(parts)-3) //nolint:gosec // at most 15
	for _, part := range parts[3:] {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, errNoSID)
		}
		sid = binary.LittleEndian.AppendUint32(sid, uint32(n))
	}
	return sid, nil
}

func parseAuthority(s string) (uint64, error) {
	if digits, hex := strings.CutPrefix(s, "0X"); hex {
		return strconv.ParseUint(digits, 16, 48)
	}
	return strconv.ParseUint(s, 10, 48)
}

// PrimaryGroupSID is the security identifier, as text, of the primary group of the
// user with this objectSid: that of the domain with the relative id of the group
// at its end.
func PrimaryGroupSID(user []byte, relative string) (string, error) {
	n, err := strconv.ParseUint(relative, 10, 32)
	if err != nil || len(user) < 12 {
		return "", fmt.Errorf("the relative id %q of the primary group: %w", relative, errNoSID)
	}
	return SIDText(binary.LittleEndian.AppendUint32(slices.Clone(user[:len(user)-4]), uint32(n)))
}

// sidKey is the binary form of a security identifier, which a filter may name as
// text.
func sidKey(value []byte) string {
	if sid, err := ParseSID(string(value)); err == nil {
		return string(sid)
	}
	return string(value)
}
