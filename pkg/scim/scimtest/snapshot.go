package scimtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// Users are all users as GET shows them, in order of creation. The maps are the
// caller's.
func (s *Server) Users() []map[string]any { return s.snapshot(scim.KindUser) }

// Groups are all groups as GET shows them, in order of creation.
func (s *Server) Groups() []map[string]any { return s.snapshot(scim.KindGroup) }

func (s *Server) snapshot(kind scim.Kind) []map[string]any {
	st := s.store
	st.mu.RLock()
	defer st.mu.RUnlock()
	out := make([]map[string]any, 0, st.tables[kind].records.len())
	for _, r := range st.tables[kind].records.all() {
		out = append(out, detached(st.view(r, true, true)))
	}
	return out
}

// detached is a document that shares nothing with the store.
func detached(v view) map[string]any {
	return cloneObject(v.document())
}

// Count is the number of resources of a kind.
func (s *Server) Count(kind scim.Kind) int {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	return s.store.tables[kind].records.len()
}

// User finds a user by userName, without regard to case.
func (s *Server) User(userName string) (map[string]any, bool) {
	return s.first(scim.KindUser, "userName", userName)
}

// Group finds the oldest group of a name, without regard to case.
func (s *Server) Group(displayName string) (map[string]any, bool) {
	return s.first(scim.KindGroup, "displayName", displayName)
}

func (s *Server) first(kind scim.Kind, attribute, value string) (map[string]any, bool) {
	st := s.store
	st.mu.RLock()
	defer st.mu.RUnlock()
	records := st.tables[kind].byValue(attribute, value)
	if len(records) == 0 {
		return nil, false
	}
	return detached(st.view(records[0], true, true)), true
}

// Members are the names of the members of the oldest group of a name, sorted:
// userName of users, displayName of groups, the id of what does not exist.
func (s *Server) Members(displayName string) []string {
	st := s.store
	st.mu.RLock()
	defer st.mu.RUnlock()
	groups := st.tables[scim.KindGroup].byValue("displayName", displayName)
	if len(groups) == 0 {
		return nil
	}
	names := make([]string, 0, groups[0].members.len())
	for id, m := range groups[0].members.all() {
		for range 1 + groups[0].again[id] {
			names = append(names, nameOf(id, m))
		}
	}
	slices.Sort(names)
	return names
}

func nameOf(id string, r *record) string {
	if r == nil {
		return id
	}
	name := "userName"
	if r.typ.kind == scim.KindGroup {
		name = "displayName"
	}
	s, _ := r.attrs[name].(string)
	return s
}

// Seed stores a resource without a request and gives its id, which is a new one unless
// the body has one. It panics when the body is not valid, because then the test is wrong.
func (s *Server) Seed(kind scim.Kind, body map[string]any) string {
	full := map[string]any{"schemas": []any{kind.Schema()}}
	if kind == scim.KindUser && body[scim.SchemaEnterpriseUser] != nil {
		full["schemas"] = []any{kind.Schema(), scim.SchemaEnterpriseUser}
	}
	maps.Copy(full, body)
	id, err := s.seed(kind, full)
	if err != nil {
		panic(fmt.Sprintf("scimtest: seed a %s: %v", kind, err))
	}
	return id
}

func (s *Server) seed(kind scim.Kind, body map[string]any) (string, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("write the body: %w", err)
	}
	plain, err := decode(string(data))
	if err != nil {
		return "", err
	}
	attrs, err := reader{typ: typeOf(kind), quirks: *s.quirks()}.resource(plain)
	if err != nil {
		return "", err
	}
	id, _ := body["id"].(string)
	v, err := s.store.create(kind, attrs, cmp.Or(id, newID()))
	return v.id, err
}

// Patch changes a resource behind everybody's back, without a request in the log.
func (s *Server) Patch(kind scim.Kind, id string, ops ...scim.Operation) error {
	data, err := json.Marshal(map[string]any{"schemas": []string{scim.SchemaPatchOp}, "Operations": ops})
	if err != nil {
		return fmt.Errorf("write the operations: %w", err)
	}
	_, err = call{server: s, request: Request{Body: string(data)}, typ: typeOf(kind), id: id}.patch()
	return err
}

// Remove deletes a resource behind everybody's back.
func (s *Server) Remove(kind scim.Kind, id string) error { return s.store.remove(kind, id) }

// Row is one resource in short, for the live page.
type Row struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Active  bool      `json:"active"`
	Members int       `json:"members"`
	Changed time.Time `json:"changed"`
}

// Recent are the n resources of a kind that changed last, newest first.
func (s *Server) Recent(kind scim.Kind, n int) []Row {
	st := s.store
	st.mu.RLock()
	rows := make([]Row, 0, st.tables[kind].records.len())
	for id, r := range st.tables[kind].records.all() {
		row := Row{ID: id, Name: nameOf(id, r), Changed: r.modified}
		row.Active, _ = r.attrs["active"].(bool)
		if r.members != nil {
			row.Members = r.members.len()
		}
		rows = append(rows, row)
	}
	st.mu.RUnlock()
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Or(b.Changed.Compare(a.Changed), cmp.Compare(a.ID, b.ID)) })
	return rows[:min(n, len(rows))]
}
