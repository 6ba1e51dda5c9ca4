package cli

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

// site is a configuration file whose directory does not answer.
type site struct{ dir, file string }

// newSite writes a configuration with these parts replaced.
func newSite(t *testing.T, changes ...string) site {
	t.Helper()
	s := site{dir: t.TempDir()}
	text := fmt.Sprintf(`
nats: {data_dir: %q}
sources:
  corp:
    ldap: {urls: ["ldap://127.0.0.1:1"], bind_dn: "cn=reader", bind_password: "${file:%s/password}"}
    users: {base_dns: ["ou=people,dc=example,dc=com"]}
connections:
  wiki:
    source: corp
    target: {url: "http://127.0.0.1:1/scim/v2", auth: {bearer: {token: "${file:%[2]s/token}"}}}
console: {listen: ""}
telemetry: {metrics_listen: ""}
`, filepath.Join(s.dir, "data"), s.dir)
	text = strings.NewReplacer(changes...).Replace(text)
	s.file = filepath.Join(s.dir, "rollcall.yaml")
	for name, content := range map[string]string{"rollcall.yaml": text, "password": "p", "token": "t"} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// rollcall runs a command of this site, and returns its output, both parts, and its
// exit code.
func (s site) rollcall(args ...string) (string, int) {
	var out bytes.Buffer
	code := Main(append(args, "--config", s.file), &out, &out)
	return out.String(), code
}

// The same fault ends every command with the same exit code.
func TestExitCodesAreThoseOfTheFault(t *testing.T) {
	t.Parallel()
	misspelt := newSite(t, "users: {base_dns", "usres: {base_dns")
	unreadable := newSite(t)
	if err := os.Remove(filepath.Join(unreadable.dir, "token")); err != nil {
		t.Fatal(err)
	}
	missing := newSite(t)
	missing.file += ".not"
	for _, test := range []struct {
		name string
		site site
		want int
		says string
		but  string // a command to which the fault is none
	}{
		{"a fault in the file", misspelt, exitConfiguration, "usres", ""},
		{"a secret that is missing", unreadable, exitConfiguration, "connections.wiki.target.auth.bearer.token", "config validate"},
		{"a file that is missing", missing, exitConfiguration, "name it with --config", ""},
	} {
		for _, command := range []string{"check", "plan", "run", "config validate"} {
			if command == test.but {
				continue
			}
			out, code := test.site.rollcall(strings.Fields(command)...)
			if code != test.want || !strings.Contains(out, test.says) {
				t.Errorf("%s: rollcall %s exits with %d, want %d and %q; it says\n%s", test.name, command, code, test.want, test.says, out)
			}
		}
	}
	if _, code := newSite(t).rollcall("check"); code != exitFailure {
		t.Errorf("a directory that does not answer: %d, want %d", code, exitFailure)
	}
	if _, code := newSite(t).rollcall("check", "--colour"); code != exitConfiguration {
		t.Errorf("a flag that is none: %d, want %d", code, exitConfiguration)
	}
}

// What cannot be asked without a secret is not asked, and nothing else is blamed.
func TestCheckBlamesOnlyTheMissingSecret(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, name := range []string{"token", "password"} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	out, _ := s.rollcall("check")
	for _, want := range []string{"sources.corp.ldap.bind_password", "connections.wiki.target.auth.bearer.token", "source corp    not asked", "target wiki    not asked"} {
		if !strings.Contains(out, want) {
			t.Errorf("check does not say %q:\n%s", want, out)
		}
	}
	for _, wrong := range []string{"target.url", "ca_file", "ldap.urls"} {
		if strings.Contains(out, wrong) {
			t.Errorf("check blames %s:\n%s", wrong, out)
		}
	}
}

// A second Rollcall on one data directory is told so, though its ports are taken, too.
func TestSecondInstanceIsToldAboutTheDataDirectory(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // the test is over
	s := newSite(t, `metrics_listen: ""`, fmt.Sprintf("metrics_listen: %q", taken.Addr()))

	out, _ := s.rollcall("check")
	if want := "telemetry.metrics_listen: listen tcp " + taken.Addr().String(); !strings.Contains(out, want) {
		t.Errorf("check does not say %q:\n%s", want, out)
	}
	first, err := embedded.Start(embedded.Config{DataDir: filepath.Join(s.dir, "data"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	out, code := s.rollcall("run")
	if code != exitFailure || !strings.Contains(out, "nats.data_dir: another process uses this data directory") || strings.Contains(out, "metrics_listen") {
		t.Errorf("run exits with %d and says\n%s", code, out)
	}
	out, _ = s.rollcall("check")
	for _, want := range []string{"a Rollcall runs there", taken.Addr().String() + " is in use, by the Rollcall that runs"} {
		if !strings.Contains(out, want) {
			t.Errorf("check beside a Rollcall that runs does not say %q:\n%s", want, out)
		}
	}
}

func TestCheckRefusesAnOldNATS(t *testing.T) {
	t.Parallel()
	s := newSite(t, "nats: {", fmt.Sprintf("nats: {url: %q, ", bustest.Greeter(t, "2.14.1")))
	if out, code := s.rollcall("check"); code != exitFailure || !strings.Contains(out, "upgrade every server to 2.15.2") {
		t.Errorf("check exits with %d and says\n%s", code, out)
	}
	if out, code := s.rollcall("run"); code != exitFailure || !strings.Contains(out, "upgrade every server to 2.15.2") {
		t.Errorf("run exits with %d and says\n%s", code, out)
	}
}

// A plan without a memory says so: from another working directory there is none.
func TestPlanSaysWhereItFoundNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	out, code := s.rollcall("plan")
	if code != exitFailure || !strings.Contains(out, "no Rollcall has run with nats.data_dir "+filepath.Join(s.dir, "data")) {
		t.Errorf("plan exits with %d and says\n%s", code, out)
	}
}

// The clocks of a target and of this machine are compared.
func TestCheckComparesTheClocks(t *testing.T) {
	t.Parallel()
	inner := scimtest.New(scimtest.Options{})
	for ahead, want := range map[time.Duration]string{0: "agrees with that of target wiki", time.Hour: "the clock of target wiki is 1h0m0s ahead of that of this machine", -time.Hour: "1h0m0s behind that of this machine"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
			inner.ServeHTTP(w, r)
		}))
		defer server.Close()
		findings := checkTarget(t.Context(), &connection.Connection{Name: "wiki", Target: connection.Target{URL: server.URL + scimtest.BasePath, Profile: "generic", Concurrency: 1}})
		found := findings[len(findings)-1]
		got := strings.Replace(strings.Replace(found.Detail, "59m59s", "1h0m0s", 1), "1h0m1s", "1h0m0s", 1) // a Date counts in seconds
		if found.What != "clock" || found.OK != (ahead == 0) || !strings.Contains(got, want) {
			t.Errorf("%s: %+v, want %q", ahead, found, want)
		}
	}
}
