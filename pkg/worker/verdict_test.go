package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

func TestDispose(t *testing.T) {
	t.Parallel()
	const (
		none     = provisioningv1.ProblemKind_PROBLEM_KIND_UNSPECIFIED
		retrying = provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING
		parked   = provisioningv1.ProblemKind_PROBLEM_KIND_PARKED
		blocked  = provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED
	)
	status := func(code int) error {
		return &scim.Error{Status: code, Route: "/Users/{id}", ResponseBody: fmt.Appendf(nil, `{"status":"%d","detail":"no"}`, code)}
	}
	cases := []struct {
		name     string
		err      error
		attempts uint32
		kind     provisioningv1.ProblemKind
		verdict  bus.Verdict
		counts   bool
	}{
		{"claimed by another worker", links.ErrClaimed, 0, none, bus.Delayed, false},
		{"waits for users", Wait(time.Second, errors.New("users first")), 0, none, bus.Delayed, false},
		{"blocked", Block("owned by another"), 0, blocked, bus.Parked, false},
		{"no answer", &scim.Error{Err: errors.New("refused")}, 99, retrying, bus.Delayed, false},
		{"too many requests", status(http.StatusTooManyRequests), 99, retrying, bus.Delayed, false},
		{"service unavailable", status(http.StatusServiceUnavailable), 99, retrying, bus.Delayed, false},
		{"wrong credentials", status(http.StatusUnauthorized), 99, retrying, bus.Delayed, false},
		{"bad request", status(http.StatusBadRequest), 0, parked, bus.Parked, false},
		{"forbidden", status(http.StatusForbidden), 0, parked, bus.Parked, false},
		{"conflict", status(http.StatusConflict), 0, retrying, bus.Delayed, true},
		{"conflict for long", status(http.StatusConflict), maxAttempts - 1, parked, bus.Parked, false},
		{"too large", status(http.StatusRequestEntityTooLarge), 0, parked, bus.Parked, false},
		{"not found, says the service", status(http.StatusNotFound), 0, parked, bus.Parked, false},
		{"not found, says a gateway", &scim.Error{Status: http.StatusNotFound, ResponseBody: []byte("<html>")}, 99, retrying, bus.Delayed, false},
		{"not found, says a gateway in JSON", &scim.Error{Status: http.StatusNotFound, ResponseBody: []byte(`{"message":"no Route matched"}`)}, 99, retrying, bus.Delayed, false},
		{"done, says somebody else", &scim.Error{Status: http.StatusOK, Err: scim.ErrUnproven}, 0, retrying, bus.Delayed, true},
		{"done, says somebody else for long", &scim.Error{Status: http.StatusOK, Err: scim.ErrUnproven}, maxAttempts - 1, parked, bus.Parked, false},
		{"not implemented", status(http.StatusNotImplemented), 0, parked, bus.Parked, false},
		{"broken", status(http.StatusInternalServerError), 0, retrying, bus.Delayed, true},
		{"broken for long", status(http.StatusInternalServerError), maxAttempts - 1, parked, bus.Parked, false},
		{"NATS gives no answer", fmt.Errorf("read last of a subject: %w", context.DeadlineExceeded), 99, retrying, bus.Delayed, false},
		{"anything else", errors.New("odd"), 3, retrying, bus.Delayed, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := dispose(c.err, c.attempts)
			verdict, _ := bus.VerdictOf(d.verdict)
			if d.kind != c.kind || verdict != c.verdict || d.counts != c.counts {
				t.Errorf("got %v %v counts=%v, want %v %v counts=%v", d.kind, verdict, d.counts, c.kind, c.verdict, c.counts)
			}
		})
	}
}

func TestRetryAfterOfTheTargetIsKept(t *testing.T) {
	t.Parallel()
	d := dispose(&scim.Error{Status: http.StatusTooManyRequests, RetryAfter: 90 * time.Second}, 0)
	if _, delay := bus.VerdictOf(d.verdict); delay != 90*time.Second {
		t.Errorf("delay %s", delay)
	}
}

func TestLogsHoldNoWordsOfTheTarget(t *testing.T) {
	t.Parallel()
	err := &scim.Error{Method: http.MethodPost, Route: "/Users", Status: http.StatusBadRequest, ScimType: "invalidValue", Detail: "ann@example.com is no address"}
	if got := plain(err); got != "POST /Users: status 400 invalidValue" {
		t.Errorf("got %q", got)
	}
}

func TestLogsSayWhyThereWasNoAnswer(t *testing.T) {
	t.Parallel()
	err := &scim.Error{Method: http.MethodPost, Route: "/Users", Err: context.DeadlineExceeded}
	if got := plain(err); got != "POST /Users: no answer: context deadline exceeded" {
		t.Errorf("got %q", got)
	}
}
