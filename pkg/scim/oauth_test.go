package scim_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

// issuer is a token endpoint. Its tokens are token-1, token-2 and so on.
type issuer struct {
	*httptest.Server

	mu      sync.Mutex
	issued  int
	lives   int // seconds; 0: it does not say
	answer  func(w http.ResponseWriter) bool
	request *http.Request
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{lives: 3600}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		_ = r.ParseForm()
		i.request = r
		w.Header().Set("Content-Type", "application/json")
		if i.answer != nil && i.answer(w) {
			return
		}
		i.issued++
		body := map[string]any{"access_token": "token-" + strconv.Itoa(i.issued), "token_type": "Bearer"}
		if i.lives > 0 {
			body["expires_in"] = i.lives
		}
		_ = json.NewEncoder(w).Encode(body)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.issued
}

func (i *issuer) credentials() scim.OAuth2 {
	return scim.OAuth2{TokenURL: i.URL, ClientID: "rollcall", ClientSecret: scim.Static("s3cret"), Scopes: []string{"scim.read", "scim.write"}, Audience: "wiki"}
}

// guarded is a target that takes one token.
func guarded(t *testing.T, token func() string) (url string, calls func() []string) {
	t.Helper()
	var mu sync.Mutex
	var seen []string
	url = handler(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Header.Get("Authorization"))
		mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer "+token() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", scim.ContentType)
		_, _ = w.Write([]byte(`{"id":"1","userName":"ada"}`))
	})
	return url, func() []string { mu.Lock(); defer mu.Unlock(); return append([]string(nil), seen...) }
}

func clientWith(t *testing.T, cfg scim.Config) *scim.Client {
	t.Helper()
	client, err := scim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestTokenIsAskedForOnce(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	url, calls := guarded(t, func() string { return "token-1" })
	client := clientWith(t, scim.Config{URL: url, Auth: scim.NewClientCredentials(i.credentials())})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := client.Get(t.Context(), scim.KindUser, "1"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if i.count() != 1 || len(calls()) != 20 {
		t.Errorf("%d tokens for %d calls", i.count(), len(calls()))
	}
	id, secret, _ := i.request.BasicAuth()
	form := i.request.Form
	if id != "rollcall" || secret != "s3cret" || form.Get("grant_type") != "client_credentials" || form.Get("scope") != "scim.read scim.write" || form.Get("audience") != "wiki" {
		t.Errorf("asked as %s with %v", id, form)
	}
}

func TestClientIsNamedInTheBody(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	url, _ := guarded(t, func() string { return "token-1" })
	cfg := i.credentials()
	cfg.InBody = true
	if _, err := clientWith(t, scim.Config{URL: url, Auth: scim.NewClientCredentials(cfg)}).Get(t.Context(), scim.KindUser, "1"); err != nil {
		t.Fatal(err)
	}
	if _, _, has := i.request.BasicAuth(); has || i.request.Form.Get("client_secret") != "s3cret" {
		t.Errorf("form %v", i.request.Form)
	}
}

func TestTokenThatEndsIsReplacedInTime(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.lives = 1
	url, _ := guarded(t, func() string { return "token-" + strconv.Itoa(i.count()) })
	client := clientWith(t, scim.Config{URL: url, Auth: scim.NewClientCredentials(i.credentials())})
	for i.count() < 3 { // each lives for half a second; no call is refused meanwhile
		if _, err := client.Get(t.Context(), scim.KindUser, "1"); err != nil {
			t.Fatal(err)
		}
	}
}

// A token that the target refuses is replaced once, and nobody hears of it. What is
// refused with a new token is refused.
func TestRefusedTokenIsReplacedOnce(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	var mu sync.Mutex
	var observed []scim.Call
	valid := "token-1"
	url, calls := guarded(t, func() string { mu.Lock(); defer mu.Unlock(); return valid })
	auth := scim.NewClientCredentials(i.credentials())
	client := clientWith(t, scim.Config{URL: url, Auth: auth, Observe: func(_ context.Context, c scim.Call) {
		mu.Lock()
		defer mu.Unlock()
		observed = append(observed, c)
	}})
	get := func() error {
		_, err := client.Get(t.Context(), scim.KindUser, "1")
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	auth.Age(time.Minute)
	mu.Lock()
	valid = "token-2"
	mu.Unlock()
	if err := get(); err != nil {
		t.Fatalf("after the token was revoked: %v", err)
	}
	mu.Lock()
	for _, c := range observed {
		if c.Err != nil {
			t.Errorf("observed %v", c.Err)
		}
	}
	valid = "another"
	mu.Unlock()
	if err := get(); scim.Classify(err) != scim.Unauthorized {
		t.Errorf("with a token that was made a moment ago: %v", err)
	}
	if i.count() != 2 || len(calls()) != 4 {
		t.Errorf("%d tokens, calls %v", i.count(), calls())
	}
}

func TestRefusedClient(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		body   string
		want   scim.Class
	}{
		"invalid client":      {http.StatusUnauthorized, `{"error":"invalid_client","error_description":"s3cret is wrong"}`, scim.Unauthorized},
		"bad request":         {http.StatusBadRequest, `{"error":"invalid_scope"}`, scim.Unauthorized},
		"endpoint is down":    {http.StatusServiceUnavailable, "s3cret", scim.Temporary},
		"endpoint is flooded": {http.StatusTooManyRequests, "", scim.Temporary},
		"no token":            {http.StatusOK, `{"access":"s3cret"}`, scim.Temporary},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t)
			i.answer = func(w http.ResponseWriter) bool {
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.body))
				return true
			}
			target := scimtest.NewServer(t, scimtest.Options{})
			client := clientWith(t, scim.Config{URL: target.URL(), Auth: scim.NewClientCredentials(i.credentials())})
			_, err := client.Get(t.Context(), scim.KindUser, "1")
			if got := scim.Classify(err); got != test.want {
				t.Errorf("%s, want %s: %v", got, test.want, err)
			}
			if err == nil || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error: %v", err)
			}
			if n := len(target.Requests()); n != 0 {
				t.Errorf("%d calls without a token", n)
			}
		})
	}
}

// A new token is no reason to try more often.
func TestRenewalDoesNotLiftTheLimitOfTries(t *testing.T) {
	t.Parallel()
	auth := scim.NewClientCredentials(newIssuer(t).credentials())
	var calls atomic.Int32
	url := handler(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 3 {
			auth.Age(time.Minute)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	if _, err := clientWith(t, scim.Config{URL: url, Auth: auth}).Get(t.Context(), scim.KindUser, "1"); err == nil || calls.Load() != 4 {
		t.Errorf("%d calls, want 3 and one with the new token: %v", calls.Load(), err)
	}
}
