package scim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Operation is one operation of a PATCH (RFC 7644 section 3.5.2).
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path,omitempty"`
	Value any    `json:"value,omitempty"`
}

// The names of the operations.
const (
	OpAdd     = "add"
	OpReplace = "replace"
	OpRemove  = "remove"
)

// SetOperation sets a unit to its value, whatever stood there.
func SetOperation(u Unit) Operation {
	return Operation{Op: OpReplace, Path: u.Path, Value: u.Value}
}

// ClearOperation clears the attribute at a unit's path.
func ClearOperation(path string) Operation {
	return Operation{Op: OpRemove, Path: path}
}

// Operations are those that set the units and clear the paths, in this order.
func Operations(units []Unit, cleared []string) []Operation {
	ops := make([]Operation, 0, len(units)+len(cleared))
	for _, u := range units {
		ops = append(ops, SetOperation(u))
	}
	for _, path := range cleared {
		ops = append(ops, ClearOperation(path))
	}
	return ops
}

// AddMembers adds resources to a group.
func AddMembers(ids []string) Operation {
	members := make([]any, len(ids))
	for i, id := range ids {
		members[i] = map[string]any{"value": id}
	}
	return Operation{Op: OpAdd, Path: "members", Value: members}
}

// RemoveMember removes one resource from a group, and no other.
func RemoveMember(id string) Operation {
	return Operation{Op: OpRemove, Path: "members[value eq " + quote(id) + "]"}
}

// patchBody checks the operations and wraps them into a PATCH message, as the target
// wants it.
func patchBody(ops []Operation, profile Profile) (map[string]any, error) {
	if len(ops) == 0 {
		return nil, fmt.Errorf("%w: a PATCH without operations", ErrRefused)
	}
	for i, op := range ops {
		if err := op.Check(); err != nil {
			return nil, fmt.Errorf("operation %d: %w", i+1, err)
		}
	}
	sent := make([]Operation, 0, len(ops))
	for _, op := range ops {
		op = profile.operation(op)
		if last := len(sent) - 1; last >= 0 && op.joins(sent[last]) {
			sent[last].Value = joined(sent[last].Value, op.Value)
			continue
		}
		sent = append(sent, op)
	}
	return map[string]any{"schemas": []string{SchemaPatchOp}, "Operations": sent}, nil
}

// joins says whether an operation sets more of the extension that the one before it
// sets: a target may replace all of it by each.
func (o Operation) joins(before Operation) bool {
	object, _ := o.Value.(map[string]any)
	former, _ := before.Value.(map[string]any)
	for urn := range object {
		return o.Path == "" && before.Path == "" && o.Op == before.Op && former[urn] != nil
	}
	return false
}

// joined is the object of an extension with more of it.
func joined(before, more any) map[string]any {
	out, _ := cloneValue(before).(map[string]any)
	object, _ := more.(map[string]any)
	for urn, part := range object {
		extension, _ := out[urn].(map[string]any)
		attributes, _ := part.(map[string]any)
		maps.Copy(extension, attributes)
	}
	return out
}

// SentWith says whether an attribute has to be sent along when others are set: it is of
// the same extension, which is sent as an object that some targets replace as a whole.
func (p Profile) SentWith(path string, set []string) bool {
	at, err := ParsePath(path)
	return err == nil && at.URN != "" && p.ExtensionPatch == ExtensionNested && slices.ContainsFunc(set, func(other string) bool {
		one, err := ParsePath(other)
		return err == nil && one.URN == at.URN
	})
}

// Together are the units in the parts that may be sent alone.
func (p Profile) Together(units []Unit) [][]Unit {
	var parts [][]Unit
	for _, u := range units {
		i := slices.IndexFunc(parts, func(part []Unit) bool { return p.SentWith(u.Path, []string{part[0].Path}) })
		if i < 0 {
			parts = append(parts, []Unit{u})
			continue
		}
		parts[i] = append(parts[i], u)
	}
	return parts
}

// operation is an operation as the target wants it.
func (p Profile) operation(op Operation) Operation {
	at, err := ParsePath(op.Path)
	switch {
	case err != nil || op.Op == OpRemove:
		return op
	case p.ExtensionPatch == ExtensionNested && at.URN != "":
		object := map[string]any{}
		if place(object, op.Path, op.Value) != nil {
			return op
		}
		return Operation{Op: op.Op, Value: object}
	case p.BoolAsString && at.String() == "active":
		op.Value = flag(op.Value)
	}
	return op
}

// flagged is the body of a user as the target wants its active.
func (p Profile) flagged(kind Kind, body map[string]any) map[string]any {
	if !p.BoolAsString || kind != KindUser || body["active"] == nil {
		return body
	}
	out := maps.Clone(body)
	out["active"] = flag(body["active"])
	return out
}

// flag is a boolean as a string.
func flag(value any) any {
	switch value {
	case true:
		return "True"
	case false:
		return "False"
	default:
		return value
	}
}

// Check refuses what targets read differently from each other, or what removes
// more than anybody meant. Its error is ErrRefused.
func (o Operation) Check() error {
	p, err := ParsePath(o.Path)
	switch {
	case o.Path == "":
		return fmt.Errorf("%w: %s without a path", ErrRefused, o.Op)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	known := lookUp(p.URN, p.Attribute)
	if known != nil && known.readOnly {
		return fmt.Errorf("%w: only the target sets %s", ErrRefused, p.Attribute)
	}
	switch o.Op {
	case OpRemove:
		return o.checkRemoval(p)
	case OpAdd, OpReplace:
		if path, null := findNull(o.Value, p.String()); null {
			return fmt.Errorf("%w: %s of an empty value at %s; use remove", ErrRefused, o.Op, path)
		}
		return nil
	default:
		return fmt.Errorf("%w: op %q; use add, replace or remove", ErrRefused, clip(o.Op, 20))
	}
}

func (o Operation) checkRemoval(p Path) error {
	if o.Value != nil {
		return fmt.Errorf("%w: remove with a value", ErrRefused)
	}
	if p.Attribute == "members" && (p.Filter == nil || p.Filter.Attribute != "value" || p.Sub != "") {
		return fmt.Errorf("%w: a removal of all members; name one by members[value eq \"id\"]", ErrRefused)
	}
	return nil
}

// findNull finds null, "" or an empty array or object in a value.
func findNull(v any, path string) (string, bool) {
	if empty(v) {
		return path, true
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if at, null := findNull(item, path+"[]"); null {
				return at, true
			}
		}
	case map[string]any:
		for name, item := range v {
			if at, null := findNull(item, path+"."+name); null {
				return at, true
			}
		}
	}
	return "", false
}

// changesMembers says how many members the operations name.
func changesMembers(ops []Operation) int {
	n := 0
	for _, o := range ops {
		if strings.HasPrefix(strings.ToLower(o.Path), "members") {
			n += max(1, len(list(o.Value)))
		}
	}
	return n
}
