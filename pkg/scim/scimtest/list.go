package scimtest

import (
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

const defaultPage = 100

// list serves a page of a collection, filtered.
func (c call) list() (answer, error) {
	start, count, err := c.paging()
	if err != nil {
		return answer{}, err
	}
	quirks := c.server.quirks()
	byCursor := quirks.CursorOnly || quirks.CursorPaging && c.query.Has("cursor")
	if byCursor {
		if start, err = readCursor(c.query.Get("cursor")); err != nil {
			return answer{}, err
		}
	}
	var filter expression
	text := c.query.Get("filter")
	switch {
	case text != "" && quirks.NoFilters:
		return answer{}, fail(http.StatusNotImplemented, "", "no filters here")
	case text == "" && quirks.ListByFilterOnly:
		return answer{}, invalid("tooMany", "a filter is needed")
	}
	if text != "" && !quirks.IgnoreFilters {
		if filter, err = parseFilter(c.typ, text); err != nil {
			return answer{}, err
		}
	}
	switch {
	case quirks.StuckPaging:
		start = 1
	case quirks.NoPaging:
		start, count = 1, math.MaxInt
	}
	views, total := c.server.store.list(c.typ.kind, filter, start-1, count, c.projection)
	if limit := quirks.MaxListed; limit > 0 && !c.query.Has("filter") {
		total = min(total, limit)
		views = views[:min(len(views), max(0, limit-(start-1)))]
	}
	resources := make([]any, 0, len(views))
	for _, v := range views {
		resources = append(resources, c.show(http.StatusOK, v).body)
	}
	if byCursor {
		return cursorAnswer(resources, total, start), nil
	}
	return listAnswer(resources, total, start), nil
}

// readCursor gives the first resource behind a cursor (RFC 9865).
func readCursor(cursor string) (start int, err error) {
	if cursor == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(cursor, "after-"))
	if err != nil || n < 1 {
		return 0, invalid("invalidCursor", "%s is no cursor", cursor)
	}
	return n + 1, nil
}

// cursorAnswer is a page without a count of all.
func cursorAnswer(resources []any, total, start int) answer {
	a := listAnswer(resources, total, start)
	body := map[string]any{"schemas": []string{scim.SchemaListResponse}, "itemsPerPage": len(resources), "Resources": resources}
	if last := start - 1 + len(resources); last < total {
		body["nextCursor"] = "after-" + strconv.Itoa(last)
	}
	a.body = body
	return a
}

// paging reads startIndex and count (RFC 7644 section 3.4.2.4).
func (c call) paging() (start, count int, err error) {
	start, count = 1, defaultPage
	for name, into := range map[string]*int{"startIndex": &start, "count": &count} {
		text := c.query.Get(name)
		if text == "" {
			continue
		}
		if *into, err = strconv.Atoi(text); err != nil {
			return 0, 0, invalid(typeValue, "%s must be a number", name)
		}
	}
	return max(start, 1), min(max(count, 0), c.server.opts.MaxPage), nil
}

// list gives the views from skip on and how many match in all.
func (st *store) list(kind scim.Kind, filter expression, skip, count int, p projection) ([]view, int) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	t := st.tables[kind]
	members, groups := p.wants("members"), p.wants("groups")
	if filter == nil && !st.quirks().GoneWhenInactive {
		var out []view
		for _, r := range t.records.slice(skip, count) {
			out = append(out, st.view(r, members, groups))
		}
		return out, t.records.len()
	}
	var out []view
	total := 0
	st.candidates(t, filter, func(r *record) {
		if st.quirks().hides(r) || filter != nil && (!filter.eval(lazy{st, r}) || !st.exactly(filter, r)) {
			return
		}
		if total++; total > skip && len(out) < count {
			out = append(out, st.view(r, members, groups))
		}
	})
	return out, total
}

// lazy is a record that a filter looks at; members are only built when asked for.
type lazy struct {
	store  *store
	record *record
}

func (l lazy) attribute(urn, name string) any {
	if name != "members" && name != "groups" {
		return view{record: *l.record}.attribute(urn, name)
	}
	return l.store.view(l.record, name == "members", name == "groups").attribute(urn, name)
}

// exactly is the quirk of comparing userName with regard to case.
func (st *store) exactly(filter expression, r *record) bool {
	c, ok := filter.(comparison)
	if !st.quirks().CaseSensitiveFilters || !ok || c.op != "eq" || c.path.sub != nil {
		return true
	}
	got, isString := r.attrs[c.path.attr.name].(string)
	return !isString || got == c.value
}

// candidates goes through the records that can match, in order of creation: by an
// index where the filter allows it, otherwise all.
func (st *store) candidates(t *table, filter expression, each func(*record)) {
	if records, ok := st.planned(t, filter); ok {
		for _, r := range records {
			each(r)
		}
		return
	}
	for _, r := range t.records.all() {
		each(r)
	}
}

func (st *store) planned(t *table, filter expression) ([]*record, bool) {
	switch e := filter.(type) {
	case andExpression:
		if records, ok := st.planned(t, e.left); ok {
			return records, true
		}
		return st.planned(t, e.right)
	case comparison:
		value, isString := e.value.(string)
		if e.op != "eq" || !isString || e.path.urn != "" {
			return nil, false
		}
		return st.lookUp(t, e.path, value)
	}
	return nil, false
}

func (st *store) lookUp(t *table, p attributePath, value string) ([]*record, bool) {
	switch name := p.attr.name; {
	case name == "id":
		if r, ok := t.records.get(value); ok {
			return []*record{r}, true
		}
		return nil, true
	case name == "members" && (p.sub == nil || p.sub.name == "value"):
		return st.holders(value), st.any(value) != nil
	case t.index[name] != nil:
		return t.byValue(name, value), true
	}
	return nil, false
}

// holders are the groups that a resource is a member of.
func (st *store) holders(id string) []*record {
	r := st.any(id)
	if r == nil {
		return nil
	}
	out := make([]*record, 0, r.groups.len())
	for _, group := range r.groups.all() {
		out = append(out, group)
	}
	return out
}
