package connection

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// Names of the source and the connection that documentation shows.
const (
	exampleSource     = "corp"
	exampleConnection = "wiki"
)

// example is the configuration with one source and one connection in which every
// key has its default, and required ones an example.
func example(p preset) *Config {
	c := defaultConfig()
	s := defaultSource(p)
	s.Name = exampleSource
	s.LDAP.URLs = []string{"ldaps://dc1.example.com"}
	s.Users.BaseDNs = []string{"ou=people,dc=example,dc=com"}
	s.Groups.BaseDNs = []string{"ou=groups,dc=example,dc=com"}
	conn := defaultConnection("")
	conn.Name, conn.Source = exampleConnection, exampleSource
	conn.Target.URL = "https://wiki.example.com/scim/v2"
	conn.Target.Auth.None = &struct{}{}
	conn.Users.Attributes = p.mapping()
	conn.Groups = defaultGroupPolicy()
	c.Sources[exampleSource], c.Connections[exampleConnection] = s, conn
	return c
}

// Defaults returns a file with every key at its default for a preset, each with
// its meaning in a comment, and with examples at the required ones. An empty
// preset is openldap.
func Defaults(presetName string) ([]byte, error) {
	p, err := findPreset(presetName)
	if err != nil {
		return nil, err
	}
	w := &yamlWriter{table: newKeyTable()}
	w.out.WriteString("# Rollcall, every key at its default. What is marked as required is an example.\n")
	w.object(reflect.ValueOf(example(p)).Elem(), place{}, 0)
	return w.out.Bytes(), nil
}

// MarshalYAML writes a configuration with its defaults filled in, and *** in
// place of secrets; it is what is shown to people.
func (c *Config) MarshalYAML() (any, error) {
	w := &yamlWriter{}
	w.object(reflect.ValueOf(c).Elem(), place{}, 0)
	var n yaml.Node
	if err := yaml.Unmarshal(w.out.Bytes(), &n); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return n.Content[0], nil
}

// yamlWriter writes a Config in the order of its fields, with comments from the
// table when it has one.
type yamlWriter struct {
	out   bytes.Buffer
	table keyTable
}

func (w *yamlWriter) line(depth int, text string) {
	w.out.WriteString(strings.Repeat("  ", depth) + text + "\n")
}

// comment writes what a key means.
func (w *yamlWriter) comment(at place, depth int) {
	k, ok := w.table[at.pattern]
	if !ok || strings.HasSuffix(at.pattern, ">") {
		return
	}
	text := k.meaning
	if k.enum != nil {
		text += " One of " + alternatives(k.enum) + "."
	}
	if k.required {
		text += " Required."
	}
	w.line(depth, "# "+text)
}

func (w *yamlWriter) object(v reflect.Value, at place, depth int) {
	for i := range v.NumField() {
		name := fieldName(v.Type().Field(i))
		if name == "" {
			continue
		}
		w.field(name, v.Field(i), at.field(name), depth)
	}
}

// field writes one key; parts that are not there are left out.
func (w *yamlWriter) field(name string, v reflect.Value, at place, depth int) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	if depth == 0 && w.table != nil {
		w.out.WriteString("\n")
	}
	w.comment(at, depth)
	if profile, ok := reflect.TypeAssert[scim.Profile](v); ok {
		w.overrides(name, profile, at, depth)
		return
	}
	if text, ok := scalarText(v); ok {
		w.line(depth, quoteYAML(name)+": "+text)
		return
	}
	if v.Kind() == reflect.Struct && v.NumField() == 0 || v.Kind() == reflect.Map && v.Len() == 0 {
		w.line(depth, quoteYAML(name)+": {}")
		return
	}
	w.line(depth, quoteYAML(name)+":")
	if v.Kind() == reflect.Map {
		w.dictionary(v, at, depth+1)
		return
	}
	w.object(v, at, depth+1)
}

// overrides writes what differs from the profile: written whole, it would hide
// another profile that somebody chooses later.
func (w *yamlWriter) overrides(name string, p scim.Profile, at place, depth int) {
	former, _ := scim.FindProfile(p.Name)
	here, there := reflect.ValueOf(p), reflect.ValueOf(former)
	var differs []int
	for i := range here.NumField() {
		key := fieldName(here.Type().Field(i))
		if key != "" && (p.IsFixed(key) && !former.IsFixed(key) || !reflect.DeepEqual(here.Field(i).Interface(), there.Field(i).Interface())) {
			differs = append(differs, i)
		}
	}
	if len(differs) == 0 {
		w.line(depth, name+": {}")
		return
	}
	w.line(depth, name+":")
	for _, i := range differs {
		key := fieldName(here.Type().Field(i))
		w.field(key, here.Field(i), at.field(key), depth+1)
	}
}

func (w *yamlWriter) dictionary(v reflect.Value, at place, depth int) {
	names := make([]string, 0, v.Len())
	for _, k := range v.MapKeys() {
		names = append(names, k.String())
	}
	slices.Sort(names)
	for _, name := range names {
		item := v.MapIndex(reflect.ValueOf(name))
		w.field(name, item, at.named(name), depth)
	}
}

// scalarText writes a value that fits on one line.
func scalarText(v reflect.Value) (string, bool) {
	switch value := v.Interface().(type) {
	case Secret:
		return quoteYAML(value.String()), true
	case time.Duration:
		return quoteYAML(formatDuration(value)), true
	case string:
		return quoteYAML(value), true
	case bool:
		return strconv.FormatBool(value), true
	case int:
		return strconv.Itoa(value), true
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64), true
	case []string:
		items := make([]string, len(value))
		for i, item := range value {
			items[i] = strconv.Quote(item)
		}
		return "[" + strings.Join(items, ", ") + "]", true
	case Attribute:
		return value.text()
	default:
		return "", false
	}
}

// text is the short form of an attribute that has only an expression.
func (a Attribute) text() (string, bool) {
	if a.Mask || a.Default != "" || a.On != OnAlways {
		return "", false
	}
	return quoteYAML(a.Value), true
}

// quoteYAML writes a text so that YAML reads the same text.
func quoteYAML(s string) string {
	encoded, err := yaml.Marshal(s)
	if err != nil || bytes.Count(encoded, []byte("\n")) != 1 {
		return strconv.Quote(s)
	}
	return strings.TrimSuffix(string(encoded), "\n")
}
