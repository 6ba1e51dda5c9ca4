package ldapsource

import (
	"bytes"
	"cmp"
	"math/big"
	"strconv"
	"strings"
)

// rule is how the values of an attribute compare.
type rule int

const (
	caseIgnore rule = iota // the default
	caseExact
	integer
	distinguishedName
	telephone
	objectClass
	octets
	guid
)

// rules are the well-known attributes whose values do not compare like
// caseIgnoreMatch.
var rules = map[string]rule{
	"objectclass": objectClass, "structuralobjectclass": objectClass,
	"member": distinguishedName, "uniquemember": distinguishedName, "memberof": distinguishedName,
	"ismemberof": distinguishedName, "manager": distinguishedName, "secretary": distinguishedName,
	"owner": distinguishedName, "seealso": distinguishedName, "roleoccupant": distinguishedName,
	"managedby": distinguishedName, "directreports": distinguishedName, "entrydn": distinguishedName,
	"distinguishedname": distinguishedName, "creatorsname": distinguishedName,
	"modifiersname": distinguishedName, "objectcategory": distinguishedName, "aliasedobjectname": distinguishedName,
	"uidnumber": integer, "gidnumber": integer, "useraccountcontrol": integer, "primarygroupid": integer,
	"samaccounttype": integer, "grouptype": integer, "usnchanged": integer, "usncreated": integer,
	"accountexpires": integer, "pwdlastset": integer, "lockouttime": integer, "badpwdcount": integer,
	"shadowmin": integer, "shadowmax": integer, "shadowwarning": integer, "shadowinactive": integer,
	"shadowexpire": integer, "shadowlastchange": integer, "shadowflag": integer,
	"msds-user-account-control-computed": integer, "instancetype": integer, "systemflags": integer,
	"telephonenumber": telephone, "homephone": telephone, "mobile": telephone, "pager": telephone,
	"homedirectory": caseExact, "loginshell": caseExact, "labeleduri": caseExact, "memberurl": caseExact,
	"memberuid":  caseExact,
	"objectguid": octets, "objectsid": octets, "jpegphoto": octets, "thumbnailphoto": octets,
	"usercertificate": octets, "usersmimecertificate": octets,
	"entryuuid": guid, "nsuniqueid": guid,
}

func ruleOf(name string) rule { return rules[name] }

// superclass is what the standard object classes derive from: a server answers
// for (objectClass=person) with an inetOrgPerson.
var superclass = map[string]string{
	"inetorgperson": "organizationalperson", "organizationalperson": "person",
	"residentialperson": "person", "user": "organizationalperson", "computer": "user",
}

// equality returns the test of one value for equality.
func (r rule) equality(assertion []byte) func([]byte) truth {
	if r == objectClass {
		return classEquality(fold(string(assertion)))
	}
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
	case caseExact:
		return string(v), len(v) > 0
	case integer:
		n, ok := wholeNumber(v)
		if !ok {
			return "", false
		}
		return n.String(), true
	case distinguishedName:
		dn, err := NormalizeDN(string(v))
		return dn, err == nil
	case telephone:
		return phone(string(v)), len(v) > 0
	case octets:
		return string(v), true
	case guid:
		id, err := textID(v)
		return string(id[:]), err == nil
	case caseIgnore, objectClass:
	}
	return prepare(string(v)), len(v) > 0
}

func classEquality(want string) func([]byte) truth {
	return func(v []byte) truth {
		for class := fold(string(v)); class != ""; class = superclass[class] {
			if class == want {
				return yes
			}
		}
		return truthOf(want == "top")
	}
}

// ordering returns the test for >= and <=: numbers as numbers where both are
// numbers, else strings. Attributes without an order are undefined.
func (r rule) ordering(assertion []byte, holds func(int) bool) func([]byte) truth {
	want, ok := r.normalize(assertion)
	if !ok || r == distinguishedName || r == objectClass {
		return nil
	}
	number, numeric := wholeNumber([]byte(want))
	return func(v []byte) truth {
		have, ok := r.normalize(v)
		if !ok {
			return no
		}
		if n, isNumber := wholeNumber([]byte(have)); numeric && isNumber {
			return truthOf(holds(n.Cmp(number)))
		}
		return truthOf(holds(cmp.Compare(have, want)))
	}
}

// phone drops what does not count in a telephone number. One without anything
// else is equal to no part of a real one.
func phone(s string) string {
	digits := strings.NewReplacer(" ", "", "-", "").Replace(fold(s))
	if digits == "" && s != "" {
		return " "
	}
	return digits
}

// substring is a substring assertion: initial*middle*final.
type substring struct {
	initial string
	middle  []string
	final   string
}

func (r rule) substrings(s substring) func([]byte) truth {
	var whole func([]byte) string
	switch r {
	case integer, distinguishedName, objectClass, guid:
		return nil
	case caseExact, octets:
		whole = func(v []byte) string { return string(v) }
	case telephone:
		whole = func(v []byte) string { return phone(string(v)) }
		s = s.apply(func(part string, _, _ bool) string { return phone(part) })
	case caseIgnore:
		whole = func(v []byte) string { return prepare(string(v)) }
		s = s.apply(preparePart)
	}
	return func(v []byte) truth { return truthOf(s.in(whole(v))) }
}

func (s substring) apply(f func(part string, trimLeft, trimRight bool) string) substring {
	out := substring{initial: f(s.initial, true, false), final: f(s.final, false, true)}
	for _, part := range s.middle {
		out.middle = append(out.middle, f(part, false, false))
	}
	return out
}

// preparePart is prepare for a part of a value: one space stays where the part
// borders on a star.
func preparePart(part string, trimLeft, trimRight bool) string {
	if part == "" {
		return ""
	}
	words := prepare(part)
	if words == "" {
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

func (s substring) in(v string) bool {
	rest, ok := strings.CutPrefix(v, s.initial)
	if !ok {
		return false
	}
	for _, part := range s.middle {
		if _, rest, ok = strings.Cut(rest, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, s.final)
}

// bitwise is Active Directory's test of an integer against a mask: all of its
// bits, or any of them.
func bitwise(mask string, all bool) func([]byte) truth {
	want, err := strconv.ParseInt(mask, 10, 64)
	if err != nil {
		return nil
	}
	return func(v []byte) truth {
		have, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			return undefined
		}
		if all {
			return truthOf(have&want == want)
		}
		return truthOf(have&want != 0)
	}
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
