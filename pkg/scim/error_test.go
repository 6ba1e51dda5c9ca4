package scim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

// classes is what an error means, for tables.
func classes(err error) string {
	var out []string
	for _, c := range []struct {
		name string
		is   func(error) bool
	}{
		{"conflict", scim.IsConflict},
		{"notFound", scim.IsNotFound},
		{"unauthorized", scim.IsUnauthorized},
		{"throttled", scim.IsThrottled},
		{"tooLarge", scim.IsTooLarge},
		{"unsupported", scim.IsUnsupported},
		{"noTarget", scim.IsNoTarget},
		{"rejected", scim.IsRejected},
		{"temporary", scim.IsTemporary},
		{"ambiguous", scim.IsAmbiguous},
	} {
		if c.is(err) {
			out = append(out, c.name)
		}
	}
	return strings.Join(out, " ")
}

func TestErrorClassesOfACreate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault    scimtest.Fault
		want     string
		requests int
	}{
		{scimtest.Fault{Status: 400, ScimType: "invalidValue"}, "rejected", 1},
		{scimtest.Fault{Status: 400, ScimType: "noTarget"}, "noTarget rejected", 1},
		{scimtest.Fault{Status: 401}, "unauthorized", 1},
		{scimtest.Fault{Status: 403}, "unauthorized", 1},
		{scimtest.Fault{Status: 403, RetryAfter: time.Minute}, "throttled temporary", 1},
		{scimtest.Fault{Status: 404}, "notFound", 1},
		{scimtest.Fault{Status: 405}, "unsupported", 1},
		{scimtest.Fault{Status: 408}, "temporary ambiguous", 1},
		{scimtest.Fault{Status: 409, ScimType: "uniqueness"}, "conflict", 1},
		{scimtest.Fault{Status: 412}, "conflict", 1},
		{scimtest.Fault{Status: 413}, "tooLarge rejected", 1},
		{scimtest.Fault{Status: 422}, "rejected", 1},
		{scimtest.Fault{Status: 429}, "throttled temporary", 3},
		{scimtest.Fault{Status: 429, RetryAfter: time.Minute}, "throttled temporary", 1},
		{scimtest.Fault{Status: 500}, "temporary ambiguous", 1},
		{scimtest.Fault{Status: 500, AfterCommit: true}, "temporary ambiguous", 1},
		{scimtest.Fault{Status: 501}, "unsupported", 1},
		{scimtest.Fault{Status: 502}, "temporary ambiguous", 1},
		{scimtest.Fault{Status: 503}, "throttled temporary", 3},
		{scimtest.Fault{Status: 503, RetryAfter: time.Hour}, "throttled temporary", 1},
		{scimtest.Fault{Status: 504}, "temporary ambiguous", 1},
		{scimtest.Fault{Reset: scimtest.ResetBeforeCommit}, "temporary ambiguous", 1},
		{scimtest.Fault{Reset: scimtest.ResetAfterCommit}, "temporary ambiguous", 1},
		{scimtest.Fault{Status: 302, Header: map[string]string{"Location": "https://evil.example.com/"}}, "", 1},
		{scimtest.Fault{Status: 418, Body: "<html>proxy</html>"}, "rejected", 1},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%+v", test.fault), func(t *testing.T) {
			t.Parallel()
			server := scimtest.NewServer(t, scimtest.Options{})
			server.SetFault(func(scimtest.Request) *scimtest.Fault { return &test.fault })
			_, err := newClient(t, server.URL()).Create(t.Context(), scim.KindUser, user("ada"))
			if got := classes(err); got != test.want {
				t.Errorf("%v is %q, want %q", err, got, test.want)
			}
			if got := len(server.Requests()); got != test.requests {
				t.Errorf("%d requests, want %d", got, test.requests)
			}
			after := test.fault.AfterCommit || test.fault.Reset == scimtest.ResetAfterCommit
			if done := server.Count(scim.KindUser) == 1; done != after {
				t.Errorf("the server did it: %v, want %v", done, after)
			}
		})
	}
}

