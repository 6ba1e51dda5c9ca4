package ldapsource

import (
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// container is what an entry shows of being above others. It matters because a
// server reports the move of a container and stays silent about what is in it.
type container struct {
	class   bool // of a class that usually holds others
	told    bool // the server said whether there are entries below
	already bool // and there are
}

// containers are the classes of entries that usually hold others.
var containers = map[string]bool{
	"organizationalunit": true, "organization": true, "domain": true, "dcobject": true,
	"locality": true, "country": true, "container": true, "builtindomain": true, "nscontainer": true,
}

func containerOf(e *ldap.Entry) container {
	var c container
	for _, a := range e.Attributes {
		switch strings.ToLower(a.Name) {
		case "hassubordinates":
			if len(a.Values) == 1 {
				c.told, c.already = true, strings.EqualFold(a.Values[0], "TRUE")
			}
		case "objectclass":
			for _, class := range a.Values {
				c.class = c.class || containers[strings.ToLower(class)]
			}
		}
	}
	return c
}

// holds reports whether there may be entries below, now or later.
func (c container) holds() bool { return c.class || c.already }

// brings reports whether the entry may have come with others below it.
func (c container) brings() bool { return c.already || c.class && !c.told }
