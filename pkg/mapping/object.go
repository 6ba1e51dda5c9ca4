package mapping

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"unicode/utf8"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// ErrAbsent says that the entry does not have an attribute that the expression
// read: in a mapping the SCIM attribute is cleared.
var ErrAbsent = errors.New("attribute is absent")

// ErrUnknown says that the expression reads an attribute that the detector has
// not read for this entry: nothing can be said yet, come back later.
var ErrUnknown = errors.New("attribute is not in the attribute set")

// Object is the entry that an expression sees as user or group, with the
// attribute set that it was read with. The entry must not change while it is in
// use.
type Object struct {
	entry *entry
	set   Set
}

// entry is what the getters of the type provider read from.
type entry struct {
	kind       directoryv1.Kind
	id         []byte
	dn         string
	enabled    bool
	attributes []*directoryv1.Attribute
	groups     []string
}

// UserObject returns u as expressions see it. A nil set means that every
// attribute was read.
func UserObject(u *directoryv1.User, set Set) Object {
	return Object{set: set, entry: &entry{
		kind:       directoryv1.Kind_KIND_USER,
		id:         u.GetId(),
		dn:         u.GetDn(),
		enabled:    u.GetEnabled(),
		attributes: u.GetAttributes(),
		groups:     u.GetGroups(),
	}}
}

// GroupObject returns g as expressions see it. A nil set means that every
// attribute was read.
func GroupObject(g *directoryv1.Group, set Set) Object {
	return Object{set: set, entry: &entry{
		kind:       directoryv1.Kind_KIND_GROUP,
		id:         g.GetId(),
		dn:         g.GetDn(),
		attributes: g.GetAttributes(),
	}}
}

// values returns the raw values of the attribute with this lower-case name. It
// is a plain scan: an entry has some twenty attributes, and an unsorted one must
// not make an attribute seem absent.
func (e *entry) values(name string) [][]byte {
	for _, a := range e.attributes {
		if a.GetName() == name {
			return a.GetValues()
		}
	}
	return nil
}

func (e *entry) hexID() string {
	return hex.EncodeToString(e.id)
}

// text returns a raw value as a string: itself when it is UTF-8, else base64.
func text(value []byte) string {
	if utf8.Valid(value) {
		return string(value)
	}
	return base64.StdEncoding.EncodeToString(value)
}

// texts returns all raw values as strings; it is never nil.
func texts(values [][]byte) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = text(v)
	}
	return out
}
