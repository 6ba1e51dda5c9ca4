package scim

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// Values of Profile.Proof.
const (
	ProofByAnswer = "answer"
	ProofByStatus = "status"
)

// expects is what the body of a successful answer has to be.
type expects int

const (
	anything   expects = iota
	aResource          // a SCIM resource; that of the request where it names one
	aChange            // nothing with 204, otherwise the resource of the request
	aDeletion          // nothing, or the resource that was deleted
	aList              // a ListResponse (RFC 7644 section 3.4.2)
	whatItDoes         // a ServiceProviderConfig (RFC 7643 section 5)
)

// proven says whether an answer of 2xx shows that the target did what was asked: a
// gateway, a login page and a service that reports its errors with status 200 answer
// 2xx as well. The error is one of ErrNoID and ErrUnproven.
func (r *request) proven(resp *response, unread error) error {
	if errors.Is(unread, ErrTooLarge) && bytes.HasPrefix(resp.body, []byte("{")) {
		return nil // an error is never that long
	}
	body := bytes.TrimSpace(resp.body)
	proven := true
	switch r.expects {
	case anything:
	case aResource:
		proven = r.names(body)
		if !proven && r.method == http.MethodPost {
			return ErrNoID
		}
	case aChange:
		proven = r.vouched || resp.status == http.StatusNoContent || r.names(body)
	case aDeletion:
		proven = r.vouched || nothing(body) || r.names(body)
	case aList:
		proven = isList(body)
	case whatItDoes:
		proven = isConfig(body)
	}
	if !proven {
		return ErrUnproven
	}
	return nil
}

// names says whether a body is the resource that the request is about; any resource
// where the request names none.
func (r *request) names(body []byte) bool {
	id := idOf(body)
	return id != "" && (r.id == "" || strings.EqualFold(id, r.id))
}

// idOf is the id of the resource in a body; empty where there is none. What stands
// behind it is not read: that may be the members of a large group.
func idOf(body []byte) (id string) {
	eachMember(body, func(name string, value json.RawMessage) bool {
		if !strings.EqualFold(name, "id") {
			return true
		}
		var v any
		if decodeJSON(value, &v) == nil {
			id = scalar(v)
		}
		return false
	})
	return id
}

// eachMember goes through the members of an object, as long as each says so.
func eachMember(body []byte, each func(name string, value json.RawMessage) bool) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return
	}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return
		}
		if name, _ := token.(string); !each(name, value) {
			return
		}
	}
}

func decodeObject(body []byte) (map[string]any, error) {
	var object map[string]any
	return object, decodeJSON(body, &object)
}

// nothing says that a body holds nothing.
func nothing(body []byte) bool {
	return len(body) == 0 || bytes.Equal(body, []byte("null")) || bytes.Equal(body, []byte("{}"))
}

// isList says whether a body is a listing. Some targets name no schema, and some leave
// out Resources where there are none.
func isList(body []byte) (listing bool) {
	eachMember(body, func(name string, value json.RawMessage) bool {
		switch strings.ToLower(name) {
		case "totalresults":
			listing = value[0] != '"' && value[0] != 'n'
		case "resources":
			listing = value[0] == '['
		case "schemas":
			listing = bytes.Contains(bytes.ToLower(value), []byte(strings.ToLower(SchemaListResponse)))
		}
		return !listing
	})
	return listing
}

// isConfig says whether a body is a ServiceProviderConfig, also that of SCIM 1.1.
func isConfig(body []byte) bool {
	object, err := decodeObject(body)
	if err != nil {
		return false
	}
	_, says := member(object, "patch").(map[string]any)
	return says || hasSchema(object, "ServiceProviderConfig")
}

// hasSchema says whether an object names a schema, by its URN or the end of it.
func hasSchema(object map[string]any, schema string) bool {
	return slices.ContainsFunc(list(member(object, "schemas")), func(one any) bool {
		return strings.HasSuffix(strings.ToLower(scalar(one)), strings.ToLower(schema))
	})
}

// errorMembers are the members of a SCIM error (RFC 7644 section 3.12).
var errorMembers = []string{"schemas", "status", "scimtype", "detail"}

// isSCIMError says whether the body of a refusal is the SCIM service's own: a SCIM
// error, or nothing but members of one. Gateways answer in JSON, too, some with a
// `detail` or a `status` of their own.
func isSCIMError(body []byte) bool {
	object, err := decodeObject(body)
	if err != nil || len(object) == 0 {
		return false
	}
	if hasSchema(object, SchemaError) {
		return true
	}
	for name := range object {
		if !slices.Contains(errorMembers, strings.ToLower(name)) {
			return false
		}
	}
	return member(object, "status") != nil || member(object, "scimType") != nil
}

// wordsOf is what an answer that is no SCIM says, in one line: the message in it, or
// its beginning.
func wordsOf(body []byte) string {
	object, err := decodeObject(body)
	if err != nil {
		return cleaned(string(body[:min(len(body), maxKept)]), 200)
	}
	for _, name := range []string{"detail", "message", "error_description", "error", "title"} {
		value := member(object, name)
		if text := scalar(value); text != "" {
			return cleaned(text, 300)
		}
		if text := scalar(sub(value, "message")); text != "" {
			return cleaned(text, 300)
		}
	}
	return cleaned(string(body[:min(len(body), maxKept)]), 200)
}
