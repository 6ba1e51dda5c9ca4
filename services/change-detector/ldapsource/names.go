package ldapsource

import "strings"

// names gives the short name of attribute types that may be written in other
// ways; all in lower case.
var names = map[string]string{
	"commonname": "cn", "2.5.4.3": "cn",
	"surname": "sn", "2.5.4.4": "sn",
	"countryname": "c", "2.5.4.6": "c",
	"localityname": "l", "2.5.4.7": "l",
	"stateorprovincename": "st", "2.5.4.8": "st",
	"streetaddress": "street", "2.5.4.9": "street",
	"organizationname": "o", "2.5.4.10": "o",
	"organizationalunitname": "ou", "2.5.4.11": "ou",
	"userid": "uid", "0.9.2342.19200300.100.1.1": "uid",
	"domaincomponent": "dc", "0.9.2342.19200300.100.1.25": "dc",
	"rfc822mailbox": "mail", "gn": "givenname",
}

func canonicalName(lower string) string {
	if short, ok := names[lower]; ok {
		return short
	}
	return lower
}

// aliased reports whether a type has another, canonical name.
func aliased(name string) bool {
	if len(name) > 2 || strings.EqualFold(name, "gn") {
		_, ok := names[strings.ToLower(name)]
		return ok
	}
	return false
}
