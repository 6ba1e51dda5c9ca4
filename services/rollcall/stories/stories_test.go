// Package stories tells what Rollcall does, end to end: LDIF goes into a real
// OpenLDAP, a real `rollcall run` works, and the SCIM requests and the final
// state of the target are compared with what the story says.
package stories

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
	"github.com/rollcall-scim/rollcall/services/rollcall/cli"
)

// TestMain lets more stories run at once than there are processors: they mostly wait.
func TestMain(m *testing.M) {
	testing.Init()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"rollcall": func() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestStories runs each story against the strict server, where the requests are
// compared too.
func TestStories(t *testing.T) {
	t.Parallel()
	run(t, func(context.Context, string) (target, error) { return newStrict(t) })
}

const token = "story-token"

// sizeLimit is how many entries the limited account of a story may read.
const sizeLimit = 2

// run runs every story, but for some, with a target of its own.
func run(t *testing.T, newTarget func(ctx context.Context, dir string) (target, error), but ...string) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range but {
		at := slices.Index(files, filepath.Join("testdata", name+".txtar"))
		if at < 0 {
			t.Fatalf("there is no story %q to leave out", name)
		}
		files = slices.Delete(files, at, at+1)
	}
	testscript.Run(t, testscript.Params{
		Files:               files,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			s, err := newStory(t.Context(), env, newTarget)
			if err != nil {
				return err
			}
			env.Defer(s.close)
			env.Values[storyKey{}] = s
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ldif":       func(ts *testscript.TestScript, neg bool, args []string) { of(ts).ldif(ts, args) },
			"config":     func(ts *testscript.TestScript, neg bool, args []string) { of(ts).config(ts, args) },
			"target":     func(ts *testscript.TestScript, neg bool, args []string) { of(ts).wantTarget(ts, args) },
			"requests":   func(ts *testscript.TestScript, neg bool, args []string) { of(ts).wantRequests(ts, args) },
			"settled":    func(ts *testscript.TestScript, neg bool, args []string) { of(ts).settled(ts) },
			"seed":       func(ts *testscript.TestScript, neg bool, args []string) { of(ts).seed(ts, args) },
			"tamper":     func(ts *testscript.TestScript, neg bool, args []string) { of(ts).tamper(ts, args) },
			"fault":      func(ts *testscript.TestScript, neg bool, args []string) { of(ts).fault(ts, args) },
			"slapd":      func(ts *testscript.TestScript, neg bool, args []string) { of(ts).slapd(ts, args) },
			"says":       func(ts *testscript.TestScript, neg bool, args []string) { of(ts).says(ts, args) },
			"page":       func(ts *testscript.TestScript, neg bool, args []string) { of(ts).page(ts, args) },
			"eventually": func(ts *testscript.TestScript, neg bool, args []string) { of(ts).eventually(ts, args) },
		},
		Condition: func(cond string) (bool, error) {
			if cond != "strict" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return t.Name() == "TestStories", nil
		},
	})
}

type storyKey struct{}

func of(ts *testscript.TestScript) *story { return ts.Value(storyKey{}).(*story) }

// story is one script with its directory and its target.
type story struct {
	ctx       context.Context //nolint:containedctx // a script has no other place for it
	directory *ldaptest.Server
	target    target
	dir       string
	env       map[string]string
}

