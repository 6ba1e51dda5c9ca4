package mapping

import (
	"fmt"
	"maps"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// names is a set of attributes that are known to be present.
type names map[string]bool

func (n names) and(more names) names {
	if len(more) == 0 {
		return n
	}
	both := maps.Clone(more)
	maps.Copy(both, n)
	return both
}

func intersect(a, b names) names {
	both := names{}
	for name := range a {
		if b[name] {
			both[name] = true
		}
	}
	return both
}

// unguarded finds the reads that could make a bool expression absent. A read of
// user.x is safe only where has(user.x) has been found true on the way to it:
//
//	has(user.x) && user.x == "a"
//	has(user.x) ? user.x == "a" : false
//	!has(user.x) || user.x == "a"
func (c *checked) unguarded() []*SourceError {
	g := &guardWalker{tree: c.tree(), variable: kindName(c.kind)}
	g.walk(c.tree().Expr(), names{})
	return g.faults
}

type guardWalker struct {
	tree     *ast.AST
	variable string
	faults   []*SourceError
}

// walk visits e, which is evaluated only when the attributes in present are.
func (g *guardWalker) walk(e ast.Expr, present names) {
	if g.needs(e, present) {
		return
	}
	if e.Kind() != ast.CallKind {
		g.each(children(e), present)
		return
	}
	args := e.AsCall().Args()
	switch e.AsCall().FunctionName() {
	case operators.LogicalAnd:
		for _, arg := range args {
			g.walk(arg, present)
			present = present.and(g.proves(arg, true))
		}
	case operators.LogicalOr:
		for _, arg := range args {
			g.walk(arg, present)
			present = present.and(g.proves(arg, false))
		}
	case operators.Conditional:
		g.walk(args[0], present)
		g.walk(args[1], present.and(g.proves(args[0], true)))
		g.walk(args[2], present.and(g.proves(args[0], false)))
	default:
		g.each(children(e), present)
	}
}

func (g *guardWalker) each(es []ast.Expr, present names) {
	for _, e := range es {
		g.walk(e, present)
	}
}

// needs reports a read that fails for an entry without the attribute. It returns
// true when e is a read and there is nothing below it to visit.
func (g *guardWalker) needs(e ast.Expr, present names) bool {
	if a, ok := accessOf(e, g.variable); ok {
		if a.attribute() && !a.all && !a.test && !a.optional && !present[a.name] {
			g.fault(e, a.written)
		}
		return true
	}
	if e.Kind() != ast.CallKind {
		return false
	}
	c := e.AsCall()
	switch {
	case c.FunctionName() == operators.Index && len(c.Args()) == 2:
		if a, ok := accessOf(c.Args()[0], g.variable); ok && a.all && !present[a.name] {
			g.fault(c.Args()[0], a.written)
		}
	case c.FunctionName() == "value" && c.IsMemberFunction():
		if a, ok := accessOf(c.Target(), g.variable); ok && a.optional && !present[a.name] {
			g.fault(c.Target(), a.written)
		}
	}
	return false
}

// proves returns the attributes that are present whenever e is outcome.
func (g *guardWalker) proves(e ast.Expr, outcome bool) names {
	if a, ok := accessOf(e, g.variable); ok {
		if a.test && a.attribute() && outcome {
			return names{a.name: true}
		}
		return nil
	}
	if e.Kind() != ast.CallKind {
		return nil
	}
	c := e.AsCall()
	switch c.FunctionName() {
	case operators.LogicalNot:
		return g.proves(c.Args()[0], !outcome)
	case operators.LogicalAnd:
		return g.combine(c.Args(), outcome, outcome)
	case operators.LogicalOr:
		return g.combine(c.Args(), outcome, !outcome)
	case "hasValue":
		if a, ok := accessOf(c.Target(), g.variable); ok && a.optional && outcome {
			return names{a.name: true}
		}
	}
	return nil
}

// combine joins what the operands of && or || prove: all of it when every
// operand must have had the outcome, else what each of them proves.
func (g *guardWalker) combine(args []ast.Expr, outcome, every bool) names {
	var out names
	for i, arg := range args {
		proved := g.proves(arg, outcome)
		switch {
		case i == 0:
			out = proved
		case every:
			out = proved.and(out)
		default:
			out = intersect(out, proved)
		}
	}
	return out
}

func (g *guardWalker) fault(e ast.Expr, name string) {
	written := g.variable + "." + name
	optional := g.variable + ".?" + name
	if strings.Contains(name, "-") {
		written = g.variable + ".`" + name + "`"
		optional = g.variable + ".?`" + name + "`"
	}
	g.faults = append(g.faults, faultAt(g.tree, e,
		written+" may be absent, and this expression must always have a result",
		fmt.Sprintf("write %s.orValue(\"\") or %s.all.%s, or put has(%s) && before it", optional, g.variable, written[len(g.variable)+1:], written),
	))
}
