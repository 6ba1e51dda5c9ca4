package scimtest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"strings"
	"time"
)

// decode reads a JSON object and nothing behind it.
func decode(body string) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader([]byte(body)))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil {
		return nil, invalid(typeSyntax, "the body is not a JSON object: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid(typeSyntax, "there is something behind the JSON object")
	}
	if object == nil {
		return nil, invalid(typeSyntax, "the body is null")
	}
	return object, nil
}

// reader brings a body to the canonical form: names in their case, extensions
// under their URN, nothing that is read-only, null or empty.
type reader struct {
	typ    *resourceType
	quirks Quirks
}

// resource reads the body of a POST or PUT.
func (rd reader) resource(body map[string]any) (map[string]any, error) {
	declared, err := rd.schemas(body)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	plain := map[string]any{}
	for key, value := range body {
		urn, definitions, ok := rd.typ.extension(key)
		switch {
		case strings.EqualFold(key, "schemas"):
		case ok && !declared[urn]:
			return nil, invalid(typeSyntax, "schemas does not name %s", urn)
		case ok:
			object, err := rd.object(definitions, value, key)
			if err != nil {
				return nil, err
			}
			if len(object) > 0 {
				out[urn] = object
			}
		default:
			plain[key] = value
		}
	}
	core, err := rd.object(rd.typ.core, plain, "")
	if err != nil {
		return nil, err
	}
	maps.Copy(out, core)
	return out, rd.required(out)
}

// schemas checks the list of schemas; a resource must name its own.
func (rd reader) schemas(body map[string]any) (map[string]bool, error) {
	var value any
	for key, v := range body {
		if strings.EqualFold(key, "schemas") {
			value = v
		}
	}
	list, _ := value.([]any)
	declared := map[string]bool{}
	for _, item := range list {
		name, _ := item.(string)
		urn, _, known := rd.typ.extension(name)
		switch {
		case strings.EqualFold(name, rd.typ.kind.Schema()):
			declared[rd.typ.kind.Schema()] = true
		case known:
			declared[urn] = true
		default:
			return nil, invalid(typeSyntax, "unknown schema %q", name)
		}
	}
	if !declared[rd.typ.kind.Schema()] {
		return nil, invalid(typeSyntax, "schemas must name %s", rd.typ.kind.Schema())
	}
	return declared, nil
}

func (rd reader) required(attrs map[string]any) error {
	for i := range rd.typ.core {
		d := &rd.typ.core[i]
		if v := attrs[d.name]; d.required && (v == nil || v == "") {
			return invalid(typeValue, "%s is required", d.name)
		}
	}
	return nil
}

// object reads an object against its definitions.
func (rd reader) object(definitions []definition, value any, at string) (map[string]any, error) {
	object, ok := value.(map[string]any)
	if !ok && value != nil {
		return nil, invalid(typeValue, "%s must be an object", at)
	}
	out := make(map[string]any, len(object))
	for key, v := range object {
		d := find(definitions, key)
		if d == nil {
			return nil, invalid(typeValue, "unknown attribute %s", strings.TrimPrefix(at+"."+key, "."))
		}
		if _, twice := out[d.name]; twice {
			return nil, invalid(typeSyntax, "%s stands there twice", d.name)
		}
		if d.readOnly || d.name == "externalId" && rd.quirks.IgnoreExternalID {
			continue
		}
		v, err := rd.value(d, v)
		if err != nil {
			return nil, err
		}
		if v != nil {
			out[d.name] = v
		}
	}
	return out, nil
}

// value reads one attribute; nil when it has no value.
func (rd reader) value(d *definition, value any) (any, error) {
	items, isArray := value.([]any)
	switch {
	case value == nil:
		return nil, nil
	case d.multi && !isArray:
		return nil, invalid(typeValue, "%s must be an array", d.name)
	case !d.multi && isArray:
		return nil, invalid(typeValue, "%s must not be an array", d.name)
	case !d.multi:
		return rd.single(d, value)
	}
	out := make([]any, 0, len(items))
	primaries := 0
	for _, item := range items {
		v, err := rd.single(d, item)
		if err != nil {
			return nil, err
		}
		if isPrimary(v) {
			primaries++
		}
		if v != nil {
			out = append(out, v)
		}
	}
	if primaries > 1 {
		return nil, invalid(typeValue, "%s has %d primary values", d.name, primaries)
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// single reads one value of an attribute.
func (rd reader) single(d *definition, value any) (any, error) {
	if d.typ == dtComplex {
		object, err := rd.object(d.subs, value, d.name)
		if err != nil || len(object) == 0 {
			return nil, err
		}
		return object, nil
	}
	if d.typ == dtBoolean {
		if _, ok := value.(bool); !ok {
			return nil, invalid(typeValue, "%s must be a boolean", d.name)
		}
		return value, nil
	}
	s, ok := value.(string)
	if !ok {
		return nil, invalid(typeValue, "%s must be a string", d.name)
	}
	if s == "" && rd.quirks.RefuseEmptyStrings {
		return nil, invalid(typeValue, "%s must not be empty", d.name)
	}
	return s, checkString(d, s)
}

func checkString(d *definition, s string) error {
	switch d.typ {
	case dtDateTime:
		if _, err := time.Parse(time.RFC3339, s); err != nil {
			return invalid(typeValue, "%s must be a date and time", d.name)
		}
	case dtBinary:
		if _, err := base64.StdEncoding.DecodeString(s); err != nil {
			return invalid(typeValue, "%s must be base64", d.name)
		}
	case dtString, dtBoolean, dtComplex, dtReference:
	}
	return nil
}

func isPrimary(v any) bool {
	object, ok := v.(map[string]any)
	return ok && object["primary"] == true
}
