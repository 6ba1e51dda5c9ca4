package workertest

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

var (
	entryText    = regexp.MustCompile(`(3[0-9]){16}`) // the id of an entry, in hex
	resourceText = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	pagingText   = regexp.MustCompile(`&?(count|startIndex)=\d+`)
)

// Sent are the requests that the target saw since its log was emptied, in order, as
// golden tests write them: method, path without an id, query without paging, and body
// without schemas. A resource stands there as its name, one that is gone as {gone}, and
// an entry as # and its number.
//
//	PATCH /Users/{id} {"Operations":[{"op":"replace","path":"active","value":false}]}
func (b *Bench) Sent() []string {
	b.tb.Helper()
	names := b.names()
	var out []string
	for _, r := range b.Target.Requests() {
		out = append(out, b.sent(r, names))
	}
	return out
}

func (b *Bench) sent(r scimtest.Request, names map[string]string) string {
	b.tb.Helper()
	collection, _, one := strings.Cut(strings.TrimPrefix(r.Path, "/"), "/")
	text := r.Method + " /" + collection
	if one {
		text += "/{id}"
	}
	if query := strings.TrimPrefix(pagingText.ReplaceAllString(r.Query, ""), "&"); query != "" {
		text += "?" + query
	}
	text = named(text, names)
	if r.Body != "" {
		text += " " + b.body(named(r.Body, names))
	}
	return text
}

// named is a text with names in place of ids.
func named(text string, names map[string]string) string {
	text = entryText.ReplaceAllStringFunc(text, func(id string) string {
		digits, _ := hex.DecodeString(id) // it is hex
		return "#" + strings.TrimLeft(string(digits), "0")
	})
	return resourceText.ReplaceAllStringFunc(text, func(id string) string {
		if name, there := names[id]; there {
			return name
		}
		return "{gone}"
	})
}

// body is a body in one line, keys sorted, without schemas.
func (b *Bench) body(text string) string {
	b.tb.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		b.tb.Fatal(err)
	}
	delete(object, "schemas")
	if members, ok := object["members"].([]any); ok { // a set
		slices.SortFunc(members, func(x, y any) int { return cmp.Compare(fmt.Sprint(x), fmt.Sprint(y)) })
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object); err != nil {
		b.tb.Fatal(err)
	}
	return strings.TrimSpace(line.String())
}

// names are the names of what the target holds, by resource id.
func (b *Bench) names() map[string]string {
	names := map[string]string{}
	for attribute, all := range map[string][]map[string]any{"userName": b.Target.Users(), "displayName": b.Target.Groups()} {
		for _, r := range all {
			id, _ := r["id"].(string)
			names[id], _ = r[attribute].(string)
		}
	}
	return names
}