func newStory(ctx context.Context, env *testscript.Env, newTarget func(context.Context, string) (target, error)) (*story, error) {
	directory, err := ldaptest.Launch(ctx, filepath.Join(env.WorkDir, "slapd"), ldaptest.Options{SizeLimit: sizeLimit})
	if err != nil {
		return nil, err
	}
	target, err := newTarget(ctx, env.WorkDir)
	if err != nil {
		return nil, err
	}
	var free [2]string
	for i := range free {
		if free[i], err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	ways := target.ways()
	s := &story{ctx: ctx, directory: directory, target: target, dir: env.WorkDir, env: map[string]string{
		"OVERRIDES": ways.overrides, "MATCH": cmp.Or(ways.match, "userName"),
		"LDAP_URL": directory.URL, "READER": directory.ReaderDN, "LIMITED": directory.LimitedDN, "SCIM_URL": target.url(),
		"LDAP_PASSWORD": directory.ReaderPassword, "LIMITED_PASSWORD": directory.LimitedPassword, "SCIM_TOKEN": token, "WORK": env.WorkDir, "FREE": free[0], "ALSO_FREE": free[1],
	}}
	for key, value := range s.env {
		env.Setenv(key, value)
	}
	return s, os.WriteFile(filepath.Join(env.WorkDir, "defaults.yaml"), []byte(defaults), 0o600)
}

func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (s *story) close() {
	_ = s.directory.Close()
	s.target.close()
}

// defaults is the configuration of a story that brings none.
const defaults = `
nats: {data_dir: $DATA}
sources:
  corp:
    ldap: {urls: [$LDAP_URL], bind_dn: "$READER", bind_password: "${env:LDAP_PASSWORD}"}
    preset: openldap
    detection: {mode: $MODE}
    users:
      base_dns: ["ou=people,dc=example,dc=com"]
      filter: (objectClass=inetOrgPerson)
      scope_groups: [$SCOPE]
      enabled: '!("left" in user.all.employeeType)'
    groups:
      base_dns: ["ou=groups,dc=example,dc=com"]
      filter: (objectClass=groupOfNames)
connections:
  wiki:
    source: corp
    target:
      url: $SCIM_URL
      auth: {bearer: {token: "$TOKEN"}}
      rate: {requests_per_second: 0}
      overrides: {member_remove_vouched: true$OVERRIDES}
    users:
      match: [$MATCH]
      remove: $REMOVE
      provision_disabled: $PROVISION_DISABLED
      attributes:
        userName: user.uid
        name.givenName: user.givenName
        name.familyName: user.sn
        title: user.title
        'emails[type eq "work"].value': user.mail
    groups: {}
console: {listen: "$CONSOLE"}
telemetry: {metrics_listen: "$METRICS", log: {level: info, format: text}}
`

// config writes rollcall.yaml: "config [file] KEY=value ...".
func (s *story) config(ts *testscript.TestScript, args []string) {
	file := "defaults.yaml"
	values := map[string]string{"MODE": "auto", "SCOPE": "", "REMOVE": "disable", "PROVISION_DISABLED": "false", "TOKEN": "${env:SCIM_TOKEN}", "METRICS": "", "CONSOLE": ""}
	maps.Copy(values, s.env)
	values["DATA"] = ts.MkAbs("data")
	for _, arg := range args {
		key, value, isValue := strings.Cut(arg, "=")
		if isValue {
			values[key] = value
		} else {
			file = arg
		}
	}
	if values["TOKEN"] == "file" {
		values["TOKEN"] = "${file:" + ts.MkAbs("token") + "}"
	}
	text := ts.ReadFile(file)
	expanded := os.Expand(text, func(name string) string {
		if strings.HasPrefix(name, "env:") || strings.HasPrefix(name, "file:") {
			return "${" + name + "}"
		}
		return values[name]
	})
	ts.Check(os.WriteFile(ts.MkAbs("rollcall.yaml"), []byte(expanded), 0o600))
}

// ldif applies LDIF to the directory.
func (s *story) ldif(ts *testscript.TestScript, args []string) {
	for _, file := range args {
		ts.Check(s.directory.Apply(s.ctx, ts.ReadFile(file)))
	}
}

// slapd controls the directory server: stop, start, restart.
func (s *story) slapd(ts *testscript.TestScript, args []string) {
	switch args[0] {
	case "stop":
		ts.Check(s.directory.Stop())
	case "start":
		ts.Check(s.directory.Start(s.ctx))
	case "restart":
		ts.Check(s.directory.Restart(s.ctx))
	default:
		ts.Fatalf("slapd %s: want stop, start or restart", args[0])
	}
}

const (
	patience = 30 * time.Second
	poll     = 20 * time.Millisecond
)

// pause is the time between two looks at another process.
func pause() { <-time.After(poll) }

// wantTarget waits until the target holds what the file says.
func (s *story) wantTarget(ts *testscript.TestScript, args []string) {
	want := normal(ts.ReadFile(args[0]))
	var got string
	deadline := time.Now().Add(patience)
	for {
		state, err := s.target.state(s.ctx)
		ts.Check(err)
		if got = normal(state); got == want {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the target does not hold what %s says\nwant:\n%s\ngot:\n%s", args[0], want, got)
		}
		pause()
	}
}

// normal sorts lines and drops empty ones.
func normal(text string) string {
	return strings.Join(sortedLines(text), "\n")
}

// eventually runs `rollcall ARGS` until its output holds a text: the last argument.
func (s *story) eventually(ts *testscript.TestScript, args []string) {
	want := args[len(args)-1]
	deadline := time.Now().Add(patience)
	for {
		err := ts.Exec("rollcall", args[:len(args)-1]...)
		out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if strings.Contains(out, want) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("rollcall %v never says %q (%v); last:\n%s", args[:len(args)-1], want, err, out)
		}
		pause()
	}
}

// says waits until a file holds a text: "says rollcall.log text".
func (s *story) says(ts *testscript.TestScript, args []string) {
	deadline := time.Now().Add(patience)
	for {
		log, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && strings.Contains(string(log), args[1]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s never says %q; it says:\n%s", args[0], args[1], log)
		}
		pause()
	}
}

// page waits until a page holds every line of a file: "page URL file".
func (s *story) page(ts *testscript.TestScript, args []string) {
	deadline := time.Now().Add(patience)
	for {
		page, err := fetch(s.ctx, args[0])
		missing := ""
		for line := range strings.Lines(ts.ReadFile(args[1])) {
			if line = strings.TrimSpace(line); line != "" && !strings.Contains(page, line) {
				missing = line
			}
		}
		if err == nil && missing == "" {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s lacks %q (%v):\n%s", args[0], missing, err, page)
		}
		pause()
	}
}

func fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// newStrict is the strict server. It also judges the requests that it gets.
func newStrict(t *testing.T) (target, error) {
	t.Helper()
	server := scimtest.New(scimtest.Options{Token: token})
	server.Lint()
	t.Cleanup(func() {
		for _, fault := range server.Faults() {
			t.Errorf("a request that no target should be sent: %s", fault)
		}
	})
	if err := server.Start("127.0.0.1:0"); err != nil {
		return nil, err
	}
	return &strict{server: server, names: map[string]string{}}, nil
}
