package scim_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

func newClient(t *testing.T, url string, change ...func(*scim.Config)) *scim.Client {
	t.Helper()
	cfg := scim.Config{URL: url}
	for _, c := range change {
		c(&cfg)
	}
	client, err := scim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// handler starts a target that misbehaves as the test wants.
func handler(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func user(name string) map[string]any { return map[string]any{"userName": name} }

func TestNewReportsAllFaults(t *testing.T) {
	t.Parallel()
	_, err := scim.New(scim.Config{URL: "ftp://x", Concurrency: -1, Auth: scim.Bearer{}})
	for _, want := range []string{"target.url", "negative", "auth.bearer"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	for _, url := range []string{"", "https://", "https://u:p@h/x", "https://h/x?y", "::"} {
		if _, err := scim.New(scim.Config{URL: url}); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
}

func TestLifeOfAUser(t *testing.T) {
	t.Parallel()
	ctx, server := t.Context(), scimtest.NewServer(t, scimtest.Options{Token: "secret"})
	client := newClient(t, server.URL()+"/", func(c *scim.Config) {
		c.Auth = scim.Bearer{Token: scim.Static("secret")}
		c.UserAgent = "rollcall/test"
	})
	body, err := scim.Values{"userName": "ada", "externalId": "e1", "title": "Boss", `emails[type eq "work"].value`: "ada@x"}.Body(scim.KindUser)
	if err != nil {
		t.Fatal(err)
	}
	created, err := client.Create(ctx, scim.KindUser, body)
	if err != nil {
		t.Fatal(err)
	}
	if created.ID == "" || created.ExternalID != "e1" || created.Created.IsZero() {
		t.Errorf("created %+v", created)
	}
	if _, err = client.Create(ctx, scim.KindUser, user("ADA")); !scim.IsConflict(err) || scim.IsAmbiguous(err) {
		t.Errorf("second create: %v, want a conflict", err)
	}
	patched, err := client.Patch(ctx, scim.KindUser, created.ID, []scim.Operation{
		scim.SetOperation(scim.Unit{Path: "active", Value: false}), scim.ClearOperation("title"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if active, _ := patched.Value("active"); active != false {
		t.Errorf("active is %v after the patch", active)
	}
	got, err := client.Get(ctx, scim.KindUser, created.ID, scim.Only("title", "userName"))
	if err != nil {
		t.Fatal(err)
	}
	if _, has := got.Value("title"); has || got.Attributes["active"] != nil {
		t.Errorf("title was not cleared or attributes was not sent: %v", got.Attributes)
	}
	replaced, err := got.Replacement(scim.KindUser, []scim.Unit{{Path: "userName", Value: "ann"}, {Path: "active", Value: true}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = client.Put(ctx, scim.KindUser, created.ID, replaced); err != nil {
		t.Fatal(err)
	}
	if _, ok := server.User("ann"); !ok {
		t.Error("PUT did not rename")
	}
	for range 2 {
		if err := client.Delete(ctx, scim.KindUser, created.ID); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if _, err = client.Get(ctx, scim.KindUser, created.ID); !scim.IsNotFound(err) {
		t.Errorf("get of a deleted user: %v", err)
	}
	for _, r := range server.Requests() {
		if r.UserAgent != "rollcall/test" || !strings.HasPrefix(r.Accept, scim.ContentType) || r.Body != "" && r.ContentType != scim.ContentType {
			t.Errorf("headers of request %+v", r)
		}
	}
}

func TestGroupMembers(t *testing.T) {
	t.Parallel()
	ctx, server := t.Context(), scimtest.NewServer(t, scimtest.Options{})
	client := newClient(t, server.URL())
	a, b := server.Seed(scim.KindUser, user("a")), server.Seed(scim.KindUser, user("b"))
	group, err := client.Create(ctx, scim.KindGroup, map[string]any{"displayName": "staff", "members": []any{map[string]any{"value": a}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Patch(ctx, scim.KindGroup, group.ID, []scim.Operation{scim.AddMembers([]string{b}), scim.RemoveMember(a)}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b"}, server.Members("staff")); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	full, err := client.Get(ctx, scim.KindGroup, group.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{b}, full.MemberIDs()); diff != "" {
		t.Errorf("member ids (-want +got):\n%s", diff)
	}
}

// TestPatchKeepsMembersOfTargetsThatProjectFirst guards against a way of real
// targets: they apply the PATCH to the group without what excludedAttributes names.
func TestPatchKeepsMembersOfTargetsThatProjectFirst(t *testing.T) {
	t.Parallel()
	server := scimtest.NewServer(t, scimtest.Options{Quirks: scimtest.Quirks{PatchForgetsExcluded: true}})
	client := newClient(t, server.URL())
	a, b := server.Seed(scim.KindUser, user("a")), server.Seed(scim.KindUser, user("b"))
	group := server.Seed(scim.KindGroup, map[string]any{"displayName": "staff", "members": []any{map[string]any{"value": a}}})
	if _, err := client.Patch(t.Context(), scim.KindGroup, group, []scim.Operation{scim.AddMembers([]string{b})}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, server.Members("staff")); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}

func TestPatchRefusesToSend(t *testing.T) {
	t.Parallel()
	server := scimtest.NewServer(t, scimtest.Options{})
	client := newClient(t, server.URL())
	tests := map[string][]scim.Operation{
		"no operations":      {},
		"all members":        {scim.ClearOperation("members")},
		"all members, URN":   {scim.ClearOperation(scim.SchemaGroup + ":Members")},
		"members by type":    {{Op: "remove", Path: `members[type eq "User"]`}},
		"remove with value":  {{Op: "remove", Path: "title", Value: "x"}},
		"null":               {{Op: "replace", Path: "title"}},
		"empty string":       {{Op: "add", Path: "title", Value: ""}},
		"empty array":        {{Op: "replace", Path: "members", Value: []any{}}},
		"nested null":        {{Op: "replace", Path: "emails", Value: []any{map[string]any{"value": nil}}}},
		"no path":            {{Op: "replace", Value: map[string]any{"title": "x"}}},
		"read-only":          {{Op: "replace", Path: "id", Value: "x"}},
		"other operation":    {{Op: "Replace", Path: "title", Value: "x"}},
		"too many at once":   {scim.AddMembers(make101())},
		"too many, together": {scim.AddMembers(make101()[1:]), scim.RemoveMember("x")},
	}
	for name, ops := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := client.Patch(t.Context(), scim.KindGroup, "1", ops); !errors.Is(err, scim.ErrRefused) {
				t.Errorf("error %v, want %v", err, scim.ErrRefused)
			}
		})
	}
	t.Cleanup(func() {
		if n := len(server.Requests()); n != 0 {
			t.Errorf("%d requests were sent", n)
		}
	})
}

func make101() []string {
	ids := make([]string, 101)
	for i := range ids {
		ids[i] = fmt.Sprint("id", i)
	}
	return ids
}

func TestIDsAreEscapedAndChecked(t *testing.T) {
	t.Parallel()
	var seen []string
	var mu sync.Mutex
	url := handler(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Method+" "+r.RequestURI)
		w.WriteHeader(http.StatusNoContent)
	})
	client := newClient(t, url+"/base")
	for _, id := range []string{"a/../b?x#y", "ü é", "%2e%2e"} {
		if err := client.Delete(t.Context(), scim.KindUser, id); err != nil {
			t.Error(err)
		}
	}
	for _, id := range []string{"", ".", "..", "a\nb", strings.Repeat("x", 2000)} {
		if err := client.Delete(t.Context(), scim.KindUser, id); !errors.Is(err, scim.ErrRefused) {
			t.Errorf("id %.20q: %v", id, err)
		}
		if _, err := client.Put(t.Context(), scim.KindUser, id, user("x")); !errors.Is(err, scim.ErrRefused) {
			t.Errorf("put to id %.20q: %v", id, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	want := []string{"DELETE /base/Users/a%2F..%2Fb%3Fx%23y", "DELETE /base/Users/%C3%BC%20%C3%A9", "DELETE /base/Users/%252e%252e"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	server := scimtest.NewServer(t, scimtest.Options{})
	got, err := newClient(t, server.URL()).Capabilities(t.Context())
	want := scim.ServiceProviderConfig{Patch: true, Filter: true, FilterMax: 1000, ChangePassword: true}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestAuth(t *testing.T) {
	t.Parallel()
	server := scimtest.NewServer(t, scimtest.Options{Token: "tok-en", Username: "u", Password: "pass:wörd"})
	broken := errors.New("no such file")
	tests := []struct {
		name string
		auth scim.Auth
		ok   bool
	}{
		{"bearer", scim.Bearer{Token: scim.Static("tok-en\n")}, true},
		{"wrong bearer", scim.Bearer{Token: scim.Static("tok")}, false},
		{"basic", scim.Basic{Username: "u", Password: scim.Static("pass:wörd")}, true},
		{"wrong basic", scim.Basic{Username: "u", Password: scim.Static("x")}, false},
		{"none", nil, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, server.URL(), func(c *scim.Config) { c.Auth = test.auth })
			_, err := client.Capabilities(t.Context())
			if (err == nil) != test.ok || !test.ok && !scim.IsUnauthorized(err) {
				t.Errorf("error %v, want ok=%v", err, test.ok)
			}
		})
	}
	client := newClient(t, server.URL(), func(c *scim.Config) {
		c.Auth = scim.Bearer{Token: func() (string, error) { return "", broken }}
	})
	if _, err := client.Create(t.Context(), scim.KindUser, user("x")); !errors.Is(err, broken) || scim.IsAmbiguous(err) {
		t.Errorf("an unreadable token: %v", err)
	}
}

func TestConcurrencyAndObserve(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	inFlight, most := 0, 0
	gate := make(chan struct{})
	url := handler(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		inFlight++
		most = max(most, inFlight)
		mu.Unlock()
		<-gate
		mu.Lock()
		inFlight--
		mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	})
	var calls []scim.Call
	client := newClient(t, url, func(c *scim.Config) {
		c.Concurrency = 3
		c.Observe = func(_ context.Context, call scim.Call) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, call)
		}
	})
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if err := client.Delete(t.Context(), scim.KindUser, fmt.Sprint("u", i)); err != nil {
				t.Error(err)
			}
		})
	}
	for range 12 {
		gate <- struct{}{}
	}
	wg.Wait()
	if most > 3 {
		t.Errorf("%d calls in flight, 3 are allowed", most)
	}
	if len(calls) != 12 || slices.ContainsFunc(calls, func(c scim.Call) bool {
		return c.Method != http.MethodDelete || c.Route != "/Users/{id}" || c.Status != http.StatusNoContent || c.Err != nil
	}) {
		t.Errorf("observed %+v", calls)
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	server := scimtest.NewServer(t, scimtest.Options{})
	client := newClient(t, server.URL(), func(c *scim.Config) { c.RequestsPerSecond, c.Burst = 50, 1 })
	start := time.Now()
	for range 6 {
		if err := client.Delete(t.Context(), scim.KindUser, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took < 90*time.Millisecond {
		t.Errorf("6 calls at 50 a second took %v", took)
	}
}

// A patient client outwaits what is over in a while, and nothing else.
func TestPatientClientWaits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault scimtest.Fault
		fails bool
	}{
		"429 with a long Retry-After":  {fault: scimtest.Fault{Status: http.StatusTooManyRequests, RetryAfter: 3 * time.Second}},
		"503 without a word":           {fault: scimtest.Fault{Status: http.StatusServiceUnavailable}, fails: true},
		"503 with a long Retry-After":  {fault: scimtest.Fault{Status: http.StatusServiceUnavailable, RetryAfter: 3 * time.Second}},
		"an absence of half a day":     {fault: scimtest.Fault{Status: http.StatusServiceUnavailable, RetryAfter: 12 * time.Hour}, fails: true},
		"credentials that are refused": {fault: scimtest.Fault{Status: http.StatusUnauthorized}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := scimtest.NewServer(t, scimtest.Options{})
			id := server.Seed(scim.KindUser, map[string]any{"userName": "ada"})
			faults := 3 // as many as a call is tried for, where it says nothing
			if !c.fails {
				faults = 1
			}
			server.SetFault(func(scimtest.Request) *scimtest.Fault {
				if faults--; faults >= 0 {
					return &c.fault
				}
				return nil
			})
			client := newClient(t, server.URL()).Patient()
			if _, err := client.Get(t.Context(), scim.KindUser, id); (err != nil) != c.fails {
				t.Errorf("%v, want an error: %t", err, c.fails)
			}
		})
	}
}

func TestPatientClientObeysItsCaller(t *testing.T) {
	t.Parallel()
	server := scimtest.NewServer(t, scimtest.Options{})
	client := newClient(t, server.URL(), func(c *scim.Config) {
		c.Admit = func(context.Context) error { return scim.ErrWait }
	}).Patient()
	if _, err := client.Get(t.Context(), scim.KindUser, "1"); !errors.Is(err, scim.ErrWait) || len(server.Requests()) > 0 {
		t.Errorf("%v, %d requests; the caller said no", err, len(server.Requests()))
	}
}
