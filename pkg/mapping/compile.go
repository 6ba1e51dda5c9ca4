package mapping

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"github.com/rollcall-scim/rollcall/pkg/spelling"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// SourceError is one fault in the source of an expression.
type SourceError struct {
	Line    int // from 1, within the expression
	Column  int // from 1, in characters
	Problem string
	Cure    string // may be empty
}

// Error implements error.
func (e *SourceError) Error() string {
	at := fmt.Sprintf("column %d", e.Column)
	if e.Line > 1 {
		at = fmt.Sprintf("line %d, column %d", e.Line, e.Column)
	}
	if e.Cure == "" {
		return at + ": " + e.Problem
	}
	return at + ": " + e.Problem + "; " + e.Cure
}

// Faults returns the faults that err joins, or nil when it is no error of
// Compile.
func Faults(err error) []*SourceError {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*SourceError
		for _, e := range joined.Unwrap() {
			out = append(out, Faults(e)...)
		}
		return out
	}
	if one, ok := errors.AsType[*SourceError](err); ok {
		return []*SourceError{one}
	}
	return nil
}

func joinFaults(faults []*SourceError) error {
	slices.SortStableFunc(faults, func(a, b *SourceError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = f
	}
	return errors.Join(errs...)
}

// environment compiles expressions, one at a time: the type checker of cel-go
// writes its catalog of symbols at the first undeclared name and reads it
// without a lock wherever a scope begins, so two checks at once are a data race.
type environment struct {
	mu  sync.Mutex
	env *cel.Env
}

func (e *environment) compile(source string) (*cel.Ast, *cel.Issues) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.env.Compile(source)
}

func (e *environment) program(tree *cel.Ast) (cel.Program, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.env.Program(tree, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
}

// environments are built once for each kind: an environment is a constant that
// takes a millisecond to make.
var environments = map[directoryv1.Kind]func() (*environment, error){
	directoryv1.Kind_KIND_USER: sync.OnceValues(func() (*environment, error) {
		return newEnvironment(directoryv1.Kind_KIND_USER)
	}),
	directoryv1.Kind_KIND_GROUP: sync.OnceValues(func() (*environment, error) {
		return newEnvironment(directoryv1.Kind_KIND_GROUP)
	}),
}

func newEnvironment(kind directoryv1.Kind) (*environment, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, fmt.Errorf("make type registry: %w", err)
	}
	name, typeName := variable(kind)
	options := []cel.EnvOption{
		cel.CustomTypeAdapter(registry),
		cel.CustomTypeProvider(provider{registry}),
		cel.Variable(name, cel.ObjectType(typeName)),
		cel.EnableIdentifierEscapeSyntax(),
		cel.OptionalTypes(),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),

		cel.ParserExpressionSizeLimit(maxSource),
		cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxRegex),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateHomogeneousAggregateLiterals(), cel.ValidateComprehensionNestingLimit(2)),
		ext.Strings(),
		ext.Lists(ext.ListsMaxRangeSize(maxItems)),
		ext.Regex(),
		ext.Math(),
	}
	env, err := cel.NewEnv(append(options, identityFunctions()...)...)
	if err != nil {
		return nil, fmt.Errorf("make expression environment: %w", err)
	}
	return &environment{env: env}, nil
}

// checked is an expression that compiled and whose reads are known.
type checked struct {
	env    *environment
	ast    *cel.Ast
	kind   directoryv1.Kind
	source string
	reads  reads
}

// check parses and type-checks source, and finds what it reads.
func check(kind directoryv1.Kind, source string) (*checked, error) {
	newEnv, ok := environments[kind]
	if !ok {
		return nil, fmt.Errorf("compile expression: no entries of kind %v", kind)
	}
	if strings.TrimSpace(source) == "" {
		return nil, &SourceError{Line: 1, Column: 1, Problem: "the expression is empty", Cure: "write an expression, for example user.mail"}
	}
	env, err := newEnv()
	if err != nil {
		return nil, err
	}
	tree, issues := env.compile(source)
	if err := issuesError(kind, source, issues); err != nil {
		return nil, err
	}
	c := &checked{env: env, ast: tree, kind: kind, source: source}
	found, faults := findReads(c.tree(), kindName(kind))
	if len(faults) > 0 {
		return nil, joinFaults(faults)
	}
	c.reads = found
	return c, nil
}

