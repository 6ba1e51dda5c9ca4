package console

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "correct-horse-battery-staple"
	user   = directoryv1.Kind_KIND_USER
)

// start serves the console of a bench and returns its address.
func start(t *testing.T, b *workertest.Bench) string {
	t.Helper()
	log := newLines(t)
	b.Config.Console.Listen = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, b.Config, b.Bus, slog.New(slog.NewJSONHandler(log, nil))) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the console ended: %v", err)
		}
	})
	select {
	case line := <-log.said:
		return "http://" + line.Address
	case err := <-ended:
		ended <- nil
		t.Fatalf("the console ended: %v", err)
		return ""
	}
}

// lines hands on what the console says when it can be asked.
type lines struct {
	tb   testing.TB
	said chan line
}

type line struct {
	Message string `json:"msg"`
	Address string `json:"address"`
}

func newLines(tb testing.TB) *lines { tb.Helper(); return &lines{tb, make(chan line, 1)} }

func (l *lines) Write(p []byte) (int, error) {
	var one line
	if err := json.Unmarshal(p, &one); err == nil && one.Address != "" {
		l.said <- one
	}
	return l.tb.Output().Write(p)
}

// withToken makes the console of a bench ask for a token, and returns its file.
func withToken(t *testing.T, b *workertest.Bench, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, token)
	var err error
	if b.Config.Console.Auth.Token, err = connection.NewSecret("${file:" + file + "}"); err != nil {
		t.Fatal(err)
	}
	return file
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// answer is what the console said.
type answer struct {
	code   int
	header http.Header
	body   string
}

// get asks the console; change may make the request another one.
func get(t *testing.T, url string, change ...func(*http.Request)) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(r)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func basic(password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth("anybody", password) }
}

func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

// company gives a bench one user of each state, and one that is parked for a reason
// that somebody hostile wrote.
func company(b *workertest.Bench) {
	b.SetLink(user, 1, &provisioningv1.Link{ResourceId: "r1", State: provisioningv1.LinkState_LINK_STATE_ACTIVE})
	b.SetLink(user, 2, &provisioningv1.Link{ResourceId: "r2", State: provisioningv1.LinkState_LINK_STATE_DISABLED})
	b.SetLink(user, 3, &provisioningv1.Link{
		State: provisioningv1.LinkState_LINK_STATE_NONE,
		Problem: &provisioningv1.Problem{
			Kind: provisioningv1.ProblemKind_PROBLEM_KIND_PARKED, Message: `400 Bad Request: <script>alert(1)</script>`,
		},
	})
}

func TestPageAndJSONSayWhatStatusSays(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	company(b)
	pass := status.Pass{At: time.Date(2026, 3, 2, 8, 15, 0, 0, time.UTC), Mode: "syncrepl", Users: 3, Groups: 1}
	if err := pass.Keep(t.Context(), b.Bus, "corp"); err != nil {
		t.Fatal(err)
	}
	withToken(t, b, secret)
	url := start(t, b)

	want, err := status.Read(t.Context(), b.Config, b.Bus)
	if err != nil {
		t.Fatal(err)
	}
	said := get(t, url+"/api/v1/status", bearer(secret))
	var got status.Status
	if err := json.Unmarshal([]byte(said.body), &got); err != nil {
		t.Fatalf("%d %s: %v", said.code, said.body, err)
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	if at, err := http.ParseTime(said.header.Get("Last-Modified")); err != nil || time.Since(at) > time.Minute {
		t.Errorf("Last-Modified %q", said.header.Get("Last-Modified"))
	}

	page := get(t, url+"/", bearer(secret))
	for _, want := range []string{
		"Something waits for a person.",
		"Source corp: nobody watches it.",
		"Connection wiki: 1 users cannot be applied; see `rollcall parked`.",
		"2026-03-02 08:15:00 UTC (syncrepl)",
		"400 Bad Request: &lt;script&gt;alert(1)&lt;/script&gt;",
	} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page does not say %q:\n%s", want, page.body)
		}
	}
	if strings.Contains(page.body, "<script") {
		t.Error("the page holds a script")
	}
	if got := page.header.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'; style-src 'self';") {
		t.Errorf("Content-Security-Policy %q", got)
	}
	if style := get(t, url+"/console.css", bearer(secret)); style.code != http.StatusOK || !strings.HasPrefix(style.header.Get("Content-Type"), "text/css") {
		t.Errorf("the style is %d %s", style.code, style.header.Get("Content-Type"))
	}
	if other := get(t, url+"/status.html", bearer(secret)); other.code != http.StatusNotFound {
		t.Errorf("the template is served: %d", other.code)
	}
}

