// Package mapping evaluates the expressions of the configuration: what the value
// of a SCIM attribute is, whether a user is enabled, who is in scope. An
// expression is CEL over one directory entry, compiled once and evaluated as
// often as there are entries. It is pure: it reads the entry and nothing else,
// no clock, no network. It knows nothing of SCIM and nothing of LDAP connections.
//
// What an expression sees, for a user (a group has no enabled and no groups):
//
//	user.mail           first value, a string; absent when the entry has none
//	user.all.mail       all values, a list; empty when the entry has none
//	user.?mail          optional: user.?mail.orValue("")
//	has(user.mail)      whether there is a value
//	user.`msDS-x`       a name that is no identifier
//	user.dn, user.id, user.enabled, user.groups
//
// An absent attribute makes the whole expression absent (ErrAbsent), one that
// the detector did not read makes it unknown (ErrUnknown).
package mapping

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// Bounds on what the directory can make an expression do.
const (
	maxSource = 8 << 10 // characters of source
	maxNodes  = 10_000  // syntax nodes, macros expanded
	maxRegex  = 2_000   // instructions of a pattern
	maxCost   = 5_000_000
	maxResult = 1 << 20 // bytes of a string result
	maxItems  = 10_000  // items of a list result
)

// Expression is a compiled expression. It is safe for concurrent use.
type Expression struct {
	source  string
	kind    directoryv1.Kind
	program cel.Program
	reads   reads
}

// Compile compiles an expression over an entry of this kind, whose result may be
// a string, a bool, an int, a double, a list of those, or an optional one. The
// error joins one *SourceError for each fault.
func Compile(kind directoryv1.Kind, source string) (*Expression, error) {
	c, err := check(kind, source)
	if err != nil {
		return nil, err
	}
	if problem, cure := refusedResult(c.ast.OutputType()); problem != "" {
		return nil, &SourceError{Line: 1, Column: 1, Problem: problem, Cure: cure}
	}
	return c.plan()
}

// CompileBool compiles an expression that must have a yes or no for every entry:
// its type is bool, and it cannot be absent. The error joins one *SourceError
// for each fault and names the cure.
func CompileBool(kind directoryv1.Kind, source string) (*Expression, error) {
	c, err := check(kind, source)
	if err != nil {
		return nil, err
	}
	if t := c.ast.OutputType(); !t.IsExactType(types.BoolType) {
		return nil, &SourceError{
			Line: 1, Column: 1,
			Problem: "must be a bool and is of type " + t.String(),
			Cure:    "compare it with something, for example == \"yes\"",
		}
	}
	if faults := c.unguarded(); len(faults) > 0 {
		return nil, joinFaults(faults)
	}
	return c.plan()
}

// Eval evaluates the expression over one entry. The result is a string, bool,
// int64, float64, or []any of those. errors.Is tells ErrAbsent and ErrUnknown
// from faults in the data.
func (e *Expression) Eval(o Object) (any, error) {
	value, err := e.run(o)
	if err != nil {
		return nil, err
	}
	return native(value)
}

// Bool evaluates an expression of CompileBool over one entry.
func (e *Expression) Bool(o Object) (bool, error) {
	value, err := e.run(o)
	if err != nil {
		return false, err
	}
	if b, ok := value.(types.Bool); ok {
		return bool(b), nil
	}
	return false, fmt.Errorf("evaluate %q: the result is no bool", e.source)
}

// Attributes returns the lower-case names of the directory attributes that the
// expression reads, sorted.
func (e *Expression) Attributes() []string {
	return slices.Clone(e.reads.attributes)
}

// UsesGroups reports whether the expression reads user.groups.
func (e *Expression) UsesGroups() bool { return e.reads.groups }

// UsesEnabled reports whether the expression reads user.enabled.
func (e *Expression) UsesEnabled() bool { return e.reads.enabled }

// Set returns the attribute set that the expression needs: its attributes, and
// GroupsMarker when it uses the names of groups.
func (e *Expression) Set() Set {
	s := NewSet(e.reads.attributes)
	if e.reads.groups {
		s[GroupsMarker] = struct{}{}
	}
	return s
}

// String returns the source of the expression.
func (e *Expression) String() string { return e.source }

// run evaluates the expression up to the CEL value.
func (e *Expression) run(o Object) (ref.Val, error) {
	if o.entry == nil || o.entry.kind != e.kind {
		return nil, fmt.Errorf("evaluate %q: the entry is no %s", e.source, kindName(e.kind))
	}
	if err := e.known(o.set); err != nil {
		return nil, err
	}
	value, _, err := e.program.Eval(&activation{entry: o.entry, kind: e.kind})
	if err != nil {
		return nil, evalError(e.source, err)
	}
	return value, nil
}

// known refuses to evaluate over attributes that nobody has read: has() and the
// optional forms could not tell them from absent ones.
func (e *Expression) known(set Set) error {
	if set == nil {
		return nil
	}
	for _, name := range e.reads.attributes {
		if !set.Contains(name) {
			return fmt.Errorf("%s: %w", name, ErrUnknown)
		}
	}
	if e.reads.groups && !set.Contains(GroupsMarker) {
		return fmt.Errorf("%s: %w", fieldGroups, ErrUnknown)
	}
	return nil
}

// evalError keeps the sentinels and hides nothing else than CEL's own error
// type, which compares by text.
func evalError(source string, err error) error {
	if celErr, ok := errors.AsType[*types.Err](err); ok {
		err = celErr.Unwrap()
	}
	return fmt.Errorf("evaluate %q: %w", source, err)
}

// activation hands the entry to CEL.
type activation struct {
	entry *entry
	kind  directoryv1.Kind
}

// ResolveName implements cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	if name != kindName(a.kind) {
		return nil, false
	}
	return a.entry, true
}

// Parent implements cel.Activation.
func (*activation) Parent() cel.Activation { return nil }

func kindName(kind directoryv1.Kind) string {
	name, _ := variable(kind)
	return name
}

// native turns a result of CEL into a plain Go value.
func native(value ref.Val) (any, error) {
	if o, ok := value.(*types.Optional); ok {
		if !o.HasValue() {
			return nil, fmt.Errorf("optional.none(): %w", ErrAbsent)
		}
		value = o.GetValue()
	}
	if l, ok := value.(traits.Lister); ok {
		return nativeList(l)
	}
	return nativeScalar(value)
}

func nativeScalar(value ref.Val) (any, error) {
	switch v := value.(type) {
	case types.String:
		if len(v) > maxResult {
			return nil, fmt.Errorf("the result has %d bytes, more than %d", len(v), maxResult)
		}
		return strings.ToValidUTF8(string(v), "\uFFFD"), nil
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return int64(v), nil
	case types.Double:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("the result %v is no number", float64(v))
		}
		return float64(v), nil
	default:
		return nil, fmt.Errorf("a result of type %s has no SCIM value", value.Type().TypeName())
	}
}

func nativeList(l traits.Lister) (any, error) {
	out := []any{}
	for it := l.Iterator(); it.HasNext() == types.True; {
		if len(out) == maxItems {
			return nil, fmt.Errorf("the result has more than %d items", maxItems)
		}
		item, err := nativeScalar(it.Next())
		if err != nil {
			return nil, err
		}
		out = append(out, item)
	}
	return out, nil
}
