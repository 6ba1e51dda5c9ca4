package usersync

import (
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// mapper turns a directory user into what the target should hold. It is pure.
type mapper struct {
	scope      *mapping.Expression
	attributes []connection.CompiledAttribute
	match      []string
	key        []byte
}

// newMapper leaves out what the target never takes; what it takes only once is sent at
// the creation.
func newMapper(c *connection.CompiledConnection, match []string, profile scim.Profile, key []byte) *mapper {
	m := &mapper{scope: c.Scope, match: match, key: key}
	for _, a := range c.Users {
		switch {
		case profile.Drops(a.Path):
			continue
		case profile.Keeps(a.Path):
			a.On = connection.OnCreate
		}
		m.attributes = append(m.attributes, a)
	}
	return m
}

// wanted is what the target should hold for one entry.
type wanted struct {
	plan.Desired
	// units are the attributes to keep equal, by path; onCreate those that are
	// sent only on creation.
	units, onCreate map[string]scim.Unit
	// match are the values to look the user up by, in the order of users.match.
	match []matchValue
	// externalID is the entry id, or what the mapping says.
	externalID string
	// byMark says that the first of match is the externalId that Rollcall gives to the
	// accounts of the entry, because its link may be missing.
	byMark bool
	// references are the entries that the mapped references name, and left the paths
	// that stay as they are, because nobody knows their value yet.
	references []*provisioningv1.Member
	left       []string
	// unapplied are those of left that the target did not apply before.
	unapplied []string
	// found are the resources that a look at the target returned, by id.
	found map[string]*scim.Resource
	// relinking says that a resource was looked at after its former owner gave it up.
	relinking bool
	// met says that an account was found, and listed which one a listing named.
	met    bool
	listed string
}

// paths are all mapped paths that are kept equal, sorted.
func (w *wanted) paths() []string {
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(w.units)), w.Absent...)))
}

// leaveOut leaves the attributes as they are that the target did not apply before.
func (w *wanted) leaveOut(job *worker.Job) {
	w.unapplied = job.LeftOut(&w.Desired)
	for _, path := range w.unapplied {
		delete(w.units, path)
		if !slices.Contains(w.left, path) {
			w.left = append(w.left, path)
		}
	}
}

// alsoByMark makes the user be looked up by the entry id first, where the target keeps
// it as externalId: an account that bears it is this entry's, whatever it is called.
func (w *wanted) alsoByMark(id []byte, profile scim.Profile) {
	mark := matchValue{"externalId", hex.EncodeToString(id)}
	if w.byMark || !profile.ExternalIDAllowed || w.externalID != mark.value || len(w.match) == 0 || w.match[0] == mark {
		return
	}
	w.match, w.byMark = slices.Insert(w.match, 0, mark), true
}

type matchValue struct{ attribute, value string }

// wanted maps a change; who is referred to is named by the resource that r knows.
func (m *mapper) wanted(change *directoryv1.Change, set mapping.Set, r referring) (*wanted, error) {
	w := &wanted{externalID: hex.EncodeToString(change.GetEntryId()), found: map[string]*scim.Resource{}}
	if change.GetOp() != directoryv1.Op_OP_PRESENT {
		w.Why = worker.Why(change.GetReason())
		return w, nil
	}
	user := mapping.UserObject(change.GetUser(), set)
	in, err := m.inScope(user)
	if err != nil || !in {
		w.Why = "outside the connection's scope"
		return w, err
	}
	w.InScope, w.Enabled = true, change.GetUser().GetEnabled()
	r.change = change
	return w, m.fill(w, user, r)
}

// distinct are the values of a change that no other user may have; none for one that is
// gone or out of scope.
func (m *mapper) distinct(change *directoryv1.Change, set mapping.Set) ([]matchValue, error) {
	if change.GetOp() != directoryv1.Op_OP_PRESENT {
		return nil, nil
	}
	narrow := &mapper{scope: m.scope, match: m.match, key: m.key}
	for _, a := range m.attributes {
		path := a.Path.String()
		if path == "userName" || slices.ContainsFunc(m.match, func(match string) bool { return strings.HasPrefix(path, strings.SplitN(match, ".", 2)[0]) }) {
			narrow.attributes = append(narrow.attributes, a)
		}
	}
	w, err := narrow.wanted(change, set, referring{people: known{}})
	if err != nil {
		return nil, err
	}
	return w.distinct(), nil
}

