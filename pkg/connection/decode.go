package connection

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// Bounds on a file, which aliases could otherwise make endless.
const (
	maxNodes = 200_000
	maxDepth = 32
)

// place is where a value stands: its key, and the same key with <name> and
// <path> in place of what the operator named.
type place struct{ key, pattern string }

func (p place) field(name string) place {
	if p.key == "" {
		return place{name, name}
	}
	return place{p.key + "." + name, p.pattern + "." + name}
}

func (p place) named(name string) place {
	generic := "<name>"
	if strings.HasSuffix(p.pattern, ".attributes") || strings.HasSuffix(p.pattern, ".lookup") {
		generic = "<path>"
	}
	return place{p.key + "." + name, p.pattern + "." + generic}
}

func (p place) item(i int) place {
	return place{fmt.Sprintf("%s[%d]", p.key, i), p.pattern}
}

// decoder fills a Config from YAML nodes. Unlike yaml.Unmarshal it goes on after
// a fault, starts from defaults at every level, and remembers every line.
type decoder struct {
	table  keyTable
	origin origin
	faults Faults
	nodes  int
}

func newDecoder(file string) *decoder {
	return &decoder{table: newKeyTable(), origin: origin{file: file, lines: map[string]int{}}}
}

func (d *decoder) fault(n *yaml.Node, at place, problem, cure string) {
	d.faults = append(d.faults, Fault{File: d.origin.file, Line: n.Line, Key: at.key, Problem: problem, Cure: cure})
}

// value decodes n into v.
func (d *decoder) value(n *yaml.Node, v reflect.Value, at place, depth int) {
	d.nodes++
	n = target(n)
	switch {
	case d.nodes == maxNodes || depth > maxDepth:
		d.fault(n, at, "the file is too large or nested too deep", "write it without aliases")
		return
	case d.nodes > maxNodes:
		return
	}
	switch v.Addr().Interface().(type) {
	case *Secret, *time.Duration:
		d.scalar(n, v, at)
	case *Attribute:
		d.attribute(n, v, at, depth)
	case *scim.Profile:
		d.overrides(n, v, at, depth)
	default:
		d.kind(n, v, at, depth)
	}
}

func (d *decoder) kind(n *yaml.Node, v reflect.Value, at place, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		d.object(n, v, at, depth)
	case reflect.Map:
		d.dictionary(n, v, at, depth)
	case reflect.Slice:
		d.list(n, v, at, depth)
	case reflect.Pointer:
		d.pointer(n, v, at, depth)
	default:
		d.scalar(n, v, at)
	}
}

// pairs checks that n is a mapping with distinct text keys and calls each for
// every key with its value.
func (d *decoder) pairs(n *yaml.Node, at place, each func(name string, key, value *yaml.Node)) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fault(n, at, "must have keys below it and is "+describe(n), "write key: value on the lines below, indented")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode {
			d.fault(k, at, "has a key that is no text", "write a name before the colon")
			continue
		}
		if line, ok := seen[k.Value]; ok {
			d.fault(k, at.field(k.Value), fmt.Sprintf("stands here again after line %d", line), "remove one of them")
			continue
		}
		seen[k.Value] = k.Line
		each(k.Value, k, n.Content[i+1])
	}
}

// object decodes a struct.
func (d *decoder) object(n *yaml.Node, v reflect.Value, at place, depth int) {
	fields := structFields(v.Type())
	d.pairs(n, at, func(name string, key, value *yaml.Node) {
		below := at.field(name)
		index, ok := fields[name]
		if !ok {
			d.unknown(key, below, fields)
			return
		}
		d.origin.lines[below.key] = key.Line
		d.value(value, v.Field(index), below, depth+1)
	})
}

func (d *decoder) unknown(n *yaml.Node, at place, fields map[string]int) {
	name := at.key[strings.LastIndexByte(at.key, '.')+1:]
	d.fault(n, at, "is no key of the configuration", choose(name, slices.Sorted(maps.Keys(fields))))
}

// structFields maps the keys of a struct to the indices of its fields.
func structFields(t reflect.Type) map[string]int {
	fields := map[string]int{}
	for i := range t.NumField() {
		if name := fieldName(t.Field(i)); name != "" {
			fields[name] = i
		}
	}
	return fields
}

// fieldName is the key of a field, or "" for one that is not in the file.
func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if name == "-" {
		return ""
	}
	return name
}

// dictionary decodes a map whose keys the operator chose.
func (d *decoder) dictionary(n *yaml.Node, v reflect.Value, at place, depth int) {
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, at, func(name string, key, value *yaml.Node) {
		below := at.named(name)
		d.origin.lines[below.key] = key.Line
		item := reflect.New(v.Type().Elem()).Elem()
		d.preset(value, item, below)
		if item.Kind() == reflect.Pointer {
			if isNull(value) {
				d.fault(key, below, "is empty", "write its keys on the lines below, indented")
			}
			d.value(value, item.Elem(), below, depth+1)
		} else {
			d.value(value, item, below, depth+1)
		}
		v.SetMapIndex(reflect.ValueOf(name), item)
	})
}

// preset puts the defaults into a new item of a map.
func (d *decoder) preset(n *yaml.Node, item reflect.Value, at place) {
	switch into := item.Addr().Interface().(type) {
	case **Source:
		p, err := findPreset(peek(n, "preset"))
		if err != nil {
			p, _ = findPreset("") // the fault is reported at its key
		}
		*into = defaultSource(p)
		(*into).Name = lastName(at.key)
	case **Connection:
		*into = defaultConnection(peek(child(n, "target"), "profile"))
		(*into).Name = lastName(at.key)
	case *Attribute:
		into.On = OnAlways
	}
}

