package scimtest

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// route gives a path with {id} in place of the id.
func route(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) == 2 {
		return "/" + parts[0] + "/{id}"
	}
	return path
}

// route finds the endpoint of a request.
func (s *Server) route(r Request, u *url.URL, escaped string) (answer, error) {
	endpoint, rest, _ := strings.Cut(strings.TrimPrefix(escaped, "/"), "/")
	id, err := url.PathUnescape(rest)
	if err != nil || strings.Contains(rest, "/") {
		return answer{}, fail(http.StatusNotFound, "", "no such endpoint")
	}
	switch endpoint {
	case "Users":
		return s.resources(r, u, userType, id)
	case "Groups":
		return s.resources(r, u, groupType, id)
	case "Bulk", "Me":
		return answer{}, fail(http.StatusNotImplemented, "", "%s is not supported", endpoint)
	}
	if r.Method != http.MethodGet {
		return answer{}, fail(http.StatusMethodNotAllowed, "", "%s cannot be done here", r.Method)
	}
	switch {
	case endpoint == "ServiceProviderConfig" && id == "":
		return s.serviceProviderConfig()
	case endpoint == "ResourceTypes" && id == "":
		return s.resourceTypes(), nil
	case endpoint == "Schemas" && id == "":
		return schemas(), nil
	}
	return answer{}, fail(http.StatusNotFound, "", "no such endpoint")
}

// resources serves /Users and /Groups and what is below them.
func (s *Server) resources(r Request, u *url.URL, t *resourceType, id string) (answer, error) {
	query := u.Query()
	p, err := newProjection(t, query.Get("attributes"), query.Get("excludedAttributes"))
	if err != nil {
		return answer{}, err
	}
	if s.quirks().IgnoreProjection {
		p = projection{}
	}
	call := call{server: s, request: r, typ: t, id: id, query: query, projection: p}
	switch {
	case id == "" && r.Method == http.MethodGet:
		return call.list()
	case id == "" && r.Method == http.MethodPost:
		return call.create()
	case id == "":
	case r.Method == http.MethodGet:
		return call.get()
	case r.Method == http.MethodPut:
		return call.put()
	case r.Method == http.MethodPatch:
		return call.patch()
	case r.Method == http.MethodDelete:
		return call.delete()
	}
	return answer{}, fail(http.StatusMethodNotAllowed, "", "%s cannot be done here", r.Method)
}

// call is one request to /Users or /Groups.
type call struct {
	server     *Server
	request    Request
	typ        *resourceType
	id         string
	query      url.Values
	projection projection
}

func (c call) reader() reader { return reader{typ: c.typ, quirks: *c.server.quirks()} }

// show is the answer that holds a resource.
func (c call) show(status int, v view) answer {
	document := c.projection.apply(v.document())
	if c.server.quirks().MembersOnRequest && c.projection.only["members"] == nil {
		delete(document, "members")
	}
	if c.server.quirks().EmptyMembers && c.typ.kind == scim.KindGroup {
		document["members"] = []any{}
	}
	c.server.quirks().addEmpty(c.typ.kind, document)
	if active, ok := document["active"].(bool); ok && c.server.quirks().StringBooleans {
		document["active"] = map[bool]string{true: "True", false: "False"}[active]
	}
	return answer{status: status, body: document, location: v.location}
}

func (c call) create() (answer, error) {
	body, err := decode(c.request.Body)
	if err != nil {
		return answer{}, err
	}
	attrs, err := c.reader().resource(body)
	if err != nil {
		return answer{}, err
	}
	if err := c.server.quirks().checkMembers(attrs); err != nil {
		return answer{}, err
	}
	v, err := c.server.store.create(c.typ.kind, attrs, newID())
	switch {
	case err != nil:
		return answer{}, err
	case c.server.quirks().AcceptedCreates:
		return answer{status: http.StatusAccepted}, nil
	case c.server.quirks().EmptyCreates:
		return answer{status: http.StatusOK, body: map[string]any{}}, nil
	}
	return c.show(http.StatusCreated, v), nil
}

func (c call) get() (answer, error) {
	v, err := c.server.store.get(c.typ.kind, c.id, c.projection)
	if err != nil {
		return answer{}, err
	}
	return c.show(http.StatusOK, v), nil
}

func (c call) put() (answer, error) {
	body, err := decode(c.request.Body)
	if err != nil {
		return answer{}, err
	}
	if id, ok := body["id"].(string); ok && id != c.id {
		return answer{}, invalid(typeMutability, "the id in the body is another one")
	}
	fresh, err := c.reader().resource(body)
	if err != nil {
		return answer{}, err
	}
	if err := c.server.quirks().checkMembers(fresh); err != nil {
		return answer{}, err
	}
	members := takeMembers(fresh)
	replace := func(_ map[string]any, tx *transaction) (map[string]any, error) {
		if c.typ.kind != scim.KindGroup || c.server.quirks().IgnoreMembersOnCreate {
			return fresh, nil
		}
		tx.clear()
		return fresh, tx.add(members)
	}
	v, err := c.server.store.update(c.typ.kind, c.id, c.projection.wants("members"), replace)
	if err != nil {
		return answer{}, err
	}
	return c.show(http.StatusOK, v), nil
}

func (c call) patch() (answer, error) {
	if c.server.quirks().NoPatch {
		return answer{}, fail(http.StatusNotImplemented, "", "PATCH is not supported")
	}
	body, err := decode(c.request.Body)
	if err != nil {
		return answer{}, err
	}
	ops, err := readOperations(body)
	if err != nil {
		return answer{}, err
	}
	if err := c.server.quirks().checkOperations(c.typ.kind, ops); err != nil {
		return answer{}, err
	}
	forget := c.server.quirks().PatchForgetsExcluded && c.typ.kind == scim.KindGroup && !c.projection.wants("members")
	change := func(attrs map[string]any, tx *transaction) (map[string]any, error) {
		if forget {
			tx.clear()
		}
		undo := c.server.quirks().undoing(attrs, tx)
		err := patcher{reader: c.reader(), attrs: attrs, tx: tx}.patch(ops)
		undo()
		return attrs, err
	}
	v, err := c.server.store.update(c.typ.kind, c.id, c.projection.wants("members"), change)
	if err != nil {
		return answer{}, err
	}
	if c.server.quirks().NoContentOnPatch && c.query.Get("attributes") == "" {
		return answer{status: http.StatusNoContent}, nil
	}
	return c.show(http.StatusOK, v), nil
}

func (c call) delete() (answer, error) {
	if err := c.end(); err != nil {
		return answer{}, err
	}
	if c.server.quirks().DeleteAnswersOK {
		return answer{status: http.StatusOK, body: map[string]any{}}, nil
	}
	return answer{status: http.StatusNoContent}, nil
}

// end deletes the resource, or what the target takes for it.
func (c call) end() error {
	if !c.server.quirks().DeleteDeactivates || c.typ.kind != scim.KindUser {
		return c.server.store.remove(c.typ.kind, c.id)
	}
	_, err := c.server.store.update(c.typ.kind, c.id, false, func(attrs map[string]any, _ *transaction) (map[string]any, error) {
		attrs["active"] = false
		return attrs, nil
	})
	return err
}
