package ldapsource

import (
	"bytes"
	"cmp"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// rule is a matching rule (RFC 4517 section 4.2), without regard to whether it is
// used for equality, order or parts of values.
type rule int

const (
	noRule rule = iota // there is none: every comparison is undefined
	caseIgnore
	caseExact
	caseIgnoreIA5
	caseExactIA5
	caseIgnoreList
	numericString
	integer
	boolean
	booleanExact // TRUE or FALSE in capitals
	generalizedTime
	distinguishedName
	nameAndUID
	telephone
	objectClass
	octets
	guid
	sid
	objectCategory
	numberOrText // order by number where both are numbers: what nobody defined
)

// matching is how the values of an attribute compare.
type matching struct{ equality, ordering, substrings rule }

// equality returns the test of one value for equality.
func (r rule) equality(assertion []byte) func([]byte) truth {
	want, ok := r.normalize(assertion)
	if !ok {
		return nil
	}
	return func(v []byte) truth {
		have, ok := r.normalize(v)
		return truthOf(ok && have == want)
	}
}

// normalize brings a value into the form in which equal values are equal strings;
// false when it makes no sense for the attribute.
func (r rule) normalize(v []byte) (string, bool) {
	switch r {
	case caseIgnore, objectClass, numberOrText:
		return prepare(string(v)), len(v) > 0 && utf8.Valid(v)
	case caseExact:
		return squeeze(norm.NFKC.String(string(v))), len(v) > 0 && utf8.Valid(v)
	case caseIgnoreIA5:
		return prepare(string(v)), isASCII(v)
	case caseExactIA5:
		return squeeze(string(v)), isASCII(v)
	case caseIgnoreList:
		return prepareLines(string(v)), validLines(v)
	case numericString:
		return numeric(string(v)), isNumeric(v)
	case integer:
		n, ok := wholeNumber(v)
		if !ok {
			return "", false
		}
		return n.String(), true
	case boolean:
		return booleanExact.normalize(bytes.ToUpper(v))
	case booleanExact:
		return string(v), string(v) == "TRUE" || string(v) == "FALSE"
	case generalizedTime:
		return instant(string(v))
	case telephone:
		return phone(string(v)), phoneForm.Match(v)
	case nameAndUID:
		name, uid := cutUID(string(v))
		dn, ok := distinguishedName.normalize([]byte(name))
		return dn + uid, ok
	case distinguishedName:
		dn, err := NormalizeDN(string(v))
		return dn, err == nil && (dn != "" || len(v) == 0)
	case octets:
		return string(v), true
	case guid:
		id, err := textID(v)
		return string(id[:]), err == nil
	case sid:
		return sidKey(v), true
	case objectCategory:
		return categoryName(string(v)), true
	case noRule:
	}
	return "", false
}

// ordering returns the test for >= and <=.
func (r rule) ordering(assertion []byte, holds func(int) bool) func([]byte) truth {
	want, ok := r.normalize(assertion)
	if !ok {
		return nil
	}
	return func(v []byte) truth {
		have, ok := r.normalize(v)
		if !ok {
			return no
		}
		return truthOf(holds(r.compare(have, want)))
	}
}

// compare orders two normalised values.
func (r rule) compare(a, b string) int {
	if r == integer || r == numberOrText {
		x, isNumber := wholeNumber([]byte(a))
		y, numeric := wholeNumber([]byte(b))
		if isNumber && numeric {
			return x.Cmp(y)
		}
	}
	return cmp.Compare(a, b)
}

// substring is a substring assertion: initial*middle*final.
type substring struct {
	initial string
	middle  []string
	final   string
}

// substrings returns the test of one value for parts; nil where one of them makes
// no sense.
func (r rule) substrings(s substring) func([]byte) truth {
	for _, part := range append([]string{s.initial, s.final}, s.middle...) {
		if _, ok := r.normalize([]byte(part)); part != "" && !ok {
			return nil
		}
	}
	switch r {
	case caseIgnore:
		return s.test(prepare, prepare)
	case caseIgnoreList:
		return s.test(prepare, prepareLines)
	case caseIgnoreIA5:
		return s.plain(prepare)
	case caseExactIA5:
		return s.plain(squeeze)
	case caseExact:
		exact := func(v string) string { return squeeze(norm.NFKC.String(v)) }
		return s.test(exact, exact)
	case telephone:
		return s.plain(phone)
	case numericString:
		return s.plain(numeric)
	case octets:
		return s.in(func(v string) string { return v })
	default:
		return nil
	}
}

// test prepares the parts and each value: one space stays where a part borders on
// a star.
func (s substring) test(part, whole func(string) string) func([]byte) truth {
	return s.apply(func(text string, trimLeft, trimRight bool) string {
		return preparePart(text, part, trimLeft, trimRight)
	}).in(whole)
}

// plain prepares parts like whole values.
func (s substring) plain(prepare func(string) string) func([]byte) truth {
	return s.apply(func(text string, _, _ bool) string { return prepare(text) }).in(prepare)
}

func (s substring) apply(f func(part string, trimLeft, trimRight bool) string) substring {
	out := substring{initial: f(s.initial, true, false), final: f(s.final, false, true)}
	for _, part := range s.middle {
		out.middle = append(out.middle, f(part, false, false))
	}
	return out
}

// preparePart is prepare for a part of a value. Spaces alone at its end count for
// nothing.
func preparePart(part string, prepare func(string) string, trimLeft, trimRight bool) string {
	if part == "" {
		return ""
	}
	words := prepare(part)
	switch {
	case words == "" && trimRight:
		return ""
	case words == "":
		return " "
	}
	if !trimLeft && part[0] == ' ' {
		words = " " + words
	}
	if !trimRight && part[len(part)-1] == ' ' {
		words += " "
	}
	return words
}

// in returns the test for the parts in a value that whole prepares.
func (s substring) in(whole func(string) string) func([]byte) truth {
	return func(v []byte) truth {
		rest, ok := strings.CutPrefix(whole(string(v)), s.initial)
		if !ok {
			return no
		}
		for _, part := range s.middle {
			if _, rest, ok = strings.Cut(rest, part); !ok {
				return no
			}
		}
		return truthOf(strings.HasSuffix(rest, s.final))
	}
}

// bitwise is Active Directory's test of an integer against a mask: all of its
// bits, or any of them.
func bitwise(mask string, all bool) func([]byte) truth {
	want, ok := bits([]byte(mask))
	if !ok {
		return nil
	}
	return func(v []byte) truth {
		have, ok := bits(v)
		switch {
		case !ok:
			return undefined
		case all:
			return truthOf(have&want == want)
		}
		return truthOf(have&want != 0)
	}
}

func bits(v []byte) (int64, bool) {
	if _, ok := wholeNumber(v); !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	return n, err == nil
}

// wholeNumber reads an integer as RFC 4517 writes it: no leading zeros or signs.
func wholeNumber(v []byte) (*big.Int, bool) {
	digits := bytes.TrimPrefix(v, []byte("-"))
	if len(digits) == 0 || len(digits) > 40 || digits[0] == '0' && len(v) > 1 {
		return nil, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return nil, false
		}
	}
	return new(big.Int).SetString(string(v), 10)
}

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}
