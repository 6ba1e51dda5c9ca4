package ldapsource

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// stamp is the attribute by which a server says how new an entry is. Its values are
// brought to a form in which a newer one is a larger string.
type stamp string

const (
	stampCSN  stamp = "entrycsn"        // one for each change
	stampUSN  stamp = "usnchanged"      // one for each change, of this server alone
	stampTime stamp = "modifytimestamp" // of the second, or as fine as the server has it

	// created stands in for the modifyTimestamp where a server sets that with the
	// first change only.
	created = "createtimestamp"
)

// stamp is that of the session.
func (s *Source) stamp() stamp {
	if session := s.session.Load(); session != nil && session.stamp != "" {
		return session.stamp
	}
	return stampCSN
}

// attributes are those to ask for.
func (s stamp) attributes() []string {
	if s == stampTime {
		return []string{string(s), created}
	}
	return []string{string(s)}
}

// is reports whether an attribute, in lower case, holds the stamp.
func (s stamp) is(name string) bool {
	return name == string(s) || s == stampTime && name == created
}

// of is the stamp of an entry, empty where it has none.
func (s stamp) of(e *ldap.Entry) string {
	newest := ""
	for _, a := range e.Attributes {
		if s.is(strings.ToLower(a.Name)) && len(a.Values) == 1 {
			newest = max(newest, s.read(a.Values[0]))
		}
	}
	return newest
}

// read brings a value to its comparable form; empty for one that is none.
func (s stamp) read(value string) string {
	switch s {
	case stampUSN:
		usn, err := strconv.ParseInt(value, 10, 64)
		if err != nil || usn < 0 {
			return ""
		}
		return fmt.Sprintf("%020d", usn)
	case stampTime:
		at, err := parseTime(value)
		if err != nil {
			return ""
		}
		return at.Format(comparableTime)
	case stampCSN:
	}
	return strings.Clone(value)
}

// comparableTime is the form of all times: UTC, to the microsecond.
const comparableTime = "20060102150405.000000Z"

// parseTime reads a generalized time (RFC 4517 section 3.3.13).
func parseTime(value string) (time.Time, error) {
	value = strings.Replace(value, ",", ".", 1)
	for _, layout := range []string{"20060102150405Z0700", "200601021504Z0700", "2006010215Z0700", "20060102150405Z07", "200601021504Z07", "2006010215Z07"} {
		at, err := time.Parse(layout, value)
		if at = at.UTC(); err == nil && at.Year() >= 0 && at.Year() <= 9999 { // not so far off that UTC takes it out of four digits
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no generalized time", value)
}

// filter matches what is not older than a stamp, and before it by an overlap.
func (s stamp) filter(newest string, overlap time.Duration) string {
	from := s.before(newest, overlap)
	if from == "" {
		return everything
	}
	from = ldap.EscapeFilter(from)
	if s == stampTime {
		return fmt.Sprintf("(|(%s>=%s)(%s>=%[2]s))", s, from, created)
	}
	return fmt.Sprintf("(%s>=%s)", s, from)
}

// before is the value of an assertion for a stamp less an overlap; empty for a stamp
// that is none, and for one of the first moments that can be written: all is newer.
func (s stamp) before(newest string, overlap time.Duration) string {
	if s == stampCSN && overlap == 0 {
		return newest
	}
	text, rest, _ := strings.Cut(newest, "#")
	at, err := parseTime(text)
	if err != nil {
		return ""
	}
	at = at.Add(-overlap)
	if at.Year() < 0 {
		return ""
	}
	if s == stampTime {
		return at.Format("20060102150405Z") // a second is what every server understands
	}
	if rest == "" {
		return ""
	}
	return at.Format(comparableTime) + "#000000#000#000000"
}
