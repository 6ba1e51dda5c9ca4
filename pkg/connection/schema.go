package connection

import (
	"encoding/json"
	"reflect"
	"time"
)

// schema is the part of JSON Schema 2020-12 that describes the file.
type schema struct {
	Dialect              string             `json:"$schema,omitempty"`
	Title                string             `json:"title,omitempty"`
	Description          string             `json:"description,omitempty"`
	Type                 any                `json:"type,omitempty"`
	OneOf                []*schema          `json:"oneOf,omitempty"`
	Enum                 []any              `json:"enum,omitempty"`
	Pattern              string             `json:"pattern,omitempty"`
	Minimum              *float64           `json:"minimum,omitempty"`
	Maximum              *float64           `json:"maximum,omitempty"`
	Default              any                `json:"default,omitempty"`
	Items                *schema            `json:"items,omitempty"`
	Properties           map[string]*schema `json:"properties,omitempty"`
	PropertyNames        *schema            `json:"propertyNames,omitempty"`
	AdditionalProperties any                `json:"additionalProperties,omitempty"`
	Required             []string           `json:"required,omitempty"`
}

const (
	durationPattern = `^(0?|([0-9]+d)?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*)$`
	secretPattern   = `^(\$\{(env:[A-Za-z_][A-Za-z0-9_]*|file:[^{}]+)\})?$` //nolint:gosec // the form of a reference
)

// Schema returns the JSON Schema (2020-12) of the file, for editors. What
// depends on several keys is checked by Parse alone.
func Schema() []byte {
	b := &schemaBuilder{table: newKeyTable()}
	p, _ := findPreset("")
	root := b.build(reflect.ValueOf(example(p)).Elem(), place{})
	root.Dialect = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "rollcall.yaml"
	root.Description = "Configuration of Rollcall."
	encoded, err := json.MarshalIndent(root, "", "  ")
	if err != nil { // plain values always encode
		panic(err)
	}
	return append(encoded, '\n')
}

type schemaBuilder struct{ table keyTable }

// build describes the value at a place; v holds its default.
func (b *schemaBuilder) build(v reflect.Value, at place) *schema {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v = reflect.New(v.Type().Elem())
		}
		v = v.Elem()
	}
	s := b.typed(v, at)
	k := b.table[at.pattern]
	s.Description = k.meaning
	b.limits(s, k, v)
	return s
}

func (b *schemaBuilder) typed(v reflect.Value, at place) *schema {
	switch value := v.Interface().(type) {
	case Secret:
		return &schema{Type: "string", Pattern: secretPattern}
	case time.Duration:
		return &schema{Type: []string{"string", "integer"}, Pattern: durationPattern, Default: formatDuration(value)}
	case Attribute:
		return &schema{OneOf: []*schema{
			{Type: scalarTypes, Description: "Expression: the value."},
			b.object(v, at),
		}}
	case []string:
		return &schema{Type: "array", Items: &schema{Type: "string"}}
	}
	switch v.Kind() {
	case reflect.Struct:
		return b.object(v, at)
	case reflect.Map:
		return b.dictionary(v, at)
	case reflect.Bool:
		return &schema{Type: "boolean", Default: v.Bool()}
	case reflect.Int:
		return &schema{Type: "integer", Default: v.Int()}
	case reflect.Float64:
		return &schema{Type: "number", Default: v.Float()}
	default:
		return &schema{Type: "string", Default: nonEmpty(v.String())}
	}
}

// scalarTypes are what an expression may look like to YAML.
var scalarTypes = []string{"string", "boolean", "number"}

// limits adds what the table knows about the value.
func (b *schemaBuilder) limits(s *schema, k key, v reflect.Value) {
	if k.form.expression() && s.Type == "string" {
		s.Type = scalarTypes
	}
	if k.required {
		s.Default = nil
	}
	for _, choice := range k.enum {
		if v.Kind() == reflect.Int {
			s.Enum = append(s.Enum, json.Number(choice))
		} else {
			s.Enum = append(s.Enum, choice)
		}
	}
	switch v.Interface().(type) {
	case time.Duration: // a bare number has no unit, so only 0 is one
		s.Minimum, s.Maximum = new(float64), new(float64)
	case int, float64:
		if k.min != 0 || k.max != 0 {
			s.Minimum, s.Maximum = &k.min, &k.max
		}
	}
}

func (b *schemaBuilder) object(v reflect.Value, at place) *schema {
	s := &schema{Type: "object", Properties: map[string]*schema{}, AdditionalProperties: false}
	for i := range v.NumField() {
		name := fieldName(v.Type().Field(i))
		if name == "" {
			continue
		}
		below := at.field(name)
		s.Properties[name] = b.build(v.Field(i), below)
		if b.table[below.pattern].required {
			s.Required = append(s.Required, name)
		}
	}
	return s
}

// dictionary describes a map by the one item that the example has.
func (b *schemaBuilder) dictionary(v reflect.Value, at place) *schema {
	item := reflect.New(v.Type().Elem()).Elem()
	if a, ok := reflect.TypeAssert[*Attribute](item.Addr()); ok {
		a.On = OnAlways
	} else if names := v.MapKeys(); len(names) > 0 {
		item = v.MapIndex(names[0])
	}
	s := &schema{Type: "object", AdditionalProperties: b.build(item, at.named("<name>"))}
	if v.Type().Elem().Kind() == reflect.Pointer {
		s.PropertyNames = &schema{Pattern: nameForm.String()}
	}
	return s
}

func nonEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}