func (c *checked) tree() *ast.AST { return c.ast.NativeRep() }

// plan makes the program.
func (c *checked) plan() (*Expression, error) {
	program, err := c.env.program(c.ast)
	if err != nil {
		return nil, &SourceError{Line: 1, Column: 1, Problem: err.Error()}
	}
	return &Expression{source: c.source, kind: c.kind, program: program, reads: c.reads}, nil
}

// issuesError turns CEL's issues into faults with the words of this project.
func issuesError(kind directoryv1.Kind, source string, issues *cel.Issues) error {
	if issues.Err() == nil {
		return nil
	}
	var faults []*SourceError
	for _, issue := range issues.Errors() {
		problem, cure := explain(kind, source, issue)
		faults = append(faults, &SourceError{
			Line:    max(issue.Location.Line(), 1),
			Column:  max(issue.Location.Column(), 0) + 1,
			Problem: problem,
			Cure:    cure,
		})
	}
	return joinFaults(faults)
}

// explain rewrites the messages that a person meets most.
func explain(kind directoryv1.Kind, source string, issue *common.Error) (problem, cure string) {
	message, _, _ := strings.Cut(issue.Message, "\n")
	name := kindName(kind)
	function := calledIn(source, message)
	switch {
	case function != "":
		message = "there is no function " + function
		if meant := spelling.Nearest(function, functionNames()); meant != "" {
			return message, "did you mean " + meant + "?"
		}
		return message, "docs/configuration.md lists the functions"
	case strings.HasPrefix(message, "undeclared reference to 'user'"), strings.HasPrefix(message, "undeclared reference to 'group'"):
		return message, "the entry is named " + name + " here"
	case strings.HasPrefix(message, "undeclared reference to"):
		return message, "attributes are written " + name + ".mail, texts stand in quotes"
	case strings.HasPrefix(message, "invalid matches"):
		return message, "write an RE2 pattern of moderate size"
	case strings.HasPrefix(message, "undefined field"):
		return message, "write the name of a directory attribute"
	case strings.HasPrefix(message, "found no matching overload for"):
		return message, "use values of one type, for example string(1)"
	default:
		return message, ""
	}
}

// undeclared takes the name out of CEL's message about one that it does not know.
var undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)

// calledIn is the name that a message says is not declared, where the source calls it
// as a function; empty where it does not.
func calledIn(source, message string) string {
	found := undeclared.FindStringSubmatch(message)
	if found == nil || !regexp.MustCompile(`(^|[^\w])`+regexp.QuoteMeta(found[1])+`\s*\(`).MatchString(source) {
		return ""
	}
	return found[1]
}

func functionNames() []string {
	var names []string
	for _, f := range Functions() {
		names = append(names, f.Name)
	}
	return names
}

// refusedResult says why a result of type t cannot become a SCIM value.
func refusedResult(t *types.Type) (problem, cure string) {
	if t.Kind() == types.OpaqueKind && t.TypeName() == "optional_type" && len(t.Parameters()) == 1 {
		t = t.Parameters()[0]
	}
	if t.Kind() == types.ListKind && len(t.Parameters()) == 1 {
		t = t.Parameters()[0]
	}
	switch t.Kind() {
	case types.StringKind, types.BoolKind, types.IntKind, types.DoubleKind, types.DynKind, types.TypeParamKind:
		return "", ""
	default:
		return "a result of type " + t.String() + " has no SCIM value", "make it a text with string(...)"
	}
}