func lastName(key string) string { return key[strings.IndexByte(key, '.')+1:] }

// peek returns the text of one key of a mapping, before it is decoded.
func peek(n *yaml.Node, name string) string { return child(n, name).Value }

// child returns what stands at one key of a mapping; an empty node when nothing does.
func child(n *yaml.Node, name string) *yaml.Node {
	n = target(n)
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return target(n.Content[i+1])
		}
	}
	return &yaml.Node{}
}

// target is what an alias stands for, and any other node itself.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// list decodes a list of texts.
func (d *decoder) list(n *yaml.Node, v reflect.Value, at place, depth int) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fault(n, at, "must be a list and is "+describe(n), "write [a, b]")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		below := at.item(i)
		d.origin.lines[below.key] = item.Line
		if target(item).Kind == yaml.ScalarNode && strings.TrimSpace(target(item).Value) == "" {
			d.fault(item, below, "is empty", "remove it")
			continue
		}
		d.value(item, v.Index(i), below, depth+1)
	}
}

// pointer decodes an optional part, which is there because its key is.
func (d *decoder) pointer(n *yaml.Node, v reflect.Value, at place, depth int) {
	item := reflect.New(v.Type().Elem())
	if g, ok := reflect.TypeAssert[*GroupPolicy](item); ok {
		*g = *defaultGroupPolicy()
	}
	if isNull(n) && item.Elem().NumField() > 0 {
		d.fault(n, at, "is empty", "write {} for its defaults, or leave the key out")
	}
	d.value(n, item.Elem(), at, depth)
	v.Set(item)
}

// attribute decodes a line of a mapping: an expression, or an object with one.
func (d *decoder) attribute(n *yaml.Node, v reflect.Value, at place, depth int) {
	if n.Kind == yaml.ScalarNode {
		below := place{at.key, at.pattern + ".value"}
		if strings.TrimSpace(n.Value) == "" || isNull(n) {
			d.fault(n, at, "has no expression", "write one, for example user.mail")
			return
		}
		d.scalar(n, v.FieldByName("Value"), below)
		return
	}
	d.object(n, v, at, depth)
	if n.Kind == yaml.MappingNode && strings.TrimSpace(peek(n, "value")) == "" {
		d.fault(n, at.field("value"), "is missing", "write an expression, for example value: user.mail")
	}
}

// overrides decodes what a target does otherwise than its profile, which is there
// already.
func (d *decoder) overrides(n *yaml.Node, v reflect.Value, at place, depth int) {
	d.object(n, v, at, depth)
	profile, _ := reflect.TypeAssert[*scim.Profile](v.Addr())
	d.pairs(n, at, func(name string, _, _ *yaml.Node) { *profile = profile.WithFixed(name) })
}

// scalar decodes and checks one value.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, at place) {
	if isNull(n) {
		return
	}
	k := d.table[at.pattern]
	if n.Kind != yaml.ScalarNode {
		d.fault(n, at, "must be one value and is "+describe(n), "write key: value on one line")
		return
	}
	if err := setScalar(n, v, k.form.expression()); err != nil {
		d.fault(n, at, err.Error(), cureFor(v))
		return
	}
	for _, f := range checkValue(k, n.Value, v) {
		d.fault(n, at, f.Problem, f.Cure)
	}
}

// setScalar stores the value of n in v. Only a text may have any form of scalar,
// and only where it is an expression.
func setScalar(n *yaml.Node, v reflect.Value, expression bool) error {
	switch into := v.Addr().Interface().(type) {
	case *Secret:
		s, err := NewSecret(n.Value)
		if err != nil {
			return errors.New("must not stand in the file")
		}
		*into = s
		return nil
	case *time.Duration:
		parsed, err := parseDuration(n.Value)
		if err != nil {
			return fmt.Errorf("%w: %q", err, n.Value)
		}
		*into = parsed
		return nil
	case *string:
		if n.ShortTag() != "!!str" && !expression {
			return fmt.Errorf("must be a text and is %s", describe(n))
		}
		*into = n.Value
		return nil
	}
	if n.ShortTag() == "!!str" {
		return fmt.Errorf("must be %s and is the text %q", kindWords(v), n.Value)
	}
	if err := n.Decode(v.Addr().Interface()); err != nil {
		return fmt.Errorf("must be %s and is %s", kindWords(v), describe(n))
	}
	return nil
}

func kindWords(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	default:
		return "a number"
	}
}

// cureFor says how to write a value of this type.
func cureFor(v reflect.Value) string {
	switch v.Addr().Interface().(type) {
	case *Secret:
		return "write ${env:NAME} or ${file:/path}"
	case *time.Duration:
		return "write a number with its unit, for example 5s, 24h or 30d"
	case *string:
		return "put it in quotes"
	default:
		return "write " + kindWords(v) + " without quotes"
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe names what a node is, without its value, which may be a secret.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!bool":
			return "true or false"
		case "!!int", "!!float":
			return "a number"
		case "!!null":
			return "empty"
		case "!!timestamp":
			return "a date"
		}
		return "a text"
	case yaml.AliasNode, yaml.DocumentNode:
		return "something else"
	default:
		return "something else"
	}
}
