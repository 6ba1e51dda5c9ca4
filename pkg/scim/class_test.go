package scim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestClassify is the specification: what the end of a call means.
func TestClassify(t *testing.T) {
	t.Parallel()
	const (
		collection = "/Users"
		resource   = "/Users/{id}"
	)
	answer := func(method, route string, status int, scimType string) error {
		return &Error{Method: method, Route: route, Status: status, ScimType: scimType}
	}
	get := func(status int, scimType string) error { return answer(http.MethodGet, resource, status, scimType) }
	patch := func(status int, scimType string) error { return answer(http.MethodPatch, resource, status, scimType) }
	post := func(status int, scimType string) error { return answer(http.MethodPost, collection, status, scimType) }
	for _, row := range []struct {
		name string
		err  error
		want Class
	}{
		{"no error", nil, Done},
		{"somebody's error", errors.New("x"), Unknown},
		{"the caller gave up", context.Canceled, Canceled},
		{"the caller gave up a call", &Error{Err: fmt.Errorf("wait: %w", context.Canceled)}, Canceled},
		{"a listing that does not add up", fmt.Errorf("list: %w", ErrIncomplete), Incomplete},
		{"not sent", fmt.Errorf("%w: a removal of all members", ErrRefused), Unsent},
		{"not sent by a reader", &Error{Err: ErrRefused}, Unsent},

		{"400", patch(400, ""), Rejected},
		{"400 invalidSyntax", patch(400, "invalidSyntax"), Rejected},
		{"400 invalidFilter", get(400, "invalidFilter"), Rejected},
		{"400 invalidPath", patch(400, "invalidPath"), Rejected},
		{"400 invalidValue", patch(400, "invalidValue"), Rejected},
		{"400 uniqueness", post(400, "uniqueness"), Rejected},
		{"400 mutability", patch(400, "mutability"), Mutability},
		{"400 noTarget", patch(400, "noTarget"), NoTarget},
		{"400 NOTARGET", patch(400, "NOTARGET"), NoTarget},
		{"400 tooMany", get(400, "tooMany"), TooMany},
		{"400 expiredCursor", get(400, "expiredCursor"), BadCursor},
		{"400 invalidCursor", get(400, "invalidCursor"), BadCursor},
		{"401", get(401, ""), Unauthorized},
		{"403", patch(403, ""), Forbidden},
		{"403 and wait", &Error{Status: 403, RetryAfter: time.Second}, Throttled},
		{"404 of a resource", get(404, ""), Gone},
		{"404 of a resource, in SCIM", &Error{Route: resource, Status: 404, ResponseBody: []byte(` {"status":"404"}`)}, Gone},
		{"404 of a gateway", &Error{Route: resource, Status: 404, ResponseBody: []byte("<html>")}, Misrouted},
		{"404 of a gateway in JSON", &Error{Route: resource, Status: 404, ResponseBody: []byte(`{"message":"no Route matched"}`)}, Misrouted},
		{"404 of a gateway for a collection", &Error{Route: collection, Status: 404, ResponseBody: []byte(`{"message":"no Route matched"}`)}, Misrouted},
		{"404 of a collection", post(404, ""), NoEndpoint},
		{"405", patch(405, ""), Unsupported},
		{"408", patch(408, ""), Temporary},
		{"409 of a POST", post(409, "uniqueness"), Exists},
		{"409 of a POST without scimType", post(409, ""), Exists},
		{"409 of a PATCH, uniqueness", patch(409, "Uniqueness"), Exists},
		{"409 of a PATCH", patch(409, ""), Conflict},
		{"410", get(410, ""), Gone},
		{"412", patch(412, ""), Conflict},
		{"413", patch(413, ""), TooLarge},
		{"a body that the profile forbids", &Error{Err: fmt.Errorf("%w: 9 bytes", errBody)}, TooLarge},
		{"415", patch(415, ""), Rejected},
		{"422", patch(422, ""), Rejected},
		{"429", patch(429, ""), Throttled},
		{"500", patch(500, ""), Temporary},
		{"500 and wait", &Error{Status: 500, RetryAfter: time.Second}, Throttled},
		{"501", patch(501, ""), Unsupported},
		{"502", patch(502, ""), Temporary},
		{"503", patch(503, ""), Throttled},
		{"504", patch(504, ""), Temporary},
		{"no answer", &Error{Err: errTimeout}, Temporary},
		{"the target's pause", &Error{Err: ErrWait}, Throttled},
		{"the client's pause", fmt.Errorf("%w: the connection is paused", ErrWait), Throttled},
		{"301", get(301, ""), Redirected},
		{"202", &Error{Status: 202, Err: ErrAccepted}, Accepted},
		{"200 without an id", &Error{Status: 200, Err: ErrNoID}, NoID},
		{"200 with something else", &Error{Status: 200, Err: ErrUnproven}, Unproven},
		{"200 that is too large", &Error{Status: 200, Err: ErrTooLarge}, Unread},
		{"wrapped", fmt.Errorf("create: %w", post(409, "")), Exists},
	} {
		if got := Classify(row.err); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
}