func TestWhoIsLetIn(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	file := withToken(t, b, secret+"\n")
	url := start(t, b)
	for _, test := range []struct {
		name string
		with func(*http.Request)
		want int
	}{
		{"nothing", host(""), http.StatusUnauthorized},
		{"the bearer token", bearer(secret), http.StatusOK},
		{"the token as a password", basic(secret), http.StatusOK},
		{"another token", bearer(secret + "s"), http.StatusUnauthorized},
		{"another password", basic("letmein"), http.StatusUnauthorized},
		{"an empty password", basic(""), http.StatusUnauthorized},
		{"an empty token", bearer(""), http.StatusUnauthorized},
		{"the token under another scheme", func(r *http.Request) { r.Header.Set("Authorization", "Digest "+secret) }, http.StatusUnauthorized},
	} {
		for _, path := range []string{"/", "/api/v1/status", "/console.css"} {
			if got := get(t, url+path, test.with); got.code != test.want {
				t.Errorf("%s with %s: %d, want %d", path, test.name, got.code, test.want)
			}
		}
	}
	if got := get(t, url+"/").header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Basic ") {
		t.Errorf("a browser is not told to ask for the token: %q", got)
	}

	rotated := strings.Repeat("another-token-", 2)
	write(t, file, rotated)
	if got := get(t, url+"/", bearer(rotated)).code; got != http.StatusOK {
		t.Errorf("with the new token: %d", got)
	}
	if got := get(t, url+"/", bearer(secret)).code; got != http.StatusUnauthorized {
		t.Errorf("with the old token: %d", got)
	}
	write(t, file, "x") // that anybody can guess
	if got := get(t, url+"/", bearer("x")).code; got != http.StatusUnauthorized {
		t.Errorf("with a short token: %d", got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := get(t, url+"/", bearer(rotated)).code; got != http.StatusUnauthorized {
		t.Errorf("without a file: %d", got)
	}
}

// A page of somebody else's can have its own name lead to 127.0.0.1 and read what
// answers there.
func TestWithoutTokenOnlyThisMachineMayAsk(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	company(b)
	url := start(t, b)
	for name, want := range map[string]int{
		"localhost": http.StatusOK, "LOCALHOST:8080": http.StatusOK, "127.0.0.1:1": http.StatusOK, "[::1]:8080": http.StatusOK, "[::1]": http.StatusOK,
		"rebound.example.com": http.StatusForbidden, "rebound.example.com:8080": http.StatusForbidden, "10.0.0.1": http.StatusForbidden,
		"localhost.example.com": http.StatusForbidden, "127.0.0.1.example.com": http.StatusForbidden,
	} {
		if got := get(t, url+"/api/v1/status", host(name)); got.code != want {
			t.Errorf("as %s: %d, want %d", name, got.code, want)
		}
	}
	for _, path := range []string{"/", "/api/v1/status"} {
		if got := get(t, url+path); strings.Contains(got.body, "Bad Request") || !strings.Contains(got.body, "shown only where console.auth.token is set") {
			t.Errorf("%s says what the target said: %s", path, got.body)
		}
	}
}

func TestRunRefusesWhatCannotBeRight(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	taken := strings.TrimPrefix(start(t, b), "http://")
	for _, test := range []struct{ name, listen, token, want string }{
		{"no address", "", secret, "console.listen: is empty, and there is nothing to serve; write an address"},
		{"a taken address", taken, secret, "address already in use; write a free address"},
		{"a short token", "127.0.0.1:0", "secret", "console.auth.token: has 6 characters, and anybody can guess it; write at least 16"},
		{"an empty token", "127.0.0.1:0", "", "console.auth.token: the secret file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := *b.Config
			other := &workertest.Bench{Config: &cfg}
			cfg.Console.Listen = test.listen
			withToken(t, other, test.token)
			err := Run(t.Context(), &cfg, b.Bus, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// NATS that is away is said on the page and in JSON, and no one waits for ever.
func TestNothingCanBeReadIsSaid(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	url := start(t, b)
	b.Bus.Close()
	page := get(t, url+"/")
	if page.code != http.StatusServiceUnavailable || !strings.Contains(page.body, "Nothing can be read.") || !strings.Contains(page.body, "read the status of source corp") {
		t.Errorf("%d %s", page.code, page.body)
	}
	said := get(t, url+"/api/v1/status")
	if said.code != http.StatusServiceUnavailable || !strings.Contains(said.body, `"error": "read the status of source corp`) {
		t.Errorf("%d %s", said.code, said.body)
	}
}
