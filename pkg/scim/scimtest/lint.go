package scimtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// usualMembers is what common targets take in one request.
const usualMembers = 100

// maxFaults bounds what a linter remembers: the first ones say enough.
const maxFaults = 20

// linter finds requests that this server might take and a real target might not:
// what the RFC forbids, and what targets are known to read in different ways.
//
//	headers   User-Agent, Accept, Content-Type
//	query     filter parses, one projection, startIndex and count are numbers
//	bodies    schemas are those of the keys, nothing null or empty, nothing read-only,
//	          no dotted keys, active is a boolean, one primary, each member once
//	PUT       active is there: left out, some targets enable the user
//	PATCH     op in lower case, a path each and each once, remove without a value,
//	          never all members
//	members   not too many
type linter struct {
	typ        *resourceType
	max        int
	anyBoolean bool // booleans may be strings
	faults     []string
}

// lint is what a server found.
type lint struct {
	mu     sync.Mutex
	on     bool
	faults []string
}

// Lint makes the server check all requests from now on; Faults are what it found.
// Servers of NewServer do it unless Options.Hostile is set.
func (s *Server) Lint() {
	s.lint.mu.Lock()
	defer s.lint.mu.Unlock()
	s.lint.on = true
}

// Faults are the first requests that no real target should be sent, each with what
// is wrong with it.
func (s *Server) Faults() []string {
	s.lint.mu.Lock()
	defer s.lint.mu.Unlock()
	return slices.Clone(s.lint.faults)
}

// inspect checks one request.
func (s *Server) inspect(r Request, u *url.URL) {
	s.lint.mu.Lock()
	on := s.lint.on && len(s.lint.faults) < maxFaults
	s.lint.mu.Unlock()
	if !on {
		return
	}
	l := &linter{typ: userType, max: s.opts.MaxMembers, anyBoolean: s.quirks().StringBooleans}
	if strings.HasPrefix(r.Path, "/Groups") {
		l.typ = groupType
	}
	if l.max == 0 {
		l.max = usualMembers
	}
	l.headers(r)
	l.query(u.Query())
	if r.Body != "" {
		l.body(r)
	}
	s.lint.mu.Lock()
	defer s.lint.mu.Unlock()
	for _, fault := range l.faults {
		s.lint.faults = append(s.lint.faults, fmt.Sprintf("%s %s: %s: %s", r.Method, route(r.Path), fault, clip(r.Query+" "+r.Body)))
	}
}

func clip(s string) string { return s[:min(len(s), 500)] }

func (l *linter) fault(format string, args ...any) {
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

func (l *linter) headers(r Request) {
	if r.UserAgent == "" || strings.HasPrefix(r.UserAgent, "Go-http-client") {
		l.fault("no User-Agent of its own")
	}
	if !strings.Contains(r.Accept, scim.ContentType) {
		l.fault("Accept is %q", r.Accept)
	}
	if (r.Body != "") != (r.ContentType == scim.ContentType) {
		l.fault("Content-Type is %q, with a body of %d bytes", r.ContentType, len(r.Body))
	}
	if r.Body != "" && (r.Method == http.MethodGet || r.Method == http.MethodDelete) {
		l.fault("a body")
	}
}

func (l *linter) query(query url.Values) {
	if filter := query.Get("filter"); query.Has("filter") {
		if _, err := parseFilter(l.typ, filter); err != nil {
			l.fault("filter: %v", err)
		}
	}
	if query.Has("attributes") && query.Has("excludedAttributes") {
		l.fault("attributes and excludedAttributes")
	}
	for _, name := range []string{"startIndex", "count"} {
		if n, err := strconv.Atoi(query.Get(name)); query.Has(name) && (err != nil || n < 1) {
			l.fault("%s is %q", name, query.Get(name))
		}
	}
}

func (l *linter) body(r Request) {
	var body map[string]any
	if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
		l.fault("no JSON object: %v", err)
		return
	}
	if r.Method == http.MethodPatch {
		l.patch(body)
		return
	}
	l.schemas(body)
	if _, ok := body["active"]; r.Method == http.MethodPut && l.typ.kind == scim.KindUser && !ok {
		l.fault("PUT without active")
	}
	for _, name := range slices.Sorted(maps.Keys(body)) {
		if name != "schemas" && (name != "id" || r.Method != http.MethodPut) {
			l.attribute(name, body[name])
		}
	}
	l.members(len(array(body["members"])))
}

func array(v any) []any {
	items, _ := v.([]any)
	return items
}