// TestRetries says which requests are repeated inside a call.
func TestRetries(t *testing.T) {
	t.Parallel()
	write := []scim.Operation{{Op: "replace", Path: "title", Value: "x"}}
	calls := map[string]func(context.Context, *scim.Client, string) error{
		"GET": func(ctx context.Context, c *scim.Client, id string) error {
			_, err := c.Get(ctx, scim.KindUser, id)
			return err
		},
		"PATCH": func(ctx context.Context, c *scim.Client, id string) error {
			_, err := c.Patch(ctx, scim.KindUser, id, write)
			return err
		},
		"PUT": func(ctx context.Context, c *scim.Client, id string) error {
			_, err := c.Put(ctx, scim.KindUser, id, map[string]any{"userName": "ada", "active": true})
			return err
		},
		"DELETE": func(ctx context.Context, c *scim.Client, id string) error { return c.Delete(ctx, scim.KindUser, id) },
	}
	faults := map[string]scimtest.Fault{
		"429": {Status: 429}, "502": {Status: 502}, "503 after a second": {Status: 503, RetryAfter: time.Second}, "504": {Status: 504},
		"reset before": {Reset: scimtest.ResetBeforeCommit}, "reset after": {Reset: scimtest.ResetAfterCommit},
	}
	for method, call := range calls {
		for name, fault := range faults {
			t.Run(method+"/"+name, func(t *testing.T) {
				t.Parallel()
				server := scimtest.NewServer(t, scimtest.Options{})
				id := server.Seed(scim.KindUser, user("ada"))
				server.SetFault(func(r scimtest.Request) *scimtest.Fault {
					if r.Seq == 1 {
						return &fault
					}
					return nil
				})
				if err := call(t.Context(), newClient(t, server.URL()), id); err != nil {
					t.Error(err)
				}
				if n := len(server.Requests()); n != 2 {
					t.Errorf("%d requests, want 2", n)
				}
			})
		}
	}
}

func TestPauseHoldsTheWholeClient(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		fault    scimtest.Fault
		retry403 bool
		want     time.Duration
	}{
		{"429", scimtest.Fault{Status: 429, RetryAfter: 30 * time.Second}, false, 30 * time.Second},
		{"403", scimtest.Fault{Status: 403, RetryAfter: 30 * time.Second}, false, 30 * time.Second},
		{"403 that means 429", scimtest.Fault{Status: 403, RetryAfter: 30 * time.Second}, true, 30 * time.Second},
		{"403 that means 429 and gives no time", scimtest.Fault{Status: 403}, true, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := scimtest.NewServer(t, scimtest.Options{})
			client := newClient(t, server.URL(), func(c *scim.Config) { c.Profile = scim.Generic(); c.Profile.Retry403 = test.retry403 })
			server.SetFault(func(scimtest.Request) *scimtest.Fault { return &test.fault })
			_, err := client.Get(t.Context(), scim.KindUser, "x")
			if got := scim.RetryAfter(err); got != test.want || !scim.IsThrottled(err) {
				t.Errorf("%v, wait %v, want %v", err, got, test.want)
			}
			_, err = client.Create(t.Context(), scim.KindUser, user("ada"))
			if d := scim.RetryAfter(err); !errors.Is(err, scim.ErrWait) || d <= test.want-5*time.Second || d > test.want || scim.IsAmbiguous(err) {
				t.Errorf("the next call: %v, wait %v", err, d)
			}
			if n := len(server.Requests()); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

func TestRetryAfterAsDate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, value string
		want        time.Duration
	}{
		{"date", "Mon, 02 Jan 2006 15:05:05 GMT", time.Minute},
		{"date in the past", "Mon, 02 Jan 2006 15:00:00 GMT", 0},
		{"rubbish", "soon", 0},
		{"negative", "-5", 0},
		{"absurd", "1e300", time.Hour},
		{"not a number", "NaN", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url := handler(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", "Mon, 02 Jan 2006 15:04:05 GMT")
				w.Header().Set("Retry-After", test.value)
				w.WriteHeader(http.StatusForbidden)
			})
			_, err := newClient(t, url).Capabilities(t.Context())
			if got := scim.RetryAfter(err); got != test.want {
				t.Errorf("RetryAfter = %v, want %v", got, test.want)
			}
		})
	}
}

