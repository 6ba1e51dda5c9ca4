package connection

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/mapping"
)

// Reference returns the documentation of the file as Markdown: every key, the
// presets, and the language of the expressions.
func Reference() []byte {
	var out bytes.Buffer
	out.WriteString(referenceHead)
	p, _ := findPreset("")
	r := &reference{out: &out, table: newKeyTable()}
	r.object(reflect.ValueOf(example(p)).Elem(), place{})
	writePresets(&out)
	out.WriteString(filterText)
	out.WriteString(expressionText)
	writeFunctions(&out)
	return out.Bytes()
}

const referenceHead = `# Configuration

<!-- Generated from pkg/connection. Change it there and run its tests with -update. -->

One YAML file, ` + "`rollcall.yaml`" + `, for every service. ` + "`rollcall config defaults`" + ` prints a file with every key,
` + "`rollcall config schema`" + ` a JSON Schema for editors, and ` + "`rollcall config validate`" + ` every fault at once, each with its
line and its cure. Keys that are not in this table are faults.

- **Secrets** never stand in the file. Write ` + "`${env:NAME}`" + ` or ` + "`${file:/path}`" + `; a file is read again whenever its secret is
  needed, so a rotated secret is found.
- **Durations** are numbers with a unit: ` + "`5s`, `15m`, `24h`, `30d`, `1d12h`" + `.
- **Expressions** are described below.
- **Names** of sources and connections have 1 to 32 of a-z, 0-9 and hyphen. Links and history belong to a connection's
  name; ` + "`renamed_from`" + ` carries them over.

## Keys

| Key | Type | Default | Meaning |
|---|---|---|---|
`

const filterText = `
## Filters

Filters ([RFC 4515](https://www.rfc-editor.org/rfc/rfc4515)) are evaluated by Rollcall on what it has read, by the matching rules
of the directory's own schema, so that whoever begins or ceases to match is found at once.

- **Groups**: ` + "`(memberOf=cn=staff,ou=groups,dc=example,dc=com)`" + ` is a direct member of the group, and
  ` + "`(memberOf:1.2.840.113556.1.4.1941:=cn=staff,…)`" + ` one of it or of its member groups, on every directory and wherever the
  directory writes membership; ` + "`isMemberOf`" + ` and the attribute of ` + "`users.member_of`" + ` are read the same way. A filter can name 6
  groups; for more, use ` + "`scope_groups`" + `. A primary group does not count here, as in Active Directory. While a group that a filter
  names is not visible, nobody enters or leaves because of it.
- **What only the directory can evaluate**, such as ` + "`(cn:caseExactMatch:=x)`" + `, it is asked for: at each full read, and about
  entries that changed. The log names such clauses at the start.
- **Passwords** cannot be asked for.
`

const expressionText = `
## Expressions

Expressions are [CEL](https://cel.dev) over one entry, named ` + "`user`" + ` (or ` + "`group`" + ` where groups are concerned). Its fields are the
directory's attributes, in any case.

| Written | Is |
|---|---|
| ` + "`user.mail`" + ` | the first value, a text; absent when there is none |
| ` + "`user.all.mail`" + ` | all values, a list; empty when there is none |
| ` + "`user.?mail.orValue(\"\")`" + ` | the first value, or another text when there is none |
| ` + "`has(user.mail)`" + ` | whether there is a value |
| ` + "``user.`msDS-x` ``" + ` | an attribute whose name is no word |
| ` + "`user.dn`, `user.id`" + ` | the distinguished name; the entry's GUID in hexadecimal digits; always there |
| ` + "`user.enabled`" + ` | the result of the source's ` + "`enabled`" + `; always there, not for groups |
| ` + "`user.groups`" + ` | the names of the user's groups, a list; not for groups. It makes every join and leave a change of the user |

- **Types are checked** when the file is read: ` + "`user.mail + 1`" + ` is a fault.
- **Absent**: an expression that reads an attribute the entry does not have has no value, and the SCIM attribute is cleared
  (or gets its ` + "`default`" + `). The same holds for an optional without a value, such as ` + "`user.?mail`" + `. Any other error, for example a
  text that is no number, blocks the entry until it is cured.
- **Conditions** (` + "`enabled`, `scope`" + `) must have a result for every entry. There, ` + "`user.x`" + ` is allowed only behind
  ` + "`has(user.x) &&`" + `; otherwise write ` + "`user.?x.orValue(\"\")`" + ` or ` + "`user.all.x`" + `.
- **Values that are not UTF-8**, such as pictures, are base64.
- **Passwords** cannot be read: attributes that hold them are refused.
- **Limits**: 8,192 characters, and a bound on the work and on the size of the result.

### Functions

The results are those for this user: ` + "`dn: uid=zmuller,ou=people,dc=example,dc=com`, `uid: ZMuller`, `cn: Zoë Müller`, `givenName: Zoë`, " +
	"`sn: Müller`, `mail: zoe.muller@example.com`, `telephoneNumber: +49 30 1234`, `employeeNumber: 42`, `employeeType: staff, admin`, " +
	"`createTimestamp: 20240131120000Z`, `manager: cn=Jones\\, Bob,ou=people,dc=example,dc=com`, in the groups `staff` and `wiki-editors`." + `

| Function | Meaning | Example | Result |
|---|---|---|---|
`