func (m *mapper) inScope(user mapping.Object) (bool, error) {
	if m.scope == nil {
		return true, nil
	}
	in, err := m.scope.Bool(user)
	if err != nil {
		return false, worker.MappingError("scope", err)
	}
	return in, nil
}

// fill evaluates every mapped attribute.
func (m *mapper) fill(w *wanted, user mapping.Object, r referring) error {
	always, onCreate := scim.Values{}, scim.Values{}
	for _, a := range m.attributes {
		value, err := a.Eval(user)
		if err != nil {
			return worker.MappingError("users.attributes."+a.Path.String(), err)
		}
		if value == nil && a.Path.String() == "externalId" {
			value = w.externalID // without a mark nobody could tell whose account it is
		}
		switch {
		case value == nil:
		case a.On == connection.OnCreate:
			onCreate[a.Path.String()] = value
		default:
			always[a.Path.String()] = value
		}
	}
	for _, a := range m.attributes {
		if refers(a) {
			r.replace(w, a, always, onCreate)
		}
	}
	if err := m.group(w, always, onCreate); err != nil {
		return worker.Block("users.attributes: " + err.Error())
	}
	m.required(w, always, onCreate)
	return nil
}

// group turns the values into what one PATCH operation sets, with their hashes,
// and lists the mapped units that have no value, but for those to leave as they are.
func (m *mapper) group(w *wanted, always, onCreate scim.Values) error {
	var err error
	if w.units, err = always.ByPath(); err != nil {
		return err
	}
	if w.onCreate, err = onCreate.ByPath(); err != nil {
		return err
	}
	w.Attributes = make(map[string][]byte, len(w.units))
	for path, unit := range w.units {
		w.Attributes[path] = unit.Hash(m.key)
	}
	for _, a := range m.attributes {
		path, err := scim.UnitPath(a.Path.String())
		if err != nil {
			return err
		}
		if _, has := w.units[path]; !has && a.On != connection.OnCreate && !slices.Contains(w.Absent, path) && !slices.Contains(w.left, path) {
			w.Absent = append(w.Absent, path)
		}
	}
	return nil
}

// required collects the matching values, and what is missing of them.
func (m *mapper) required(w *wanted, always, onCreate scim.Values) {
	values := maps.Clone(onCreate)
	maps.Copy(values, always)
	if id, mapped := values["externalId"].(string); mapped {
		w.externalID = id
	}
	if values[userName] == nil {
		w.Missing = append(w.Missing, userName)
	}
	for _, attribute := range m.match {
		value := matchingValue(values, attribute)
		if attribute == "externalId" {
			value = w.externalID
		}
		if value != "" {
			w.match = append(w.match, matchValue{attribute, value})
		}
	}
	if len(w.match) == 0 && !slices.Contains(w.Missing, m.match[0]) {
		w.Missing = append(w.Missing, m.match[0])
	}
}

// matchingValue is the value of a matching attribute: of its own path, or of the
// first typed value of a multi-valued one (emails.value matches by
// emails[type eq "work"].value).
func matchingValue(values scim.Values, attribute string) string {
	if v, ok := values[attribute].(string); ok {
		return v
	}
	name, sub, _ := strings.Cut(attribute, ".")
	var found string
	for path, value := range values {
		text, isText := value.(string)
		if !isText || !strings.HasPrefix(path, name+"[") || !strings.HasSuffix(path, "]."+sub) {
			continue
		}
		if found == "" || strings.Contains(path, `"work"`) {
			found = text
		}
	}
	return found
}

// mapped are the SCIM paths of the mapping that belong to a unit.
func (m *mapper) mapped(unit string) []string {
	var paths []string
	for _, a := range m.attributes {
		if path, err := scim.UnitPath(a.Path.String()); err == nil && path == unit {
			paths = append(paths, a.Path.String())
		}
	}
	return paths
}
