package connection_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

func secret(t *testing.T, reference string) connection.Secret {
	t.Helper()
	s, err := connection.NewSecret(reference)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	s := secret(t, "${env:ROLLCALL_SECRET_NAME}")
	inside := struct {
		Token connection.Secret  `json:"token" yaml:"token"`
		Also  *connection.Secret `json:"also"  yaml:"also"`
	}{s, &s}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T%[1]v"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", &s)
		fmt.Fprintf(&out, verb+"\n", inside)
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		encoded, err := marshal(inside)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(encoded)
	}
	slog.New(slog.NewTextHandler(&out, nil)).InfoContext(t.Context(), "x", "secret", s, "inside", inside)
	slog.New(slog.NewJSONHandler(&out, nil)).InfoContext(t.Context(), "x", "secret", s, "inside", inside)
	if strings.Contains(out.String(), "ROLLCALL_SECRET_NAME") || !strings.Contains(out.String(), "***") {
		t.Errorf("printed:\n%s", out.String())
	}
}

func TestConfigHidesItsSecrets(t *testing.T) {
	t.Parallel()
	c := load(t)
	encoded, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(encoded), fmt.Sprintf("%+v %#v", c.Sources["corp"], c.Connections["wiki"].Target.Auth.Bearer)} {
		if strings.Contains(text, "WIKI_TOKEN") || strings.Contains(text, "ldap-password") || !strings.Contains(text, "***") {
			t.Errorf("printed:\n%s", text)
		}
	}
}

func TestNewSecretRefusesALiteral(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"hunter2", "${env:}", "${env:A", "x${env:A}", "${env:A}\n", "${file:}", "$env:A", "${env:A}${env:B}"} {
		_, err := connection.NewSecret(text)
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "${file:/path}") {
			t.Errorf("%q: %v; want the cure, not the secret", text, err)
		}
	}
}

func TestSecretResolveEnv(t *testing.T) {
	t.Setenv("ROLLCALL_TEST_SECRET", "s3cret")
	if got, err := secret(t, "${env:ROLLCALL_TEST_SECRET}").Resolve(); err != nil || got != "s3cret" {
		t.Errorf("Resolve() = %q, %v", got, err)
	}
	if _, err := secret(t, "${env:ROLLCALL_TEST_UNSET}").Resolve(); err == nil {
		t.Error("an unset variable was resolved")
	}
}

func TestSecretResolveFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	s := secret(t, "${file:"+path+"}")
	if s.File() != path || secret(t, "${env:A}").File() != "" {
		t.Errorf("File() = %q", s.File())
	}
	for content, want := range map[string]string{"one\n": "one", "two\r\n": "two", " three ": " three ", "": "", "\n": "", strings.Repeat("x", 1<<17): ""} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := s.Resolve()
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.10q: Resolve() = %q, %v; want %q", content, got, err, want)
		}
	}
	if _, err := secret(t, "${file:/nonexistent/secret}").Resolve(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v; want that the file does not exist", err)
	}
	if _, err := (connection.Secret{}).Resolve(); err == nil {
		t.Error("no secret was resolved")
	}
}

func TestResolveAll(t *testing.T) {
	t.Setenv("WIKI_TOKEN", "")
	c := load(t)
	err := c.ResolveAll()
	faults, ok := errors.AsType[connection.Faults](err)
	if !ok || len(faults) != 3 {
		t.Fatalf("faults %v; want 3", err)
	}
	want := []string{
		"design.yaml:7: sources.corp.ldap.bind_password: ",
		"design.yaml:27: connections.wiki.target.auth.bearer.token: the environment variable WIKI_TOKEN is not set",
		"design.yaml:53: console.auth.token: ",
	}
	for i, prefix := range want {
		if !strings.HasPrefix(faults[i].String(), prefix) {
			t.Errorf("fault %q; want %q", faults[i], prefix)
		}
	}
}

// A secret that is rotated is found, also within a moment and of the same length; one
// that is not is not read again.
func TestRotatedSecretIsFound(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	write := func(text string, at time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	secret, err := connection.NewSecret("${file:" + file + "}")
	if err != nil {
		t.Fatal(err)
	}
	resolve := func(want string) {
		t.Helper()
		if got, err := secret.Resolve(); err != nil || got != want {
			t.Errorf("%q (%v), want %q", got, err, want)
		}
	}
	old := time.Now().Add(-time.Hour)
	write("one", old)
	resolve("one")
	resolve("one")
	write("two", old.Add(time.Nanosecond))
	resolve("two")
	write("now", time.Now())
	resolve("now")
	write("new", time.Now())
	resolve("new")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got, err := secret.Resolve(); err == nil {
		t.Errorf("%q of a file that is gone", got)
	}
}