// reference writes the table of keys.
type reference struct {
	out   *bytes.Buffer
	table keyTable
}

func (r *reference) object(v reflect.Value, at place) {
	for i := range v.NumField() {
		if name := fieldName(v.Type().Field(i)); name != "" {
			r.value(v.Field(i), at.field(name))
		}
	}
}

func (r *reference) value(v reflect.Value, at place) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v = reflect.New(v.Type().Elem())
		}
		v = v.Elem()
	}
	r.row(v, at)
	switch {
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[Secret]():
		r.object(v, at)
	case v.Kind() == reflect.Map:
		r.item(v, at)
	}
}

// item writes what is below a name that the operator chooses.
func (r *reference) item(v reflect.Value, at place) {
	below := at.named("<name>")
	if v.Type().Elem() == reflect.TypeFor[Attribute]() {
		r.value(reflect.ValueOf(Attribute{On: OnAlways}), below)
		return
	}
	for _, name := range v.MapKeys() {
		r.value(v.MapIndex(name), below)
		return
	}
	r.value(reflect.Zero(v.Type().Elem()), below)
}

func (r *reference) row(v reflect.Value, at place) {
	k := r.table[at.pattern]
	fmt.Fprintf(r.out, "| `%s` | %s | %s | %s |\n", at.pattern, typeWords(k, v), defaultWords(k, v), cell(k.meaning))
}

func typeWords(k key, v reflect.Value) string {
	if k.enum != nil {
		return alternatives(k.enum)
	}
	if k.form.expression() {
		return "expression"
	}
	switch v.Interface().(type) {
	case Secret:
		return "secret"
	case time.Duration:
		return "duration"
	case Attribute:
		return "expression or object"
	}
	switch v.Kind() {
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice:
		return "list of texts"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "whole number"
	case reflect.Float64:
		return "number"
	default:
		return "text"
	}
}

func defaultWords(k key, v reflect.Value) string {
	switch {
	case k.required:
		return "required"
	case presetKey(k.path):
		return "from the preset"
	case strings.HasPrefix(k.path, over), strings.HasPrefix(k.path, "connections.<name>.target.rate."):
		return "from the profile"
	}
	switch value := v.Interface().(type) {
	case Secret, Attribute:
		return ""
	case []string:
		if len(value) == 0 || strings.HasSuffix(k.path, ".base_dns") {
			return ""
		}
		return "`[" + strings.Join(value, ", ") + "]`"
	}
	text, ok := scalarText(v)
	if !ok || text == `""` {
		return ""
	}
	return "`" + text + "`"
}

// presetKey reports whether the default of a key depends on the preset.
func presetKey(path string) bool {
	switch path {
	case "sources.<name>.id.attribute", "sources.<name>.id.encoding", "sources.<name>.users.filter",
		"sources.<name>.users.primary_group", "sources.<name>.users.enabled", "sources.<name>.groups.filter", "connections.<name>.users.attributes":
		return true
	default:
		return false
	}
}

// writePresets writes what differs between the presets.
func writePresets(out *bytes.Buffer) {
	out.WriteString("\n## Presets\n\n| Preset | `id` | `users.filter` | `users.enabled` | `groups.filter` | `userName` |\n|---|---|---|---|---|---|\n")
	for _, p := range presets() {
		fmt.Fprintf(out, "| `%s` | `%s`, %s | %s | %s | %s | %s |\n", p.name, p.id.Attribute, p.id.Encoding,
			code(p.userFilter), code(p.enabled), code(p.groupFilter), code(p.userName))
	}
	out.WriteString("\nThe default mapping of users, here of `openldap`; `rollcall config defaults --preset <name>` prints the others:\n\n| SCIM attribute | Expression |\n|---|---|\n")
	mapped := presets()[0].mapping()
	for _, path := range sortedNames(mapped) {
		fmt.Fprintf(out, "| `%s` | `%s` |\n", path, mapped[path].Value)
	}
}

func writeFunctions(out *bytes.Buffer) {
	for _, f := range mapping.Functions() {
		fmt.Fprintf(out, "| %s | %s | %s | %s |\n", code(f.Signature), cell(f.Meaning), code(f.Example), code(f.Result))
	}
}

// cell makes a text fit into a cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// code writes a text in a cell as code, whatever backticks it has.
func code(s string) string {
	if strings.Contains(s, "`") {
		return "`` " + cell(s) + " ``"
	}
	return "`" + cell(s) + "`"
}
