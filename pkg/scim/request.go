package scim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode"
)

const maxKept = 4 << 10 // bytes of a body that an Error keeps

// request is one call before it is sent, possibly several times.
type request struct {
	method string
	route  string // with {id}, for people, metrics and traces
	path   string // escaped, after the base URL
	query  url.Values
	body   []byte

	retry403 bool // a 403 means too many calls

	id      string  // of the resource that it is about; empty: of none
	expects expects // of the body of a success
	vouched bool    // the status alone proves a change

	bore           string // the Authorization header
	renewed, again bool   // the credentials were had anew; and the request is to be sent again
}

func (c *Client) endpoint(method, path string) *request {
	p := c.Profile()
	return &request{method: method, route: path, path: path, query: url.Values{}, retry403: p.Retry403, vouched: p.Proof == ProofByStatus}
}

func (c *Client) collection(method string, kind Kind) *request {
	path := c.cfg.UsersPath
	if kind == KindGroup {
		path = c.cfg.GroupsPath
	}
	req := c.endpoint(method, "/"+strings.Trim(path, "/"))
	req.expects = aResource
	if method == http.MethodGet {
		req.expects = aList
	}
	return req
}

func (c *Client) resource(method string, kind Kind, id string) (*request, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	req := c.collection(method, kind)
	req.route = req.path + "/{id}"
	req.path += "/" + url.PathEscape(id)
	req.id, req.expects = id, aResource
	switch method {
	case http.MethodPatch, http.MethodPut:
		req.expects = aChange
	case http.MethodDelete:
		req.expects = aDeletion
	}
	return req, nil
}

// checkID refuses ids that would make the URL name something else: without an id
// a DELETE would go to the whole collection.
func checkID(id string) error {
	if id == "" || id == "." || id == ".." || len(id) > maxPathLength || strings.ContainsFunc(id, unicode.IsControl) {
		return fmt.Errorf("%w: resource id %q", ErrRefused, clip(id, 40))
	}
	return nil
}

// write makes a request with a body, to the collection when id is empty.
func (c *Client) write(method string, kind Kind, id string, body map[string]any) (*request, error) {
	req := c.collection(method, kind)
	if id != "" {
		var err error
		if req, err = c.resource(method, kind, id); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		return nil, fmt.Errorf("write the body of %s %s: %w", method, req.route, err)
	}
	req.body = b.Bytes()
	if limit := c.Profile().MaxBodyBytes; limit > 0 && len(req.body) > limit {
		return nil, req.newError(fmt.Errorf("%w: %d bytes, the profile allows %d", errBody, len(req.body), limit))
	}
	if kind == KindGroup && c.Profile().OmitMembersOnWrite {
		req.query.Set("excludedAttributes", "members")
	}
	return req, nil
}

func setList(query url.Values, name string, values []string) {
	if len(values) > 0 {
		query.Set(name, strings.Join(values, ","))
	}
}

// url is the address of a request: always the base URL plus the endpoint, never
// what a target says in meta.location.
func (r *request) url(base *url.URL) string {
	u := strings.TrimRight(base.String(), "/") + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	return u
}

// failed makes the error of an answer that cannot be used.
func (r *request) failed(resp *response, cause error) *Error {
	e := r.newError(cause)
	e.Status = resp.status
	e.ResponseBody = kept(resp.body)
	e.Ambiguous = r.writes()
	if errors.Is(cause, ErrUnproven) || errors.Is(cause, ErrNoID) {
		e.Detail = wordsOf(resp.body)
	}
	return e
}

func (r *request) newError(cause error) *Error {
	return &Error{Method: r.method, Route: r.route, RequestBody: kept(r.body), Err: cause}
}

func (r *request) writes() bool { return r.method != http.MethodGet }

var (
	passwordMember    = regexp.MustCompile(`(?i)("password"\s*:\s*)"(?:[^"\\]|\\.)*"`)
	passwordOperation = regexp.MustCompile(`(?i)("path"\s*:\s*"(?:[^"\\]|\\.)*password"\s*,\s*"value"\s*:\s*)"(?:[^"\\]|\\.)*"`)
)

// kept is the part of a body that an Error keeps, without passwords.
func kept(body []byte) []byte {
	if len(body) == 0 {
		return nil
	}
	if bytes.Contains(bytes.ToLower(body), []byte("password")) {
		body = passwordMember.ReplaceAll(body, []byte(`${1}"***"`))
		body = passwordOperation.ReplaceAll(body, []byte(`${1}"***"`))
	}
	return bytes.Clone(body[:min(len(body), maxKept)])
}

// readError reads the target's error message; it may be SCIM's, anybody's JSON,
// a proxy's page, or nothing. The HTTP status alone says what happened.
func (e *Error) readError(body []byte) {
	e.ResponseBody = kept(body)
	var message struct {
		ScimType string `json:"scimType"`
		Detail   string `json:"detail"`
	}
	if json.Unmarshal(body, &message) == nil {
		e.ScimType = cleaned(message.ScimType, 40)
		e.Detail = cleaned(message.Detail, 300)
	}
	class := Classify(e)
	if class == Misrouted {
		e.Detail, e.Err = wordsOf(body), errMisrouted
	}
	if class == NoEndpoint {
		e.Err = errNoEndpoint
	}
}

// cleaned makes a target's words safe to print: one line, no control characters.
func cleaned(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return clip(strings.TrimSpace(s), n)
}
