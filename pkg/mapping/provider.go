package mapping

import (
	"fmt"
	"regexp"
	"strings"

	"cel.dev/cel-go/common/types"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// Type names that expressions see in compile faults.
const (
	userType  = "rollcall.User"
	groupType = "rollcall.Group"
	allType   = "rollcall.All"
)

// Fields that are no directory attributes.
const (
	fieldAll     = "all"
	fieldDN      = "dn"
	fieldID      = "id"
	fieldEnabled = "enabled"
	fieldGroups  = "groups"
)

// attributeName is what the name of a directory attribute looks like. Numeric
// object identifiers are left out: they would be a second name for one
// attribute.
var attributeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,127}$`)

// provider gives CEL the types of user and group, whose fields are whatever the
// directory holds, and leaves everything else to the standard registry.
type provider struct{ *types.Registry }

// FindStructType implements types.Provider.
func (p provider) FindStructType(name string) (*types.Type, bool) {
	switch name {
	case userType, groupType, allType:
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	default:
		return p.Registry.FindStructType(name)
	}
}

// FindStructFieldType implements types.Provider.
func (p provider) FindStructFieldType(structType, field string) (*types.FieldType, bool) {
	switch structType {
	case userType:
		return userField(strings.ToLower(field))
	case groupType:
		return groupField(strings.ToLower(field))
	case allType:
		return listField(strings.ToLower(field))
	default:
		return p.Registry.FindStructFieldType(structType, field)
	}
}

func userField(name string) (*types.FieldType, bool) {
	switch name {
	case fieldEnabled:
		return always(types.BoolType, func(e *entry) any { return e.enabled }), true
	case fieldGroups:
		return always(types.NewListType(types.StringType), func(e *entry) any { return e.groups }), true
	default:
		return commonField(name)
	}
}

func groupField(name string) (*types.FieldType, bool) {
	if name == fieldEnabled || name == fieldGroups {
		return nil, false
	}
	return commonField(name)
}

func commonField(name string) (*types.FieldType, bool) {
	switch name {
	case fieldAll:
		return always(types.NewObjectType(allType), func(e *entry) any { return e }), true
	case fieldDN:
		return always(types.StringType, func(e *entry) any { return e.dn }), true
	case fieldID:
		return always(types.StringType, func(e *entry) any { return e.hexID() }), true
	default:
		return firstField(name)
	}
}

// firstField is the first value of an attribute; reading it from an entry
// without the attribute is ErrAbsent.
func firstField(name string) (*types.FieldType, bool) {
	if !attributeName.MatchString(name) {
		return nil, false
	}
	get := func(e *entry) (any, error) {
		if values := e.values(name); len(values) > 0 {
			return text(values[0]), nil
		}
		return nil, fmt.Errorf("%s: %w", name, ErrAbsent)
	}
	return field(types.StringType, name, get), true
}

// listField is the list of all values of an attribute, empty when absent.
func listField(name string) (*types.FieldType, bool) {
	if !attributeName.MatchString(name) {
		return nil, false
	}
	get := func(e *entry) (any, error) { return texts(e.values(name)), nil }
	return field(types.NewListType(types.StringType), name, get), true
}

func field(t *types.Type, name string, get func(*entry) (any, error)) *types.FieldType {
	return &types.FieldType{
		Type: t,
		IsSet: func(target any) bool {
			e, ok := target.(*entry)
			return ok && len(e.values(name)) > 0
		},
		GetFrom: func(target any) (any, error) {
			e, ok := target.(*entry)
			if !ok {
				return nil, fmt.Errorf("read %s of a %T", name, target)
			}
			return get(e)
		},
	}
}

// always is a field that every entry has.
func always(t *types.Type, get func(*entry) any) *types.FieldType {
	return &types.FieldType{
		Type:  t,
		IsSet: func(any) bool { return true },
		GetFrom: func(target any) (any, error) {
			e, ok := target.(*entry)
			if !ok {
				return nil, fmt.Errorf("read an entry's field of a %T", target)
			}
			return get(e), nil
		},
	}
}

// variable is the name that expressions of this kind use for the entry.
func variable(kind directoryv1.Kind) (name, typeName string) {
	switch kind {
	case directoryv1.Kind_KIND_USER:
		return "user", userType
	case directoryv1.Kind_KIND_GROUP:
		return "group", groupType
	case directoryv1.Kind_KIND_UNSPECIFIED:
		return "", ""
	default:
		return "", ""
	}
}