func TestCreateWithoutAnID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		quirks scimtest.Quirks
		is     error
	}{
		{"200 and an empty object", scimtest.Quirks{EmptyCreates: true}, scim.ErrNoID},
		{"202", scimtest.Quirks{AcceptedCreates: true}, scim.ErrAccepted},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := scimtest.NewServer(t, scimtest.Options{Quirks: test.quirks})
			_, err := newClient(t, server.URL()).Create(t.Context(), scim.KindUser, user("ada"))
			if !errors.Is(err, test.is) || !scim.IsAmbiguous(err) {
				t.Errorf("error %v, ambiguous %v", err, scim.IsAmbiguous(err))
			}
		})
	}
}

func TestNothingSentIsNotAmbiguous(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	var tries atomic.Int64
	client := newClient(t, "http://"+address, func(c *scim.Config) {
		c.Observe = func(context.Context, scim.Call) { tries.Add(1) }
	})
	_, err = client.Create(t.Context(), scim.KindUser, user("ada"))
	if got := classes(err); got != "temporary" || tries.Load() != 3 {
		t.Errorf("%v is %q after %d tries, want temporary after 3", err, got, tries.Load())
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	server := scimtest.NewServer(t, scimtest.Options{Latency: time.Minute})
	client := newClient(t, server.URL(), func(c *scim.Config) { c.Timeout = 50 * time.Millisecond })
	_, err := client.Create(t.Context(), scim.KindUser, user("ada"))
	if !scim.IsAmbiguous(err) || !strings.Contains(err.Error(), "in time") {
		t.Errorf("error %v, want an ambiguous time-out", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = client.Create(ctx, scim.KindUser, user("ada")); !errors.Is(err, context.Canceled) || scim.IsAmbiguous(err) || scim.IsTemporary(err) {
		t.Errorf("error %v, want context canceled", err)
	}
}

func TestErrorKeepsNoSecrets(t *testing.T) {
	t.Parallel()
	server := scimtest.NewServer(t, scimtest.Options{Token: "tok-en"})
	server.SetFault(func(r scimtest.Request) *scimtest.Fault {
		return &scimtest.Fault{Status: 400, Body: `{"detail":"a\nb\u001b[31m` + strings.Repeat("x", 5000) + `","echo":` + r.Body + `}`}
	})
	client := newClient(t, server.URL(), func(c *scim.Config) { c.Auth = scim.Bearer{Token: scim.Static("tok-en")} })
	_, first := client.Create(t.Context(), scim.KindUser, map[string]any{"userName": "ada", "password": `hun"ter2`})
	_, second := client.Patch(t.Context(), scim.KindUser, "1", []scim.Operation{{Op: "replace", Path: "password", Value: "hunter2"}})
	for _, err := range []error{first, second} {
		e, ok := errors.AsType[*scim.Error](err)
		if !ok {
			t.Fatal(err)
		}
		for _, part := range [][]byte{e.RequestBody, e.ResponseBody, []byte(e.Error())} {
			if bytes.Contains(part, []byte("ter2")) || bytes.Contains(part, []byte("tok-en")) || len(part) > 4096 {
				t.Errorf("kept %.200q", part)
			}
		}
		if strings.ContainsAny(e.Error(), "\n\x1b") {
			t.Errorf("control characters in %q", e.Error())
		}
	}
}

func TestHugeAnswers(t *testing.T) {
	t.Parallel()
	url := handler(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"id":"1","x":"`))
		for range 17 {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
		}
		_, _ = w.Write([]byte(`"}`))
	})
	client := newClient(t, url)
	if _, err := client.Get(t.Context(), scim.KindUser, "1"); !errors.Is(err, scim.ErrTooLarge) {
		t.Errorf("get: %v", err)
	}
	r, err := client.Patch(t.Context(), scim.KindUser, "1", []scim.Operation{scim.ClearOperation("title")})
	if r != nil || err != nil {
		t.Errorf("patch: %v, %v; the status says that it was done", r, err)
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	err := &scim.Error{Method: "PATCH", Route: "/Users/{id}", Status: 409, ScimType: "uniqueness", Detail: "exists"}
	if diff := cmp.Diff("PATCH /Users/{id}: 409 Conflict: uniqueness: exists", err.Error()); diff != "" {
		t.Error(diff)
	}
}
