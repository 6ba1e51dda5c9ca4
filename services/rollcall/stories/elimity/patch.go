package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/elimity-com/scim"
	scimerrors "github.com/elimity-com/scim/errors"
	"github.com/elimity-com/scim/filter"
	"github.com/elimity-com/scim/schema"
	parser "github.com/scim2/filter-parser/v2"
)

// patched is what operations make of attributes, which stay as they are (RFC 7644
// section 3.5.2).
func (c *collection) patched(attributes scim.ResourceAttributes, operations []scim.PatchOperation) (scim.ResourceAttributes, error) {
	data, err := json.Marshal(attributes)
	if err != nil {
		return nil, fmt.Errorf("copy the attributes: %w", err)
	}
	changed := map[string]any{}
	if err := json.Unmarshal(data, &changed); err != nil {
		return nil, fmt.Errorf("copy the attributes: %w", err)
	}
	for _, op := range operations {
		if err := c.patch(changed, op); err != nil {
			return nil, err
		}
	}
	return changed, nil
}

func (c *collection) patch(attributes map[string]any, op scim.PatchOperation) error {
	if op.Path != nil {
		return c.patchPath(attributes, op.Op, *op.Path, op.Value)
	}
	object, _ := op.Value.(map[string]any)
	for name, value := range object {
		if extension, ok := value.(map[string]any); ok && strings.HasPrefix(name, "urn:") {
			merge(attributes, name, extension)
			continue
		}
		path, err := parser.ParsePath([]byte(name))
		if err != nil {
			return scimerrors.ScimErrorInvalidPath
		}
		if err := c.patchPath(attributes, op.Op, path, value); err != nil {
			return err
		}
	}
	return nil
}

func merge(attributes map[string]any, name string, more map[string]any) {
	object, _ := attributes[name].(map[string]any)
	if object == nil {
		object = map[string]any{}
	}
	for key, value := range more {
		put(object, key, value)
	}
	put(attributes, name, object)
}

// patchPath changes one attribute, of the resource itself or of an extension.
func (c *collection) patchPath(attributes map[string]any, op string, path parser.Path, value any) error {
	urn := path.AttributePath.URI()
	if urn == "" || urn == c.schema.ID {
		return c.patchAttribute(attributes, op, path, value)
	}
	extension, _ := attributes[urn].(map[string]any)
	if extension == nil {
		extension = map[string]any{}
	}
	err := c.patchAttribute(extension, op, path, value)
	put(attributes, urn, extension)
	return err
}

func (c *collection) patchAttribute(object map[string]any, op string, path parser.Path, value any) error {
	name := spelled(object, path.AttributePath.AttributeName)
	sub := path.AttributePath.SubAttributeName() + path.SubAttributeName()
	switch {
	case path.ValueExpression != nil:
		return c.patchElements(object, op, path, sub, value)
	case sub != "":
		inner, _ := object[name].(map[string]any)
		if inner == nil {
			inner = map[string]any{}
		}
		if op == scim.PatchOperationRemove {
			value = nil
		}
		put(inner, spelled(inner, sub), value)
		put(object, name, inner)
	default:
		put(object, name, combined(op, object[name], value))
	}
	return nil
}

// combined is an attribute after an operation that names it as a whole.
func combined(op string, before, value any) any {
	list, isList := value.([]any)
	old, _ := before.([]any)
	switch {
	case op == scim.PatchOperationRemove && isList: // the elements that it names
		return slices.DeleteFunc(old, func(e any) bool { return slices.ContainsFunc(list, func(v any) bool { return alike(e, v) }) })
	case op == scim.PatchOperationRemove:
		return nil
	case op == scim.PatchOperationAdd && isList:
		for _, v := range list {
			if !slices.ContainsFunc(old, func(e any) bool { return alike(e, v) }) {
				old = append(old, v)
			}
		}
		return old
	default:
		return value
	}
}

// alike says whether two elements are one: the same, or a member of the same id.
func alike(a, b any) bool {
	return reflect.DeepEqual(a, b) || text(a, "value") != "" && text(a, "value") == text(b, "value") && text(a, "type") == text(b, "type")
}

// patchElements changes the elements of a multi-valued attribute that pass a filter.
func (c *collection) patchElements(object map[string]any, op string, path parser.Path, sub string, value any) error {
	attribute, there := c.schema.Attributes.ContainsAttribute(path.AttributePath.AttributeName)
	if !there {
		return scimerrors.ScimErrorInvalidPath
	}
	name := attribute.Name()
	passes := filter.NewFilterValidator(path.ValueExpression, schema.Schema{Attributes: filter.MultiValuedFilterAttributes(attribute)})
	var kept []any
	matched := false
	elements, _ := object[name].([]any)
	for _, e := range elements {
		element, _ := e.(map[string]any)
		if passes.PassesFilter(element) != nil {
			kept = append(kept, e)
			continue
		}
		matched = true
		switch {
		case op == scim.PatchOperationRemove && sub == "":
			continue
		case op == scim.PatchOperationRemove:
			delete(element, sub)
		case sub != "":
			put(element, sub, value)
		default:
			for key, v := range value.(map[string]any) { //nolint:forcetypeassert // the library checked it
				put(element, key, v)
			}
		}
		kept = append(kept, element)
	}
	if !matched && op != scim.PatchOperationRemove {
		return scimerrors.ScimErrorNoTarget
	}
	put(object, name, kept)
	return nil
}

// spelled is the name of an attribute as it stands there: names do not depend on case.
func spelled(object map[string]any, name string) string {
	for key := range object {
		if strings.EqualFold(key, name) {
			return key
		}
	}
	return name
}

// put sets an attribute; one without a value is none (RFC 7643 section 2.5).
func put(object map[string]any, name string, value any) {
	list, isList := value.([]any)
	inner, isObject := value.(map[string]any)
	if value == nil || isList && len(list) == 0 || isObject && len(inner) == 0 {
		delete(object, name)
		return
	}
	object[name] = value
}
