package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// asDemo makes the test program be the demo.
const asDemo = "ROLLCALL_TEST_AS_DEMO"

func TestMain(m *testing.M) {
	if os.Getenv(asDemo) != "" {
		main()
	}
	os.Exit(m.Run())
}

// command is the demo as a program of its own, whose scratch directory is in dir.
func command(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asDemo+"=1", "TMPDIR="+dir)
	cmd.WaitDelay = time.Minute
	return cmd
}

// TestOnce plays the whole demo.
func TestOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := command(t, dir, "-once")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	last := regexp.MustCompile(`^demo: equal \(\d+ users, 15 groups, 18 changes, p50 \d+ ms, max \d+ ms\)$`)
	if got := lines[len(lines)-1]; !last.MatchString(got) {
		t.Errorf("the last line is %q", got)
	}
	for _, want := range []string{"Marriage: ", "PATCH /Users/anna.baer", "replace userName", "remove title", "replace active false", "DELETE /Groups/First aiders"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the output does not say %q", want)
		}
	}
	if strings.ContainsRune(stdout.String(), '\x1b') {
		t.Error("there are colours, and no terminal")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	wantNothingRuns(t, dir)
}

// TestInterrupt ends the demo in the middle: everything that it started ends, what
// it wrote is kept.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := command(t, dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "08:30") {
			break
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(stdout)
	if err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitFailure {
		t.Errorf("it ended with %v", err)
	}
	if got, want := stderr.String(), "demo: interrupted\n"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "rollcall-demo-*", "rollcall.log")); len(left) != 1 || !strings.Contains(string(rest), filepath.Dir(left[0])) {
		t.Errorf("kept are %v; it says %q", left, rest)
	}
	wantNothingRuns(t, dir)
}

// wantNothingRuns looks for programs that name a directory.
func wantNothingRuns(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline") // none where there is no such thing
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte(dir)) {
			t.Errorf("still runs: %q", text)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]int{"-h": 0, "-twice": exitUsage, "once": exitUsage} {
		if got := run([]string{arg}, io.Discard, io.Discard); got != want {
			t.Errorf("%s: exit code %d, want %d", arg, got, want)
		}
	}
}

func TestCompany(t *testing.T) {
	t.Parallel()
	c := newCompany()
	if len(c.people) != headcount || len(c.groups) != 15 || len(c.group(office).members) != officeSize {
		t.Errorf("%d people, %d groups, %d in the office", len(c.people), len(c.groups), len(c.group(office).members))
	}
	plain, accounts, left := regexp.MustCompile(`^[a-z]+\.[a-z]+$`), map[string]bool{}, 0
	for _, p := range c.people {
		if !plain.MatchString(p.uid) || accounts[p.uid] {
			t.Errorf("the account %q is not plain or not unique", p.uid)
		}
		accounts[p.uid] = true
		if p.left {
			left++
		}
	}
	if left < 5 {
		t.Errorf("%d people have left, want several", left)
	}
	nested := 0
	for _, g := range c.groups {
		if len(g.members) == 0 {
			t.Errorf("%s is empty", g.cn)
		}
		if slices.ContainsFunc(g.members, func(dn string) bool { return strings.Contains(dn, ",ou=groups,") }) {
			nested++
		}
	}
	if nested != 2 {
		t.Errorf("%d groups have groups in them, want 2", nested)
	}
	if diff := cmp.Diff(c.ldif(), newCompany().ldif()); diff != "" {
		t.Error("it is another company the second time", diff)
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	names := map[string]string{"1": "ann", "2": "bob", "9": "crew"}
	tests := []struct {
		name        string
		in          request
		where, what string
	}{
		{"create a user", request{Method: "POST", Path: "/Users", Status: 201, Body: `{"userName":"ann","displayName":"Ann"}`}, "POST /Users", "ann"},
		{"create a group", request{Method: "POST", Path: "/Groups", Status: 201, Body: `{"displayName":"crew","members":[{"value":"1"}]}`}, "POST /Groups", "crew, members 1"},
		{"refused", request{Method: "POST", Path: "/Users", Status: 409, Body: `{"userName":"ann"}`}, "POST /Users", "ann -> 409"},
		{"look", request{Method: "GET", Path: "/Groups", Status: 200, Query: `count=2&filter=displayName eq "crew"`}, "GET /Groups", `displayName eq "crew"`},
		{"delete", request{Method: "DELETE", Path: "/Groups/9", Status: 204}, "DELETE /Groups/crew", ""},
		{
			"attributes",
			request{Method: "PATCH", Path: "/Users/1", Status: 200, Body: `{"Operations":[
				{"op":"replace","path":"name.familyName","value":"B"},{"op":"remove","path":"title"},
				{"op":"replace","path":"emails[type eq \"work\"].value","value":"b"},{"op":"replace","path":"active","value":false},
				{"op":"replace","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department","value":"IT"}]}`},
			"PATCH /Users/ann", "replace name.familyName, emails, active false, department; remove title",
		},
		{
			"one member in, two out",
			request{Method: "PATCH", Path: "/Groups/9", Status: 200, Body: `{"Operations":[
				{"op":"add","path":"members","value":[{"value":"1"}]},
				{"op":"remove","path":"members[value eq \"2\"]"},{"op":"remove","path":"members[value eq \"3\"]"}]}`},
			"PATCH /Groups/crew", "add member ann; remove members 2",
		},
		{"no JSON", request{Method: "PATCH", Path: "/Users/7", Status: 400, Body: "what"}, "PATCH /Users/7", "-> 400"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			where, what := tt.in.describe(names)
			if where != tt.where || what != tt.what {
				t.Errorf("%q %q, want %q %q", where, what, tt.where, tt.what)
			}
		})
	}
}

func TestPad(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"Bär": "Bär  ", "田中": "田中 ", "abcdef": "abcd…", "🎉🎉🎉": "🎉🎉…", "": "     "} {
		if got := pad(in, 5); got != want {
			t.Errorf("pad(%q) is %q, want %q", in, got, want)
		}
	}
}

func TestLDIF(t *testing.T) {
	t.Parallel()
	got := content("uid=a", []attribute{{"cn", "Bär"}, {"sn", " x"}, {"title", ""}, {"mail", "a@example.com"}}) +
		modify("uid=a", replace("sn", "y"), drop("title"), add("mail", "b", "c")) + rename("uid=a", "uid=b") + remove("uid=b")
	want := `dn: uid=a
cn:: QsOkcg==
sn:: IHg=
mail: a@example.com

dn: uid=a
changetype: modify
replace: sn
sn: y
-
delete: title
-
add: mail
mail: b
mail: c
-

dn: uid=a
changetype: modrdn
newrdn: uid=b
deleteoldrdn: 1

dn: uid=b
changetype: delete

`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("-want +got", diff)
	}
}
