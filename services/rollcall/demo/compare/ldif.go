package compare

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Entry is one entry of a directory.
type Entry struct {
	DN         string
	Attributes map[string][]string // by name in lower case
}

// First is the first value of an attribute, or nothing.
func (e Entry) First(attribute string) string {
	if values := e.Attributes[attribute]; len(values) > 0 {
		return values[0]
	}
	return ""
}

var (
	errNoColon = errors.New("no colon")
	errURL     = errors.New("values behind a URL are not read")
	errNoDN    = errors.New("an entry begins without a dn")
)

// ParseLDIF reads the content records of RFC 2849, as ldapsearch writes them.
func ParseLDIF(text string) ([]Entry, error) {
	var entries []Entry
	inside := false
	for _, line := range unfold(text) {
		if line == "" {
			inside = false
			continue
		}
		name, value, err := parseLine(line)
		switch {
		case err != nil:
			return nil, fmt.Errorf("read the line %.60q: %w", line, err)
		case name == "version" && len(entries) == 0:
		case name == "dn" && !inside:
			inside = true
			entries = append(entries, Entry{DN: value, Attributes: map[string][]string{}})
		case !inside:
			return nil, fmt.Errorf("read the line %.60q: %w", line, errNoDN)
		default:
			last := entries[len(entries)-1].Attributes
			last[name] = append(last[name], value)
		}
	}
	return entries, nil
}

// unfold joins continued lines, which begin with one space, and drops comments.
func unfold(text string) []string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if rest, continued := strings.CutPrefix(line, " "); continued && len(lines) > 0 {
			lines[len(lines)-1] += rest
			continue
		}
		lines = append(lines, line)
	}
	kept := lines[:0]
	for _, line := range lines {
		if !strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	return kept
}

// parseLine reads "name: value" and "name:: base64"; options of the name, such as
// ";lang-de", are left out.
func parseLine(line string) (name, value string, err error) {
	name, value, found := strings.Cut(line, ":")
	if !found {
		return "", "", errNoColon
	}
	name, _, _ = strings.Cut(name, ";")
	name = strings.ToLower(name)
	if encoded, is := strings.CutPrefix(value, ":"); is {
		decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if err != nil {
			return "", "", fmt.Errorf("decode base64: %w", err)
		}
		return name, string(decoded), nil
	}
	if strings.HasPrefix(value, "<") {
		return "", "", errURL
	}
	return name, strings.TrimLeft(value, " "), nil
}
