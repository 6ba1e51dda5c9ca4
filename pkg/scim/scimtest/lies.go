package scimtest

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// gatewayNotFound is what an API gateway answers that has no route to the service.
var gatewayNotFound = answer{
	status: http.StatusNotFound, raw: `{"message":"no Route matched with those values"}`,
	header: map[string]string{"Content-Type": "application/json"},
}

// disguise answers a refusal as if it was a success.
func (q Quirks) disguise(a answer) answer {
	if !q.ErrorsAnswerOK || a.cut || a.status < http.StatusBadRequest {
		return a
	}
	message := "the request was refused"
	if body, ok := a.body.(map[string]any); ok {
		message, _ = body["detail"].(string)
	}
	return answer{status: http.StatusOK, body: map[string]any{"status": "error", "message": message}}
}

// doLate cuts the connection of a request that is carried out when the channel is
// closed, or not at all when the server is closed first.
func (s *Server) doLate(r *http.Request, request Request, when <-chan struct{}) answer {
	r = r.WithContext(context.WithoutCancel(r.Context()))
	done := make(chan struct{})
	s.mu.Lock()
	s.late = append(s.late, done)
	ended := s.ended
	s.mu.Unlock()
	go func() {
		defer close(done)
		select {
		case <-when:
			_ = s.answer(r, request, nil) // the client has gone
		case <-ended:
		}
	}()
	return answer{cut: true}
}

// WaitLate waits until all late writes are done; see Fault.
func (s *Server) WaitLate() {
	s.mu.Lock()
	late := slices.Clone(s.late)
	s.mu.Unlock()
	for _, done := range late {
		<-done
	}
}

// endLate drops the late writes that have not come.
func (s *Server) endLate() {
	s.mu.Lock()
	if s.ended != nil {
		close(s.ended)
		s.ended = nil
	}
	s.mu.Unlock()
	s.WaitLate()
}

// keeps says whether a PATCH changes nothing of a top-level attribute or schema.
func (q Quirks) keeps(name string) bool {
	return slices.ContainsFunc(q.PatchKeeps, func(one string) bool { return one == "*" || strings.EqualFold(one, name) })
}

// undoing remembers what a PATCH does not change; undo gives it back.
func (q Quirks) undoing(attrs map[string]any, tx *transaction) (undo func()) {
	if len(q.PatchKeeps) == 0 {
		return func() {}
	}
	before := cloneObject(attrs)
	return func() {
		maps.DeleteFunc(attrs, func(name string, _ any) bool { return q.keeps(name) })
		for name, value := range before {
			if q.keeps(name) {
				attrs[name] = value
			}
		}
		if q.keeps("members") {
			tx.undo()
		}
	}
}

// refusesMember says whether no group takes a resource as its member.
func (q Quirks) refusesMember(r *record) bool {
	return r != nil && slices.Contains(q.RefusedMembers, nameOf(r.id, r))
}

// addEmpty puts an empty element into multi-valued attributes of a user.
func (q Quirks) addEmpty(kind scim.Kind, document map[string]any) {
	if kind != scim.KindUser {
		return
	}
	for _, name := range q.EmptyElements {
		items, _ := document[name].([]any)
		document[name] = append(slices.Clone(items), map[string]any{"value": ""})
	}
}
