package detector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/status"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

const patienceOfTests = 30 * time.Second

// realConfig watches a real server, from its suffix down: an access rule on the
// people below it is no error. Changes replace one text by another.
func realConfig(t *testing.T, srv *ldaptest.Server, changes ...[2]string) *connection.Config {
	t.Helper()
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	for name, text := range map[string]string{password: srv.ReaderPassword, filepath.Join(dir, "limited"): srv.LimitedPassword} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf(`
sources:
  corp:
    ldap: {urls: [%q], bind_dn: %q, bind_password: "${file:%s}"}
    preset: openldap
    users: {base_dns: [%q], filter: "(objectClass=inetOrgPerson)"}
    groups: {base_dns: [%q], filter: "(objectClass=groupOfNames)"}
connections:
  wiki:
    source: corp
    target: {url: "http://127.0.0.1:1/scim/v2", insecure: true}
    users: {attributes: {userName: user.uid}}
    groups: {name: group.cn}
`, srv.URL, srv.ReaderDN, password, srv.Suffix, srv.Suffix)
	for _, c := range changes {
		if !strings.Contains(text, c[0]) {
			t.Fatalf("%q does not stand in the configuration", c[0])
		}
		text = strings.Replace(text, c[0], c[1], 1)
	}
	cfg, err := connection.Parse("rollcall.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// staff are n people and a group that holds them all.
func staff(n int) string {
	var b, members strings.Builder
	for i := range n {
		dn := fmt.Sprintf("uid=u%d,ou=people,dc=example,dc=com", i)
		fmt.Fprintf(&b, "dn: %s\nobjectClass: inetOrgPerson\nuid: u%d\ncn: u%d\nsn: u%d\n\n", dn, i, i, i)
		fmt.Fprintf(&members, "member: %s\n", dn)
	}
	return b.String() + "dn: cn=staff,ou=groups,dc=example,dc=com\nobjectClass: groupOfNames\ncn: staff\n" + members.String() + "\n"
}

// start runs detectors until the test calls what it returns, or ends.
func start(t *testing.T, cfg *connection.Config, b *bus.Bus) (stop func()) {
	t.Helper()
	return startLogging(t, cfg, b, t.Output())
}

// startLogging is start with another log.
func startLogging(t *testing.T, cfg *connection.Config, b *bus.Bus, log io.Writer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg, b, slog.New(slog.NewTextHandler(log, nil))) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the detector ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// awaitPass waits for a full pass later than another one for which ok says yes.
func awaitPass(t *testing.T, b *bus.Bus, after status.Pass, ok func(status.Pass) bool) status.Pass {
	t.Helper()
	var p status.Pass
	await(t, func() string {
		var err error
		if p, err = status.LastPass(t.Context(), b, "corp"); err != nil && !errors.Is(err, bus.ErrNotFound) {
			t.Fatal(err)
		}
		if p.At.After(after.At) && ok(p) {
			return ""
		}
		return fmt.Sprintf("the last pass is %+v", p)
	})
	return p
}

// await asks again until the answer is empty.
func await(t *testing.T, ask func() string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patienceOfTests)
	for answer := ask(); answer != ""; answer = ask() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %s: %s", patienceOfTests, answer)
		}
	}
}

func anyPass(status.Pass) bool { return true }

// onStream is what the streams hold: the last sequence of both kinds, and the
// number of members of the only group.
type onStream struct {
	Users, Groups map[string]uint64
	Members       uint64
}

func readStreams(t *testing.T, b *bus.Bus) onStream {
	t.Helper()
	mem, err := remember(t.Context(), b, "corp")
	if err != nil {
		t.Fatal(err)
	}
	s := onStream{Users: map[string]uint64{}, Groups: map[string]uint64{}}
	for id, p := range mem[directoryv1.Kind_KIND_USER] {
		s.Users[id.String()] = p.sequence
	}
	for id, p := range mem[directoryv1.Kind_KIND_GROUP] {
		s.Groups[id.String()] = p.sequence
		s.Members += p.manifest.GetCount()
	}
	return s
}

func TestDetectorPublishesOnceAndHandsOver(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: staff(20)})
	cfg, b := realConfig(t, srv), bustest.Start(t)
	stop := start(t, cfg, b)
	first := awaitPass(t, b, status.Pass{}, anyPass)
	if first.Users != 20 || first.Groups != 1 || first.Published != 21 || first.Held != 0 {
		t.Fatalf("first pass %+v, want 20 users and a group", first)
	}
	before := readStreams(t, b)
	stop()

	stop = start(t, cfg, b)
	second := awaitPass(t, b, first, anyPass)
	if diff := gocmp.Diff(before, readStreams(t, b)); second.Published != 0 || diff != "" {
		t.Errorf("the restart published %d\n-before +after\n%s", second.Published, diff)
	}
	holder := holderOf(t, b)

	start(t, cfg, b)
	if got := holderOf(t, b); got != holder {
		t.Errorf("the lease went from %s to %s while its holder works", holder, got)
	}
	stop()
	third := awaitPass(t, b, second, anyPass)
	if got := holderOf(t, b); got == holder || third.Published != 0 {
		t.Errorf("%s holds the lease as before, published %d", got, third.Published)
	}
	srv.LDIF(t, "dn: uid=u3,ou=people,dc=example,dc=com\nchangetype: delete\n")
	await(t, func() string {
		if s := readStreams(t, b); s.Members != 19 {
			return fmt.Sprintf("%d members, want the standby to publish 19", s.Members)
		}
		return ""
	})
}

func holderOf(t *testing.T, b *bus.Bus) string {
	t.Helper()
	holder, err := b.Holder(t.Context(), provisioningv1.BucketSources, provisioningv1.LeaseKey("corp"))
	if err != nil {
		t.Fatal(err)
	}
	return holder
}

// An access rule hides all people: nothing is removed, nobody leaves a group, and
// it dissolves when the rule goes. A detector that starts meanwhile knows the
// people only from the stream.
func TestHiddenPeopleChangeNothing(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: staff(20)})
	cfg, b := realConfig(t, srv), bustest.Start(t)
	stop := start(t, cfg, b)
	first := awaitPass(t, b, status.Pass{}, anyPass)
	before := readStreams(t, b)

	srv.SetACL(`access to dn.subtree="ou=people,dc=example,dc=com" by * none`)
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	hidden := awaitPass(t, b, first, anyPass)
	checkHidden(t, b, hidden, before)
	stop()
	stop = start(t, cfg, b)
	hidden = awaitPass(t, b, hidden, anyPass)
	checkHidden(t, b, hidden, before)

	srv.SetACL()
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	cured := awaitPass(t, b, hidden, func(p status.Pass) bool { return p.Held == 0 })
	if diff := gocmp.Diff(before, readStreams(t, b)); cured.Published != 0 || cured.HeldReason != "" || diff != "" {
		t.Errorf("cured: %+v\n-before +after\n%s", cured, diff)
	}
	stop()
}

func checkHidden(t *testing.T, b *bus.Bus, p status.Pass, before onStream) {
	t.Helper()
	if p.Held != 20 || p.Published != 0 || p.HeldReason == "" {
		t.Errorf("%+v, want 20 held and nothing published", p)
	}
	if diff := gocmp.Diff(before, readStreams(t, b)); diff != "" {
		t.Errorf("the streams changed: -before +after\n%s", diff)
	}
}
