package ldapsource

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// squeeze trims the spaces of a string, and makes one of several.
func squeeze(s string) string {
	if !strings.HasPrefix(s, " ") && !strings.HasSuffix(s, " ") && !strings.Contains(s, "  ") {
		return s
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " ")
}

// prepareLines prepares each line of a postal address.
func prepareLines(s string) string {
	lines := strings.Split(s, "$")
	for i, line := range lines {
		lines[i] = orSpace(prepare(line), line)
	}
	return strings.Join(lines, "$")
}

var lineEscape = regexp.MustCompile(`\\(24|5[Cc])?`)

// validLines reports whether a postal address is one: a backslash stands only in
// \24 and \5C.
func validLines(v []byte) bool {
	return utf8.Valid(v) && !slices.ContainsFunc(lineEscape.FindAll(v, -1), func(escape []byte) bool { return len(escape) == 1 })
}

func isASCII(v []byte) bool {
	for _, c := range v {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

var phoneForm = regexp.MustCompile(`^[A-Za-z0-9'()+,./:?= -]+$`)

// phone drops what does not count in a telephone number. One without anything
// else is equal to no part of a real one.
func phone(s string) string {
	return orSpace(strings.NewReplacer(" ", "", "-", "").Replace(fold(s)), s)
}

// numeric drops the spaces of a numeric string.
func numeric(s string) string { return orSpace(strings.ReplaceAll(s, " ", ""), s) }

// orSpace is what is left of a text, or one space when that is nothing.
func orSpace(left, text string) string {
	if left == "" && text != "" {
		return " "
	}
	return left
}

// isNumeric reports whether there are only digits and spaces.
func isNumeric(v []byte) bool {
	return len(v) > 0 && len(bytes.Trim(v, "0123456789 ")) == 0
}

var timeForm = regexp.MustCompile(`^(\d{10})(\d{2})?(\d{2})?(?:[.,](\d+))?(Z|[+-]\d{2}(?:\d{2})?)$`)

// instant brings a generalized time (RFC 4517 section 3.3.13) to UTC, with its
// fraction of a second if there is one, so that text order is time order.
func instant(s string) (string, bool) {
	part := timeForm.FindStringSubmatch(s)
	if part == nil || part[3] != "" && part[2] == "" {
		return "", false
	}
	unit := time.Second
	switch {
	case part[2] == "":
		unit = time.Hour
	case part[3] == "":
		unit = time.Minute
	}
	zone := part[5]
	switch len(zone) {
	case 1:
		zone = "+0000"
	case 3:
		zone += "00"
	}
	at, err := time.Parse("20060102150405-0700", part[1]+(part[2] + part[3] + "0000")[:4]+zone)
	if err != nil {
		return "", false
	}
	if part[4] != "" {
		fraction, err := time.ParseDuration("0." + part[4][:min(len(part[4]), 9)] + "s")
		if err != nil {
			return "", false
		}
		at = at.Add(fraction * (unit / time.Second))
	}
	return at.UTC().Format("20060102150405.999999999"), true
}

// cutUID cuts the optional bit string of a uniqueMember value: "cn=x,dc=y#'0101'B".
func cutUID(value string) (name, uid string) {
	if i := strings.LastIndex(value, "#'"); i >= 0 && strings.HasSuffix(value, "'B") {
		return value[:i], value[i:]
	}
	return value, ""
}

// categories are the names by which Active Directory's filters know a category:
// those of the classes that belong to it. Others are in one of their own name.
var categories = map[string]string{
	"user": "person", "inetorgperson": "person", "contact": "person", "organizationalperson": "person",
	"organizationalunit": "organizational-unit", "msds-groupmanagedserviceaccount": "ms-ds-group-managed-service-account",
	"msds-managedserviceaccount": "ms-ds-managed-service-account", "foreignsecurityprincipal": "foreign-security-principal",
}

// categoryName is the name of an object category, given by its DN or, in a filter,
// by a class: (objectCategory=person).
func categoryName(value string) string {
	if strings.Contains(value, "=") {
		value = RDNValue(value)
	}
	name := fold(value)
	if category, ok := categories[name]; ok {
		return category
	}
	return name
}
