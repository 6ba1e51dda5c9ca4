package mapping

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// reads is what an expression reads of an entry.
type reads struct {
	attributes []string // lower case, sorted
	groups     bool
	enabled    bool
}

// access is one place where an expression touches the entry.
type access struct {
	name     string // lower-case field
	written  string // the field as it stands in the source
	all      bool   // user.all.name
	test     bool   // has(user.name)
	optional bool   // user.?name
}

// attribute reports whether the access reads a directory attribute.
func (a access) attribute() bool {
	switch a.name {
	case fieldDN, fieldID, fieldEnabled, fieldGroups, fieldAll:
		return a.all
	default:
		return true
	}
}

// accessOf tells whether e touches a field of the entry.
func accessOf(e ast.Expr, variable string) (access, bool) {
	operand, a, ok := selection(e)
	if !ok {
		return access{}, false
	}
	if isVariable(operand, variable) {
		return a, true
	}
	inner, outer, ok := selection(operand)
	if ok && isVariable(inner, variable) && outer.name == fieldAll && !outer.test && !outer.optional {
		a.all = true
		return a, true
	}
	return access{}, false
}

// selection takes x.f, x.?f and has(x.f) apart.
func selection(e ast.Expr) (operand ast.Expr, a access, ok bool) {
	switch e.Kind() {
	case ast.SelectKind:
		s := e.AsSelect()
		return s.Operand(), access{name: strings.ToLower(s.FieldName()), written: s.FieldName(), test: s.IsTestOnly()}, true
	case ast.CallKind:
		c := e.AsCall()
		if c.FunctionName() != operators.OptSelect || len(c.Args()) != 2 || c.Args()[1].Kind() != ast.LiteralKind {
			return nil, access{}, false
		}
		name, isString := c.Args()[1].AsLiteral().(types.String)
		return c.Args()[0], access{name: strings.ToLower(string(name)), written: string(name), optional: true}, isString
	default:
		return nil, access{}, false
	}
}

func isVariable(e ast.Expr, variable string) bool {
	return e.Kind() == ast.IdentKind && strings.TrimPrefix(e.AsIdent(), ".") == variable
}

// findReads walks the expression and collects what it reads. It refuses every
// use of the entry whose attribute is not written out, so that the list is
// complete, and the attributes that hold passwords.
func findReads(tree *ast.AST, variable string) (reads, []*SourceError) {
	w := &readWalker{tree: tree, variable: variable}
	w.walk(tree.Expr())
	slices.Sort(w.found.attributes)
	w.found.attributes = slices.Compact(w.found.attributes)
	return w.found, w.faults
}

type readWalker struct {
	tree     *ast.AST
	variable string
	found    reads
	faults   []*SourceError
}

func (w *readWalker) walk(e ast.Expr) {
	if a, ok := accessOf(e, w.variable); ok {
		w.record(e, a)
		return
	}
	switch {
	case isVariable(e, w.variable):
		w.fault(e, w.variable+" cannot be used as a whole", "name an attribute, for example "+w.variable+".cn")
	case e.Kind() == ast.StructKind:
		w.fault(e, "objects cannot be made here", "the result is a text, a number, a bool or a list")
	case e.Kind() == ast.ComprehensionKind && w.shadows(e.AsComprehension()):
		w.fault(e, "a loop variable cannot be named "+w.variable, "give it another name")
	default:
		for _, child := range children(e) {
			w.walk(child)
		}
	}
}

func (w *readWalker) record(e ast.Expr, a access) {
	switch {
	case a.attribute() && Forbidden(a.name):
		w.fault(e, a.written+" holds passwords and cannot be used", "leave it out")
	case a.attribute():
		w.found.attributes = append(w.found.attributes, a.name)
	case a.name == fieldAll:
		w.fault(e, w.variable+".all cannot be used as a whole", "name an attribute, for example "+w.variable+".all.mail")
	case a.name == fieldGroups:
		w.found.groups = true
	case a.name == fieldEnabled:
		w.found.enabled = true
	}
}

func (w *readWalker) shadows(c ast.ComprehensionExpr) bool {
	return c.IterVar() == w.variable || c.IterVar2() == w.variable || c.AccuVar() == w.variable
}

func (w *readWalker) fault(e ast.Expr, problem, cure string) {
	w.faults = append(w.faults, faultAt(w.tree, e, problem, cure))
}

// faultAt places a fault at the start of e: a selection is reported where its
// operand begins, not at its dot.
func faultAt(tree *ast.AST, e ast.Expr, problem, cure string) *SourceError {
	for {
		operand, _, ok := selection(e)
		if !ok {
			break
		}
		e = operand
	}
	at := tree.SourceInfo().GetStartLocation(e.ID())
	return &SourceError{Line: max(at.Line(), 1), Column: max(at.Column(), 0) + 1, Problem: problem, Cure: cure}
}

// children returns the sub-expressions of e in the order of evaluation.
func children(e ast.Expr) []ast.Expr {
	switch e.Kind() {
	case ast.CallKind:
		c := e.AsCall()
		if c.IsMemberFunction() {
			return append([]ast.Expr{c.Target()}, c.Args()...)
		}
		return c.Args()
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		return []ast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()}
	case ast.ListKind:
		return e.AsList().Elements()
	case ast.MapKind:
		var out []ast.Expr
		for _, entry := range e.AsMap().Entries() {
			out = append(out, entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
		return out
	case ast.SelectKind:
		return []ast.Expr{e.AsSelect().Operand()}
	case ast.StructKind:
		var out []ast.Expr
		for _, f := range e.AsStruct().Fields() {
			out = append(out, f.AsStructField().Value())
		}
		return out
	case ast.IdentKind, ast.LiteralKind, ast.UnspecifiedExprKind:
		return nil
	default:
		return nil
	}
}
