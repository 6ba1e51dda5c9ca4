package connection

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// KnobsReference is the documentation of `target.overrides` as Markdown: what each
// knob means, what it is where nobody says otherwise, and which profiles do.
func KnobsReference() []byte {
	var out bytes.Buffer
	out.WriteString("| Knob | Default | Meaning | In profiles |\n|---|---|---|---|\n")
	table := newKeyTable()
	for field, v := range reflect.ValueOf(scim.Generic()).Fields() {
		name := fieldName(field)
		if k, ok := table[over+name]; ok {
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", name, knobValue(v), cell(k.meaning), knobProfiles(field, v))
		}
	}
	return out.Bytes()
}

// knobProfiles are the profiles in which a knob is another one than in generic.
func knobProfiles(field reflect.StructField, generic reflect.Value) string {
	var differ []string
	for _, name := range scim.ProfileNames() {
		p, _ := scim.FindProfile(name)
		v := reflect.ValueOf(p).FieldByIndex(field.Index)
		if reflect.DeepEqual(v.Interface(), generic.Interface()) {
			continue
		}
		text := knobValue(v)
		if text == "" {
			text = "own ones"
		}
		differ = append(differ, name+": "+text)
	}
	return strings.Join(differ, "; ")
}

// knobValue is a value in a cell; empty for what has no short form.
func knobValue(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case []string:
		if len(value) == 0 {
			return ""
		}
		return "`[" + strings.Join(value, ", ") + "]`"
	case map[string]string:
		var pairs []string
		for _, from := range sortedNames(value) {
			pairs = append(pairs, from+": "+value[from])
		}
		if len(pairs) == 0 {
			return ""
		}
		return "`{" + strings.Join(pairs, ", ") + "}`"
	case scim.Rates:
		return ""
	}
	if text, ok := scalarText(v); ok && text != `""` {
		return "`" + text + "`"
	}
	return ""
}
