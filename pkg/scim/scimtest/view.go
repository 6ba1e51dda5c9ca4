package scimtest

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// view is a resource as it stood at one moment, to be written without the lock.
type view struct {
	record
	location string
	memberOf []any
	has      []any // members
}

// view copies what can change; the lock is held.
func (st *store) view(r *record, members, groups bool) view {
	v := view{record: *r, location: *st.location.Load() + r.typ.endpoint + "/" + r.id}
	if members && r.members != nil && !st.quirks().HideMembers {
		v.has = make([]any, 0, r.members.len())
		for id, target := range r.members.all() {
			for range 1 + r.again[id] {
				v.has = append(v.has, st.memberView(id, target))
			}
		}
	}
	if groups && r.typ.kind == scim.KindUser {
		for id, group := range r.groups.all() {
			v.memberOf = append(v.memberOf, map[string]any{
				"value": id, "display": group.attrs["displayName"], "type": "direct",
				"$ref": *st.location.Load() + groupType.endpoint + "/" + id,
			})
		}
	}
	return v
}

// memberView is one member as a group shows it.
func (st *store) memberView(id string, target *record) map[string]any {
	out := map[string]any{"value": id}
	if target == nil {
		return out
	}
	out["type"] = target.typ.kind.String()
	out["$ref"] = *st.location.Load() + target.typ.endpoint + "/" + id
	for _, name := range []string{"displayName", "userName"} {
		if s, ok := target.attrs[name].(string); ok {
			out["display"] = s
			break
		}
	}
	return out
}

// document is the whole resource as JSON shows it.
func (v view) document() map[string]any {
	out := maps.Clone(v.attrs)
	schemas := []string{v.typ.kind.Schema()}
	for _, urn := range slices.Sorted(maps.Keys(v.typ.extensions)) {
		if out[urn] != nil {
			schemas = append(schemas, urn)
		}
	}
	out["schemas"], out["id"] = schemas, v.id
	out["meta"] = map[string]any{
		"resourceType": v.typ.kind.String(), "location": v.location,
		"created": v.created.Format(time.RFC3339Nano), "lastModified": v.modified.Format(time.RFC3339Nano),
	}
	if len(v.has) > 0 {
		out["members"] = v.has
	}
	if len(v.memberOf) > 0 {
		out["groups"] = v.memberOf
	}
	delete(out, "password")
	return out
}

// attribute makes a view something that a filter looks at.
func (v view) attribute(urn, name string) any {
	switch {
	case urn != "":
		extension, _ := v.attrs[urn].(map[string]any)
		return extension[name]
	case name == "id":
		return v.id
	case name == "meta":
		return v.document()["meta"]
	case name == "members":
		return v.has
	case name == "groups":
		return v.memberOf
	case name == "password":
		return nil
	}
	return v.attrs[name]
}

// projection is what attributes and excludedAttributes ask for, as trees of
// folded names; an empty tree is everything below.
type projection struct {
	only, without tree
}

type tree map[string]tree

// newProjection reads the two lists; they exclude each other.
func newProjection(t *resourceType, only, without string) (projection, error) {
	if only != "" && without != "" {
		return projection{}, invalid(typeSyntax, "attributes and excludedAttributes exclude each other")
	}
	return projection{only: newTree(t, only), without: newTree(t, without)}, nil
}

// newTree reads names separated by commas; unknown ones are ignored.
func newTree(t *resourceType, names string) tree {
	if names == "" {
		return nil
	}
	root := tree{}
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		if urn, _, ok := t.extension(name); ok {
			root[urn] = tree{}
			continue
		}
		if p, ok := t.resolve(name); ok {
			root.enter(p)
		}
	}
	return root
}

func (t tree) enter(p attributePath) {
	var steps []string
	if p.urn != "" {
		steps = append(steps, p.urn)
	}
	steps = append(steps, p.attr.name)
	if p.sub != nil {
		steps = append(steps, p.sub.name)
	}
	for _, step := range steps {
		if t[step] == nil {
			t[step] = tree{}
		}
		t = t[step]
	}
}

// wants says whether a top-level attribute can be in the answer.
func (p projection) wants(name string) bool {
	if p.only != nil {
		return p.only[name] != nil
	}
	excluded, ok := p.without[name]
	return !ok || len(excluded) > 0
}

// apply cuts a document down; id and schemas always stay.
func (p projection) apply(document map[string]any) map[string]any {
	var out map[string]any
	switch {
	case p.only != nil:
		out = p.only.keep(document)
	case len(p.without) > 0:
		out = p.without.drop(document)
	default:
		return document
	}
	out["id"], out["schemas"] = document["id"], document["schemas"]
	return out
}

func (t tree) keep(object map[string]any) map[string]any {
	out := map[string]any{}
	for name, below := range t {
		if v, ok := object[name]; ok {
			out[name] = descend(v, below, below.keep)
		}
	}
	return out
}

func (t tree) drop(object map[string]any) map[string]any {
	out := maps.Clone(object)
	for name, below := range t {
		if v, ok := out[name]; ok {
			if len(below) == 0 {
				delete(out, name)
				continue
			}
			out[name] = descend(v, below, below.drop)
		}
	}
	return out
}

// descend applies a function to the objects below a name.
func descend(v any, below tree, f func(map[string]any) map[string]any) any {
	if len(below) == 0 {
		return v
	}
	switch v := v.(type) {
	case map[string]any:
		return f(v)
	case []any:
		out := make([]any, 0, len(v))
		for _, item := range v {
			out = append(out, descend(item, below, f))
		}
		return out
	}
	return v
}
