package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

func TestWhatACallSaysAboutTheTarget(t *testing.T) {
	t.Parallel()
	status := func(code int) error {
		return &scim.Error{Status: code, Route: "/Users/{id}", ResponseBody: fmt.Appendf(nil, `{"status":"%d","detail":"no"}`, code)}
	}
	cases := []struct {
		name string
		err  error
		want fault
	}{
		{"success", nil, fine},
		{"no call at all", errors.New("odd"), fine},
		{"bad request", status(http.StatusBadRequest), fine},
		{"not found, says the service", status(http.StatusNotFound), fine},
		{"conflict", status(http.StatusConflict), fine},
		{"not implemented", status(http.StatusNotImplemented), fine},
		{"not found, says a gateway", &scim.Error{Status: http.StatusNotFound, ResponseBody: []byte("<html>")}, failing},
		{"not found, says a gateway in JSON", &scim.Error{Status: http.StatusNotFound, ResponseBody: []byte(`{"message":"no Route matched"}`)}, failing},
		{"no users at the address", &scim.Error{Status: http.StatusNotFound, Route: "/Users"}, failing},
		{"success, with somebody else's answer", &scim.Error{Status: http.StatusOK, Err: scim.ErrUnproven}, failing},
		{"created, without an id", &scim.Error{Status: http.StatusOK, Err: scim.ErrNoID}, failing},
		{"redirect to a page", status(http.StatusFound), failing},
		{"no answer", &scim.Error{Err: errors.New("connection refused")}, failing},
		{"broken", status(http.StatusInternalServerError), failing},
		{"too many requests", status(http.StatusTooManyRequests), failing},
		{"unavailable", status(http.StatusServiceUnavailable), failing},
		{"time-out of the target", status(http.StatusRequestTimeout), failing},
		{"too many requests, with a word when to come again", &scim.Error{Status: http.StatusTooManyRequests, RetryAfter: time.Minute}, busy},
		{"unavailable for a moment", &scim.Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second}, busy},
		{"unavailable for a while", &scim.Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Minute}, away},
		{"we went away ourselves", &scim.Error{Err: fmt.Errorf("send: %w", context.Canceled)}, busy},
		{"nothing was sent", &scim.Error{Err: scim.ErrWait}, busy},
		{"wrong credentials", status(http.StatusUnauthorized), refused},
		{"forbidden", status(http.StatusForbidden), refused},
		{"wrapped", fmt.Errorf("look up: %w", status(http.StatusUnauthorized)), refused},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := faultOf(c.err); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
