package worker

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

const (
	hidden    = "***"
	maxShown  = 4 << 10
	leastMask = 3 // shorter values are hidden where they stand, and nowhere else
)

// mask hides the values of attributes that the mapping says are never shown, and
// passwords. It is on the safe side: an attribute of which one typed value is
// masked is hidden with all its values, in every schema.
type mask struct {
	whole map[string]bool // attributes
	parts map[string]bool // attribute.sub
}

func newMask(paths []string) *mask {
	m := &mask{whole: map[string]bool{"password": true}, parts: map[string]bool{}}
	for _, text := range paths {
		p, err := scim.ParsePath(text)
		switch {
		case err != nil:
			m.whole[strings.ToLower(text)] = true
		case p.Sub != "" && p.Filter == nil:
			m.parts[strings.ToLower(p.Attribute+"."+p.Sub)] = true
		default:
			m.whole[strings.ToLower(p.Attribute)] = true
		}
	}
	return m
}

// exchange is what was sent and what came back, fit for people.
type exchange struct{ request, answer, message string }

// show hides what is masked in the bodies of a call, and the masked values that were
// sent also where the target repeats them.
func (m *mask) show(request, answer []byte, message string) exchange {
	sent := &veil{mask: m}
	e := exchange{request: sent.text(request)}
	slices.SortFunc(sent.values, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	returned := &veil{mask: m, known: sent.values}
	e.answer, e.message = returned.text(answer), returned.without(message)
	return e
}

// veil copies one body.
type veil struct {
	mask   *mask
	known  []string // values to hide wherever they stand
	values []string // values that were hidden
	out    bytes.Buffer
}

// text is a body with everything hidden that has to be. What is cut off in the
// middle, or is no JSON at all, is shown as far as it can be read.
func (v *veil) text(body []byte) string {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return ""
	}
	if body[0] != '{' && body[0] != '[' {
		return shown(v.without(string(body)))
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := v.value(d, "", false); err != nil {
		v.out.WriteString("…")
	}
	return shown(v.out.String())
}

// shown is at most maxShown bytes of valid UTF-8.
func shown(text string) string {
	text = strings.ToValidUTF8(text, "")
	if len(text) <= maxShown {
		return text
	}
	cut := maxShown
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}

// without is a text in which no known value stands.
func (v *veil) without(text string) string {
	for _, value := range v.known {
		text = strings.ReplaceAll(text, value, hidden)
	}
	return text
}

// value copies one value; parent is the attribute that it is a part of.
func (v *veil) value(d *json.Decoder, parent string, secret bool) error {
	token, err := d.Token()
	if err != nil {
		return fmt.Errorf("read a body: %w", err)
	}
	return v.begun(d, token, parent, secret)
}

// begun copies a value of which the first token was read.
func (v *veil) begun(d *json.Decoder, token json.Token, parent string, secret bool) error {
	switch token {
	case json.Delim('{'):
		return v.object(d, parent, secret)
	case json.Delim('['):
		v.out.WriteByte('[')
		for i := 0; d.More(); i++ {
			v.separate(i)
			if err := v.value(d, parent, secret); err != nil {
				return err
			}
		}
		return v.end(d, ']')
	}
	v.scalar(token, secret)
	return nil
}

// object copies the members of an object. In a PATCH operation the path says what
// the value is a value of.
func (v *veil) object(d *json.Decoder, parent string, secret bool) error {
	v.out.WriteByte('{')
	attribute, secretPath := parent, false
	for i := 0; d.More(); i++ {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("read a body: %w", err)
		}
		name, _ := token.(string)
		key := strings.ToLower(name)
		v.separate(i)
		v.scalar(name, false)
		v.out.WriteByte(':')
		switch key {
		case "path":
			path, err := d.Token()
			if err != nil {
				return fmt.Errorf("read a body: %w", err)
			}
			if text, ok := path.(string); ok {
				attribute, secretPath = v.mask.of(text)
			}
			if err := v.begun(d, path, key, secret); err != nil {
				return err
			}
		case "value":
			if err := v.value(d, attribute, secret || secretPath || v.mask.hides(parent, key)); err != nil {
				return err
			}
		default:
			if err := v.value(d, key, secret || v.mask.hides(parent, key)); err != nil {
				return err
			}
		}
	}
	return v.end(d, '}')
}

// of says which attribute a PATCH path is about, and whether it is masked.
func (m *mask) of(path string) (attribute string, secret bool) {
	p, err := scim.ParsePath(path)
	if err != nil {
		for name := range m.whole {
			secret = secret || strings.Contains(strings.ToLower(path), name)
		}
		return strings.ToLower(path), secret
	}
	attribute = strings.ToLower(p.Attribute)
	return attribute, m.hides(attribute, strings.ToLower(p.Sub)) || m.whole[attribute]
}

func (m *mask) hides(parent, key string) bool { return m.whole[key] || m.parts[parent+"."+key] }

func (v *veil) separate(i int) {
	if i > 0 {
		v.out.WriteByte(',')
	}
}

func (v *veil) end(d *json.Decoder, closing byte) error {
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("read a body: %w", err)
	}
	v.out.WriteByte(closing)
	return nil
}

func (v *veil) scalar(token any, secret bool) {
	if secret && token != nil {
		if text := fmt.Sprint(token); len(text) >= leastMask && text != hidden {
			v.values = append(v.values, text)
		}
		token = hidden
	}
	if text, ok := token.(string); ok {
		token = v.without(text)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(token) == nil {
		v.out.Write(bytes.TrimSpace(b.Bytes()))
	}
}
