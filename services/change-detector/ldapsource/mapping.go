package ldapsource

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// errNoID says that an entry carries no readable id.
var errNoID = errors.New("the entry has no id")

// idReader reads an entry's id as the source's configuration says.
type idReader struct {
	attribute string // lower-case
	encoding  string
	decode    func([]byte) (ID, error)
}

func newIDReader(cfg *connection.Source) (idReader, error) {
	r := idReader{attribute: strings.ToLower(cfg.ID.Attribute), encoding: cfg.ID.Encoding}
	if !isKey(r.attribute) {
		return r, fmt.Errorf("sources.%s.id.attribute: name the attribute that holds the directory's GUID, such as entryUUID", cfg.Name)
	}
	switch cfg.ID.Encoding {
	case "", "text":
		r.decode = textID
	case "bytes":
		r.decode = bytesID
	case "microsoft":
		r.decode = microsoftID
	default:
		return r, fmt.Errorf("sources.%s.id.encoding: %q is none of text, bytes and microsoft", cfg.Name, cfg.ID.Encoding)
	}
	return r, nil
}

func (r idReader) read(e *ldap.Entry) (ID, error) {
	for _, a := range e.Attributes {
		if strings.EqualFold(a.Name, r.attribute) && len(a.ByteValues) == 1 {
			return r.decode(a.ByteValues[0])
		}
	}
	return ID{}, errNoID
}

// textID reads a UUID as text. Dashes may stand anywhere: 389 DS writes four
// groups of eight digits.
func textID(value []byte) (ID, error) {
	var id ID
	digits := make([]byte, 0, 2*len(id))
	for _, c := range value {
		if c == '-' || c == '{' || c == '}' {
			continue
		}
		if len(digits) == cap(digits) {
			return id, errNoID
		}
		digits = append(digits, c)
	}
	if n, err := hex.Decode(id[:], digits); err != nil || n != len(id) {
		return ID{}, errNoID
	}
	return checkID(id)
}

func bytesID(value []byte) (ID, error) {
	if len(value) != len(ID{}) {
		return ID{}, errNoID
	}
	return checkID(ID(value))
}

// microsoftID reads an objectGUID, whose first three fields are little-endian.
func microsoftID(value []byte) (ID, error) {
	id, err := bytesID(value)
	return swapFields(id), err
}

func swapFields(id ID) ID {
	slices.Reverse(id[0:4])
	slices.Reverse(id[4:6])
	slices.Reverse(id[6:8])
	return id
}

func checkID(id ID) (ID, error) {
	if id == (ID{}) {
		return id, errNoID
	}
	return id, nil
}

// encode writes an id as the assertion value of a search filter.
func (r idReader) encode(id ID) string {
	switch r.encoding {
	case "bytes":
	case "microsoft":
		id = swapFields(id)
	default:
		return textOf(id, r.attribute)
	}
	var b strings.Builder
	for _, c := range id {
		fmt.Fprintf(&b, `\%02x`, c)
	}
	return b.String()
}

// textOf writes an id as the server keeps it: 389 DS has its own grouping.
func textOf(id ID, attribute string) string {
	h := id.String()
	if attribute == "nsuniqueid" {
		return h[0:8] + "-" + h[8:16] + "-" + h[16:24] + "-" + h[24:32]
	}
	return h[0:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32]
}

// entry translates a search result. It keeps the attributes that were asked for,
// with whatever options the server added, copies their values, and says errNoID where the id is missing.
func (s *Source) entry(in *ldap.Entry) (*Entry, error) {
	id, err := s.id.read(in)
	if err != nil {
		return nil, err
	}
	e := &Entry{ID: id, DN: strings.Clone(in.DN), Matches: s.remotes.of(id), Attributes: make([]*directoryv1.Attribute, 0, len(in.Attributes))}
	visible := s.visible
	if l := s.schema.Load(); l != nil {
		e.Schema, visible = l.schema, l.visible
	}
	memory := make([]directoryv1.Attribute, len(in.Attributes)) // one piece for all of them
	stamp := s.stamp()
	for i, a := range in.Attributes {
		name := strings.ToLower(a.Name)
		if stamp.is(name) && len(a.Values) == 1 {
			e.Version = max(e.Version, stamp.read(a.Values[0]))
		}
		if len(a.ByteValues) == 0 || Secret(name) || !visible[name] && !visible[baseName(name)] {
			continue
		}
		memory[i].Name, memory[i].Values = name, compact(a.ByteValues)
		e.Attributes = append(e.Attributes, &memory[i])
	}
	slices.SortFunc(e.Attributes, func(a, b *directoryv1.Attribute) int { return strings.Compare(a.GetName(), b.GetName()) })
	e.Attributes = mergeNames(e.Attributes)
	return e, nil
}

// compact copies values into one piece of memory: go-ldap keeps at least 512
// bytes for each.
func compact(values [][]byte) [][]byte {
	size := 0
	for _, v := range values {
		size += len(v)
	}
	memory := make([]byte, 0, size)
	out := make([][]byte, len(values))
	for i, v := range values {
		start := len(memory)
		memory = append(memory, v...)
		out[i] = memory[start:len(memory):len(memory)]
	}
	return out
}

// mergeNames joins neighbours of one name, which a server may send in two cases.
func mergeNames(list []*directoryv1.Attribute) []*directoryv1.Attribute {
	out := list[:0]
	for _, a := range list {
		if n := len(out); n > 0 && out[n-1].GetName() == a.GetName() {
			out[n-1].Values = append(out[n-1].GetValues(), a.GetValues()...)
			continue
		}
		out = append(out, a)
	}
	return out
}
