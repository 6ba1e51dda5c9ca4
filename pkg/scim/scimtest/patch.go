package scimtest

import (
	"maps"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// operation is one operation of a PATCH as it was sent.
type operation struct {
	op       string
	path     string
	value    any
	hasValue bool
}

// readOperations reads a PATCH message (RFC 7644 section 3.5.2).
func readOperations(body map[string]any) ([]operation, error) {
	schemas, _ := body["schemas"].([]any)
	if !slices.Contains(schemas, any(scim.SchemaPatchOp)) {
		return nil, invalid(typeSyntax, "schemas must name %s", scim.SchemaPatchOp)
	}
	list, _ := body["Operations"].([]any)
	if len(list) == 0 {
		return nil, invalid(typeSyntax, "Operations must not be empty")
	}
	ops := make([]operation, 0, len(list))
	for i, item := range list {
		object, _ := item.(map[string]any)
		name, _ := object["op"].(string)
		path, isString := object["path"].(string)
		value, hasValue := object["value"]
		op := operation{op: strings.ToLower(name), path: path, value: value, hasValue: hasValue && value != nil}
		switch {
		case !slices.Contains([]string{"add", "replace", "remove"}, op.op):
			return nil, invalid(typeSyntax, "operation %d: op must be add, replace or remove", i+1)
		case object["path"] != nil && !isString:
			return nil, invalid(typePath, "operation %d: path must be a string", i+1)
		case op.op == "remove" && path == "":
			return nil, invalid(typeNoTarget, "operation %d: remove needs a path", i+1)
		case op.op != "remove" && !op.hasValue:
			return nil, invalid(typeValue, "operation %d: %s needs a value", i+1, op.op)
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// target is what a PATCH path names.
type target struct {
	attributePath
	filter expression // which values of a multi-valued attribute; nil: all
}

// parsePath reads a PATCH path: attribute, attribute.sub, attribute[filter] or
// attribute[filter].sub.
func parsePath(t *resourceType, s string) (target, error) {
	if len(s) > maxFilter {
		return target{}, invalid(typePath, "the path is too long")
	}
	p := &parser{rest: s, resolve: t.resolve}
	path, err := p.path()
	if err != nil {
		return target{}, invalid(typePath, "%s: no such attribute", s)
	}
	out := target{attributePath: path}
	if strings.HasPrefix(p.rest, "[") {
		e, err := p.valuePath(path)
		if err != nil {
			return target{}, invalid(typePath, "%s: %v", s, err)
		}
		out.filter = e.inner
		if name, ok := strings.CutPrefix(p.rest, "."); ok {
			if out.sub = find(path.attr.subs, name); out.sub == nil {
				return target{}, invalid(typePath, "%s: no such sub-attribute", s)
			}
			p.rest = ""
		}
	}
	if p.rest != "" {
		return target{}, invalid(typePath, "%s: unexpected %q", s, p.rest)
	}
	return out, nil
}

// patcher applies operations to a copy of a resource's attributes.
type patcher struct {
	reader

	attrs map[string]any
	tx    *transaction
}

// patch applies all operations in order; the caller throws the copy away when one
// of them fails.
func (p patcher) patch(ops []operation) error {
	for _, op := range ops {
		var err error
		if op.path == "" {
			err = p.pathless(op)
		} else {
			err = p.at(op)
		}
		if err != nil {
			return err
		}
	}
	return p.required(p.attrs)
}

// pathless sets the attributes of an object one by one.
func (p patcher) pathless(op operation) error {
	values, ok := op.value.(map[string]any)
	if !ok {
		return invalid(typeValue, "without a path the value must be an object")
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		one := operation{op: op.op, path: key, value: values[key], hasValue: true}
		switch _, _, extension := p.typ.extension(key); {
		case strings.EqualFold(key, "schemas"):
			continue
		case extension:
		case strings.Contains(key, ".") && !strings.HasPrefix(strings.ToLower(key), "urn:"):
			return invalid(typePath, "%s: a path is not an attribute name", key)
		case values[key] == nil:
			return invalid(typeValue, "%s: null", key)
		}
		if err := p.at(one); err != nil {
			return err
		}
	}
	return nil
}

// at applies one operation at its path.
func (p patcher) at(op operation) error {
	if urn, _, ok := p.typ.extension(op.path); ok {
		return p.extension(urn, op)
	}
	t, err := parsePath(p.typ, op.path)
	if err != nil {
		return err
	}
	if t.attr.readOnly || t.sub != nil && (t.sub.readOnly || t.sub.immutable) {
		return invalid(typeMutability, "%s cannot be changed", op.path)
	}
	if p.typ.kind == scim.KindGroup && t.attr.name == "members" {
		return p.members(t, op)
	}
	container := p.attrs
	if t.urn != "" {
		inner, ok := p.attrs[t.urn].(map[string]any)
		if !ok {
			inner = map[string]any{}
		}
		container = inner
		defer func() {
			if p.attrs[t.urn] = inner; len(inner) == 0 {
				delete(p.attrs, t.urn)
			}
		}()
	}
	if op.op == "remove" {
		return p.remove(container, t)
	}
	return p.set(container, t, op)
}

// extension applies an operation to a whole extension.
func (p patcher) extension(urn string, op operation) error {
	if op.op == "remove" {
		delete(p.attrs, urn)
		return nil
	}
	values, ok := op.value.(map[string]any)
	if !ok {
		return invalid(typeValue, "%s must be an object", urn)
	}
	if p.quirks.ReplaceExtensions {
		delete(p.attrs, urn)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if err := p.at(operation{op: op.op, path: urn + ":" + key, value: values[key], hasValue: true}); err != nil {
			return err
		}
	}
	return nil
}

// members changes the members of a group. The values of a member are immutable:
// one is added or removed. A remove without filter removes all of them, whatever
// its value says (RFC 7644 section 3.5.2.2).
func (p patcher) members(t target, op operation) error {
	switch {
	case t.sub != nil, t.filter != nil && op.op != "remove":
		return invalid(typeMutability, "a member cannot be changed, only added and removed")
	case t.filter != nil && p.quirks.WipeOnPathRemove:
		p.tx.clear()
		return nil
	case t.filter != nil:
		for _, id := range p.tx.matching(t.filter) {
			if err := p.tx.remove(id); err != nil {
				return err
			}
		}
		return nil
	case op.op == "remove":
		p.tx.clear()
		return nil
	}
	value, err := p.value(t.attr, asArray(op))
	if err != nil {
		return err
	}
	if op.op == "replace" {
		p.tx.clear()
	}
	members, _ := value.([]any)
	return p.tx.add(members)
}

// asArray is the value of an add, which may be a single one.
func asArray(op operation) any {
	if _, isArray := op.value.([]any); isArray || op.op != "add" {
		return op.value
	}
	return []any{op.value}
}

func (p patcher) remove(container map[string]any, t target) error {
	name := t.attr.name
	items, _ := container[name].([]any)
	switch {
	case t.attr.required:
		return invalid(typeMutability, "%s is required", name)
	case t.filter == nil && t.sub == nil:
		delete(container, name)
		return nil
	case !t.attr.multi:
		if inner, ok := container[name].(map[string]any); ok {
			if delete(inner, t.sub.name); len(inner) == 0 {
				delete(container, name)
			}
		}
		return nil
	}
	kept := slices.DeleteFunc(items, func(item any) bool {
		o, _ := item.(map[string]any)
		if t.filter != nil && !t.filter.eval(object(o)) {
			return false
		}
		if t.sub == nil {
			return true
		}
		delete(o, t.sub.name)
		return len(o) == 0
	})
	if container[name] = kept; len(kept) == 0 {
		delete(container, name)
	}
	return nil
}

// set does add and replace.
func (p patcher) set(container map[string]any, t target, op operation) error {
	switch {
	case t.attr.multi && (t.filter != nil || t.sub != nil):
		return p.setMatching(container, t, op)
	case t.attr.multi:
		return p.setArray(container, t, op)
	case t.sub != nil:
		value, err := p.value(t.sub, op.value)
		if err != nil {
			return err
		}
		inner, ok := container[t.attr.name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			container[t.attr.name] = inner
		}
		inner[t.sub.name] = value
		return nil
	}
	value, err := p.value(t.attr, op.value)
	if err != nil || value == nil {
		return err
	}
	old, wasObject := container[t.attr.name].(map[string]any)
	if object, ok := value.(map[string]any); ok && wasObject {
		maps.Copy(old, object) // sub-attributes that are not named stay
		return nil
	}
	container[t.attr.name] = value
	return nil
}

// setArray adds to a multi-valued attribute or replaces it as a whole.
func (p patcher) setArray(container map[string]any, t target, op operation) error {
	value, err := p.value(t.attr, asArray(op))
	if err != nil {
		return err
	}
	fresh, _ := value.([]any)
	if op.op == "replace" {
		if container[t.attr.name] = fresh; len(fresh) == 0 {
			delete(container, t.attr.name)
		}
		return nil
	}
	items, _ := container[t.attr.name].([]any)
	before := len(items)
	for _, item := range fresh {
		if !slices.ContainsFunc(items, func(old any) bool { return equalValues(old, item) }) {
			items = append(items, item)
		}
	}
	container[t.attr.name] = items
	return p.demote(items, func(i int) bool { return i >= before })
}

// setMatching sets the values that a filter picks, or a sub-attribute of them.
func (p patcher) setMatching(container map[string]any, t target, op operation) error {
	items, _ := container[t.attr.name].([]any)
	definition := t.sub
	if definition == nil {
		single := *t.attr
		single.multi = false
		definition = &single
	}
	value, err := p.value(definition, op.value)
	if err != nil {
		return err
	}
	hit := map[int]bool{}
	for i, item := range items {
		o, ok := item.(map[string]any)
		if !ok || t.filter != nil && !t.filter.eval(object(o)) {
			continue
		}
		hit[i] = true
		fresh, isObject := clone(value).(map[string]any)
		switch {
		case t.sub != nil:
			o[t.sub.name] = value
		case op.op == "replace":
			items[i] = fresh
		case isObject:
			maps.Copy(o, fresh)
		}
	}
	if len(hit) == 0 {
		return invalid(typeNoTarget, "%s matches nothing", op.path)
	}
	return p.demote(items, func(i int) bool { return hit[i] })
}

// demote takes primary from the values that were not set just now, when one that
// was is primary: there is at most one (RFC 7644 section 3.5.2).
func (p patcher) demote(items []any, fresh func(i int) bool) error {
	var primaries, others int
	for i, item := range items {
		switch {
		case isPrimary(item) && fresh(i):
			primaries++
		case isPrimary(item):
			others++
		}
	}
	if primaries > 1 || p.quirks.RefuseRepeatedPrimary && primaries+others > 1 {
		return invalid(typeValue, "more than one value is primary")
	}
	for i, item := range items {
		if o, ok := item.(map[string]any); ok && primaries == 1 && !fresh(i) && isPrimary(o) {
			o["primary"] = false
		}
	}
	return nil
}

func equalValues(a, b any) bool {
	x, okX := a.(map[string]any)
	y, okY := b.(map[string]any)
	if okX && okY {
		return equal(x, y)
	}
	return !okX && !okY && a == b
}