// schemas are the kind's own, and those of the extensions that have a value.
func (l *linter) schemas(body map[string]any) {
	want := []string{l.typ.kind.Schema()}
	for name := range body {
		if strings.HasPrefix(name, "urn:") {
			want = append(want, name)
		}
	}
	var got []string
	for _, schema := range array(body["schemas"]) {
		got = append(got, fmt.Sprint(schema))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		l.fault("schemas are %v, want %v", got, want)
	}
}

// attribute checks a top-level attribute of a body.
func (l *linter) attribute(name string, value any) {
	if strings.HasPrefix(name, "urn:") {
		object, ok := value.(map[string]any)
		if !ok {
			l.fault("%s is no object", name)
		}
		for inner, v := range object {
			l.value(inner, v)
		}
		return
	}
	if d := find(l.typ.core, name); d != nil && d.readOnly {
		l.fault("%s is read-only", name)
	}
	l.value(name, value)
}

// value checks what was sent at a name, and everything in it.
func (l *linter) value(name string, value any) {
	if strings.Contains(name, ".") {
		l.fault("the key %q has a dot", name)
	}
	if _, isBool := value.(bool); (name == "active" || name == "primary") && !isBool && !l.anyBoolean {
		l.fault("%s is %v and no boolean", name, value)
	}
	switch v := value.(type) {
	case nil:
		l.fault("%s is null", name)
	case string:
		if v == "" {
			l.fault("%s is empty", name)
		}
	case map[string]any:
		if len(v) == 0 {
			l.fault("%s is an empty object", name)
		}
		for inner, item := range v {
			l.value(inner, item)
		}
	case []any:
		l.array(name, v)
	}
}

func (l *linter) array(name string, items []any) {
	if len(items) == 0 {
		l.fault("%s is an empty array", name)
	}
	primaries, seen := 0, map[any]bool{}
	for _, item := range items {
		if _, nested := item.([]any); nested {
			l.fault("%s is an array in an array", name)
		}
		l.value(name, item)
		if isPrimary(item) {
			primaries++
		}
		if o, ok := item.(map[string]any); ok && name == "members" {
			id, _ := o["value"].(string)
			if id == "" || seen[id] {
				l.fault("member %q twice, or without a value", id)
			}
			seen[id] = true
		}
	}
	if primaries > 1 {
		l.fault("%s has %d primary values", name, primaries)
	}
}

func (l *linter) patch(body map[string]any) {
	if schemas := array(body["schemas"]); len(schemas) != 1 || schemas[0] != scim.SchemaPatchOp {
		l.fault("schemas are %v", schemas)
	}
	ops := array(body["Operations"])
	if len(ops) == 0 {
		l.fault("no Operations")
	}
	seen, members := map[string]bool{}, 0
	for _, item := range ops {
		op, _ := item.(map[string]any)
		name, _ := op["op"].(string)
		path, _ := op["path"].(string)
		if seen[name+" "+path] {
			l.fault("%s of %q twice", name, path)
		}
		seen[name+" "+path] = true
		members += l.operation(name, path, op)
	}
	l.members(members)
}

// operation checks one operation and gives the number of members that it names.
func (l *linter) operation(name, path string, op map[string]any) (members int) {
	value, hasValue := op["value"]
	if !slices.Contains([]string{scim.OpAdd, scim.OpReplace, scim.OpRemove}, name) {
		l.fault("op is %q", name)
	}
	if hasValue == (name == scim.OpRemove) {
		l.fault("%s, and a value is there: %v", name, hasValue)
	}
	if path == "" {
		l.pathless(name, value)
		return 0
	}
	p, err := scim.ParsePath(path)
	if err != nil {
		l.fault("path: %v", err)
		return 0
	}
	if d := find(l.typ.core, p.Attribute); p.URN == "" && d != nil && d.readOnly {
		l.fault("%s is read-only", path)
	}
	if hasValue {
		at := p.Attribute
		if p.Sub != "" {
			at = p.Sub
		}
		l.value(at, value)
	}
	if p.Attribute != "members" {
		return 0
	}
	one := p.Filter != nil && p.Filter.Attribute == "value" && p.Sub == ""
	if name != scim.OpAdd && !one {
		l.fault("%s of all members", name)
	}
	return max(1, len(array(value)))
}

// pathless is how some targets want the attributes of an extension: an object under
// the URN.
func (l *linter) pathless(name string, value any) {
	object, _ := value.(map[string]any)
	if name == scim.OpRemove || len(object) == 0 {
		l.fault("%s without a path", name)
	}
	for key, v := range object {
		if !strings.HasPrefix(key, "urn:") {
			l.fault("%s of %s without a path", name, key)
		}
		l.attribute(key, v)
	}
}

func (l *linter) members(n int) {
	if n > l.max {
		l.fault("%d members in one request, want at most %d", n, l.max)
	}
}
