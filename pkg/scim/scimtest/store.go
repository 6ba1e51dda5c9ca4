package scimtest

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// record is one resource. attrs is never changed in place: a write puts another
// map there, so that an answer can be written without the lock.
type record struct {
	typ      *resourceType
	id       string
	seq      int // order of creation
	attrs    map[string]any
	created  time.Time
	modified time.Time
	members  *ordered[*record] // of a group; nil values are unknown resources
	again    map[string]int    // how often a member stands there besides the first time
	groups   *ordered[*record] // that hold this resource
}

// store holds all resources and their indexes.
type store struct {
	opts     Options
	switches atomic.Pointer[Quirks]
	location atomic.Pointer[string]

	mu     sync.RWMutex
	seq    int
	tables map[scim.Kind]*table
}

// table are the resources of one kind.
type table struct {
	typ     *resourceType
	records *ordered[*record]
	index   map[string]map[string]map[string]*record // attribute, folded value, id
}

// indexed are the attributes that are found without a scan.
var indexed = []string{"userName", "externalId", "displayName"}

func newStore(opts Options) *store {
	st := &store{opts: opts, tables: map[scim.Kind]*table{}}
	for _, t := range []*resourceType{userType, groupType} {
		tb := &table{typ: t, records: newOrdered[*record](), index: map[string]map[string]map[string]*record{}}
		for _, name := range indexed {
			tb.index[name] = map[string]map[string]*record{}
		}
		st.tables[t.kind] = tb
	}
	base := BasePath
	st.location.Store(&base)
	return st
}

func indexKey(attrs map[string]any, name string) string {
	s, _ := attrs[name].(string)
	return strings.ToLower(s)
}

func (t *table) enter(r *record) {
	for name, index := range t.index {
		key := indexKey(r.attrs, name)
		if key == "" {
			continue
		}
		if index[key] == nil {
			index[key] = map[string]*record{}
		}
		index[key][r.id] = r
	}
}

func (t *table) leave(r *record) {
	for name, index := range t.index {
		key := indexKey(r.attrs, name)
		if delete(index[key], r.id); len(index[key]) == 0 {
			delete(index, key)
		}
	}
}

// byValue are the records with a value, in order of creation.
func (t *table) byValue(name, value string) []*record {
	var out []*record
	for _, r := range t.index[name][strings.ToLower(value)] {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *record) int { return cmp.Compare(a.seq, b.seq) })
	return out
}

// unique refuses attributes that another record has.
func (st *store) unique(t *table, attrs map[string]any, self string) error {
	var name string
	switch {
	case t.typ.kind == scim.KindUser && !st.quirks().DuplicateUserNames:
		name = "userName"
	case t.typ.kind == scim.KindGroup && st.quirks().UniqueGroupNames:
		name = "displayName"
	default:
		return nil
	}
	exact := name == "userName" && st.quirks().ExactUserNames
	for id, other := range t.index[name][indexKey(attrs, name)] {
		if id != self && (!exact || other.attrs[name] == attrs[name]) {
			scimType := typeUniqueness
			if st.quirks().BareConflict {
				scimType = ""
			}
			return fail(http.StatusConflict, scimType, "a %s with this %s exists", t.typ.kind, name)
		}
	}
	return nil
}

// find gives a live record; the lock is held.
func (st *store) find(kind scim.Kind, id string) (*record, error) {
	if r, ok := st.tables[kind].records.get(id); ok && !st.quirks().hides(r) {
		return r, nil
	}
	return nil, notFound(kind, id)
}

func notFound(kind scim.Kind, id string) error {
	return fail(http.StatusNotFound, "", "no %s %s", kind, id)
}

// any finds a resource of either kind.
func (st *store) any(id string) *record {
	for _, t := range st.tables {
		if r, ok := t.records.get(id); ok {
			return r
		}
	}
	return nil
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// create stores a new resource.
func (st *store) create(kind scim.Kind, attrs map[string]any, id string) (view, error) {
	members := takeMembers(attrs)
	if st.quirks().IgnoreMembersOnCreate {
		members = nil
	}
	if _, ok := attrs["active"]; !ok && kind == scim.KindUser {
		attrs["active"] = true
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	t := st.tables[kind]
	if r := st.hidden(t, attrs); r != nil {
		t.leave(r)
		r.attrs, r.modified = attrs, time.Now().UTC()
		t.enter(r)
		return st.view(r, true, true), nil
	}
	if err := st.unique(t, attrs, ""); err != nil {
		return view{}, err
	}
	st.seq++
	now := time.Now().UTC()
	r := &record{typ: t.typ, id: id, seq: st.seq, attrs: attrs, created: now, modified: now}
	r.groups = newOrdered[*record]()
	if kind == scim.KindGroup {
		r.members, r.again = newOrdered[*record](), map[string]int{}
		tx := &transaction{store: st, group: r}
		if err := tx.add(members); err != nil {
			tx.undo()
			return view{}, err
		}
	}
	t.records.add(r.id, r)
	t.enter(r)
	return st.view(r, true, true), nil
}

// hidden is the disabled user that a creation enables again; nil when there is none.
func (st *store) hidden(t *table, attrs map[string]any) *record {
	for _, r := range t.index["userName"][indexKey(attrs, "userName")] {
		if st.quirks().hides(r) {
			return r
		}
	}
	return nil
}

// update lets change make new attributes from a copy of the old ones, and stores
// them when everything is right; otherwise nothing has happened.
func (st *store) update(kind scim.Kind, id string, wantMembers bool, change func(attrs map[string]any, tx *transaction) (map[string]any, error)) (view, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	t := st.tables[kind]
	r, ok := t.records.get(id)
	if !ok {
		return view{}, notFound(kind, id)
	}
	tx := &transaction{store: st, group: r}
	attrs, err := change(cloneObject(r.attrs), tx)
	if err == nil && st.quirks().hides(r) && attrs["active"] != true {
		err = notFound(kind, id)
	}
	if err == nil {
		err = st.quirks().checkChange(r.attrs, attrs)
	}
	if err == nil {
		err = st.unique(t, attrs, id)
	}
	if err != nil {
		tx.undo()
		return view{}, err
	}
	if tx.changed() || !equal(r.attrs, attrs) {
		t.leave(r)
		r.attrs, r.modified = attrs, time.Now().UTC()
		t.enter(r)
	}
	return st.view(r, wantMembers, true), nil
}

// remove deletes a resource and its memberships.
func (st *store) remove(kind scim.Kind, id string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	r, err := st.find(kind, id)
	if err != nil {
		return err
	}
	t := st.tables[kind]
	t.leave(r)
	t.records.remove(id)
	for _, group := range r.groups.all() {
		if group.members.remove(id); st.quirks().KeepDeletedMembers {
			group.members.add(id, nil)
		}
		delete(group.again, id)
		group.modified = time.Now().UTC()
	}
	if r.members != nil {
		for _, m := range r.members.all() {
			if m != nil {
				m.groups.remove(id)
			}
		}
	}
	return nil
}

func (st *store) get(kind scim.Kind, id string, p projection) (view, error) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	r, err := st.find(kind, id)
	if err != nil {
		return view{}, err
	}
	return st.view(r, p.wants("members"), p.wants("groups")), nil
}

func cloneObject(object map[string]any) map[string]any {
	out := make(map[string]any, len(object))
	for k, item := range object {
		out[k] = clone(item)
	}
	return out
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return cloneObject(v)
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = clone(item)
		}
		return out
	}
	return v
}
