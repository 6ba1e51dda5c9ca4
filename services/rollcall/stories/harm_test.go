package stories

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/service"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
)

const harmConfig = `
nats: {data_dir: "%[1]s"}
sources:
  corp:
    ldap: {urls: ["%[2]s"], bind_dn: "%[3]s", bind_password: "${file:%[4]s}"}
    preset: openldap
    detection: {mode: %[5]s, interval: 1s}
    users: {base_dns: ["ou=people,dc=example,dc=com"], filter: "%[6]s", enabled: '!("left" in user.all.employeeType)'}
    groups: {base_dns: ["ou=groups,dc=example,dc=com"], filter: (objectClass=groupOfNames)}
connections:
  wiki:
    source: corp
    target: {url: "%[7]s", rate: {requests_per_second: 0}, overrides: {member_remove_vouched: true}}
    users: {attributes: {userName: user.uid, name.familyName: user.sn, 'emails[type eq "work"].value': user.mail}}
    groups: {}
console: {listen: ""}
telemetry: {metrics_listen: ""}
`

// site is a company of sixty people in a directory, a target, and a Rollcall.
type site struct {
	*testing.T

	directory *ldaptest.Server
	target    *scimtest.Server
	mode      string
	data      string
	// what the configuration says
	filter, account string
	cfg             *connection.Config
	log             *recorder
	stop            func()
}

// recorder keeps what Rollcall logs.
type recorder struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *recorder) says(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(r.text.String(), what)
}

const crowd = 60

// crowdLDIF is the company.
func crowdLDIF() string {
	var b strings.Builder
	all := ""
	for n := range crowd {
		dn := fmt.Sprintf("uid=u%d,ou=people,dc=example,dc=com", n)
		fmt.Fprintf(&b, "dn: %s\nobjectClass: inetOrgPerson\nuid: u%d\ncn: U %d\nsn: Sur%d\nmail: u%d@example.com\n\n", dn, n, n, n, n)
		all += "member: " + dn + "\n"
	}
	b.WriteString("dn: cn=staff,ou=groups,dc=example,dc=com\nobjectClass: groupOfNames\ncn: staff\n" + all + "\n")
	b.WriteString("dn: cn=board,ou=groups,dc=example,dc=com\nobjectClass: groupOfNames\ncn: board\nmember: uid=u7,ou=people,dc=example,dc=com\nmember: uid=u17,ou=people,dc=example,dc=com\n")
	return b.String()
}

func newSite(t *testing.T, mode string) *site {
	t.Helper()
	return newSiteOn(t, mode, ldaptest.Options{SizeLimit: 10})
}

func newSiteOn(t *testing.T, mode string, directory ldaptest.Options) *site {
	t.Helper()
	directory.LDIF = crowdLDIF()
	s := &site{
		T: t, mode: mode, data: filepath.Join(t.TempDir(), "data"), filter: "(objectClass=inetOrgPerson)",
		directory: ldaptest.Start(t, directory), target: scimtest.NewServer(t, scimtest.Options{}),
	}
	s.account = s.directory.ReaderDN
	s.start()
	t.Cleanup(func() { s.stop() })
	s.until("everybody is provisioned", func() bool {
		return len(s.target.Users()) == crowd && len(s.target.Members("staff")) == crowd && len(s.target.Members("board")) == 2
	})
	s.until("nothing is in work", s.idle)
	return s
}

// idle says that every change and request has been settled: the target may hold what
// it has not answered yet.
func (s *site) idle() bool {
	s.Helper()
	b, err := allinone.Attach(s.Context(), s.cfg)
	if err != nil {
		return false // not up yet
	}
	defer b.Close()
	waiting, err := backlog(s.Context(), b, s.cfg)
	return err == nil && waiting == 0
}

// start runs Rollcall with the present configuration until stop is called.
func (s *site) start() {
	s.Helper()
	password := filepath.Join(s.TempDir(), "password")
	secret := map[string]string{s.directory.ReaderDN: s.directory.ReaderPassword, s.directory.LimitedDN: s.directory.LimitedPassword}[s.account]
	write(s.T, password, secret)
	text := fmt.Sprintf(harmConfig, s.data, s.directory.URL, s.account, password, s.mode, s.filter, s.target.URL())
	cfg, err := connection.Parse("rollcall.yaml", []byte(text))
	if err != nil {
		s.Fatal(err)
	}
	s.cfg, s.log = cfg, &recorder{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.Context()))
	done := make(chan error, 1)
	env := &service.Env{Config: cfg, Log: slog.New(slog.NewTextHandler(s.log, nil))}
	go func() { done <- allinone.Run(ctx, env) }()
	s.stop = func() {
		cancel()
		if err := <-done; err != nil {
			s.Errorf("rollcall ended: %v", err)
		}
		s.stop = func() {}
	}
}

func (s *site) until(what string, ok func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !ok(); pause() {
		if time.Now().After(deadline) {
			now := s.held()
			s.log.mu.Lock()
			defer s.log.mu.Unlock()
			s.Fatalf("it never comes to be that %s; held: %v; the log:\n%s", what, now, s.log.text.String())
		}
	}
}

// held is what waits for a person, by action and reason.
func (s *site) held() map[string]int {
	s.Helper()
	b, err := allinone.Attach(s.Context(), s.cfg)
	if err != nil {
		return nil // not up yet
	}
	defer b.Close()
	reasons := map[string]int{}
	for _, store := range []*held.Store{held.OfSource(b, "corp"), held.OfConnection(b, "wiki")} {
		items, err := store.List(s.Context())
		if err != nil {
			return nil
		}
		for _, i := range items {
			reasons[i.GetAction()+": "+i.GetReason()]++
		}
	}
	return reasons
}

func (s *site) holds(what string) func() bool {
	return func() bool {
		for reason := range s.held() {
			if strings.Contains(reason, what) {
				return true
			}
		}
		return false
	}
}

func (s *site) says(what string) func() bool {
	return func() bool { return s.log.says(what) }
}

// offline does something to the directory while it is down.
func (s *site) offline(do func() error) {
	s.Helper()
	if err := s.directory.Stop(); err != nil {
		s.Fatal(err)
	}
	if err := do(); err != nil {
		s.Fatal(err)
	}
	if err := s.directory.Start(s.Context()); err != nil {
		s.Fatal(err)
	}
}

func (s *site) acl(lines ...string) {
	s.Helper()
	s.offline(func() error { s.directory.SetACL(lines...); return nil })
}

// reconfigure stops Rollcall, edits its configuration and starts it again.
func (s *site) reconfigure(edit func()) {
	s.Helper()
	s.stop()
	edit()
	s.start()
}

// harms are ways in which a directory or a configuration lies. Each says how it
// comes, what is held or logged then, and how it is cured.
var harms = []struct {
	name string
	harm func(s *site) (cure func())
	// held is part of the reason; where nothing can be held, because no read
	// succeeds, the log says so.
	held, logged string
}{
	{"filter that matches nothing", func(s *site) func() {
		s.reconfigure(func() { s.filter = "(objectClass=account)" })
		return func() { s.reconfigure(func() { s.filter = "(objectClass=inetOrgPerson)" }) }
	}, "no user is left in scope", ""},
	{"base unreadable", func(s *site) func() {
		s.acl(`access to dn.subtree="ou=people,dc=example,dc=com" by * none`)
		return func() { s.acl() }
	}, "", "ou=people,dc=example,dc=com"},
	{"people subtree unreadable", func(s *site) func() {
		s.acl(`access to dn.children="ou=people,dc=example,dc=com" by * none`)
		return func() { s.acl() }
	}, "no user is left in scope", ""},
	{"a tenth unreadable", func(s *site) func() {
		s.acl(`access to dn.regex="^uid=u[0-9]*7,ou=people,dc=example,dc=com$" by * none`)
		return func() { s.acl() }
	}, "users", ""},
	{"mail unreadable", func(s *site) func() {
		s.acl(`access to dn.subtree="ou=people,dc=example,dc=com" attrs=mail by * none`)
		return func() { s.acl() }
	}, "mail", ""},
	{"object classes unreadable", func(s *site) func() {
		s.acl(`access to dn.subtree="ou=people,dc=example,dc=com" attrs=objectClass by * none`)
		return func() { s.acl() }
	}, "", "the server returned nothing"},
	{"members unreadable", func(s *site) func() {
		s.acl(`access to dn.subtree="ou=groups,dc=example,dc=com" attrs=member by * none`)
		return func() { s.acl() }
	}, "members", ""},
	{"truncated answer", func(s *site) func() {
		s.reconfigure(func() { s.account = s.directory.LimitedDN })
		return func() { s.reconfigure(func() { s.account = s.directory.ReaderDN }) }
	}, "", "size limit"},
	{"directory emptied", func(s *site) func() {
		all := ""
		s.offline(func() (err error) {
			if all, err = s.directory.Dump(s.Context()); err != nil {
				return err
			}
			return s.directory.Reset(s.Context(), "")
		})
		return func() { s.offline(func() error { return s.directory.Reset(s.Context(), all) }) }
	}, "no user is left in scope", ""},
}

// TestNoHarm lets a directory or a configuration lie, in every mode: nothing is
// removed, nothing cleared, memberships stay, and the hold names its reason. Then it
// is cured, the hold dissolves, and life goes on.
func TestNoHarm(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"syncrepl", "snapshot"} {
		for _, h := range harms {
			t.Run(mode+"/"+h.name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, mode)
				before := s.state()
				s.target.ResetLog()
				cure := h.harm(s)
				if h.held != "" {
					s.until("something is held for "+h.held, s.holds(h.held))
				} else {
					s.until("the log says "+h.logged, s.says(h.logged))
				}
				s.unharmed(before)
				cure()
				s.until("the hold dissolves", func() bool { now := s.held(); return now != nil && len(now) == 0 })
				s.directory.LDIF(t, "dn: uid=u1,ou=people,dc=example,dc=com\nchangetype: modify\nreplace: sn\nsn: Changed\n")
				s.until("life goes on", func() bool {
					u, _ := s.target.User("u1")
					name, _ := u["name"].(map[string]any)
					return name["familyName"] == "Changed"
				})
				if writes := s.target.Writes(); len(writes) != 1 || writes[0].Method != http.MethodPatch {
					t.Errorf("writes: %v", writes)
				}
			})
		}
	}
}

// state is what the target holds.
func (s *site) state() string { return normal(describe(s.target.Users(), s.target.Groups())) }

func (s *site) unharmed(before string) {
	s.Helper()
	if diff := cmp.Diff(before, s.state()); diff != "" {
		s.Errorf("the target: -before +after\n%s", diff)
	}
	if writes := s.target.Writes(); len(writes) != 0 {
		s.Errorf("writes: %v", writes)
	}
}

// TestReloadedDirectory: every entry comes back under a new id. Nothing happens to
// the accounts, the hold says why; approved, each account is handed to the new entry
// of the same person.
func TestReloadedDirectory(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"syncrepl", "snapshot"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, mode)
			before := s.state()
			s.target.ResetLog()
			s.offline(func() error { return s.directory.Reset(s.Context(), s.directory.BaseTree()+"\n"+crowdLDIF()) })
			s.until("the reload is noticed", s.holds("came back under another id"))
			s.until("every new entry waits for the former one", func() bool { return s.blocked() == crowd+2 })
			if diff := cmp.Diff(before, s.state()); diff != "" {
				t.Errorf("the target: -before +after\n%s", diff)
			}
			s.approve("corp")
			s.until("nobody waits", func() bool { now := s.held(); return now != nil && len(now) == 0 && s.blocked() == 0 })
			if diff := cmp.Diff(before, s.state()); diff != "" {
				t.Errorf("the target after the approval: -before +after\n%s", diff)
			}
			if writes := s.target.Writes(); slices.ContainsFunc(writes, func(r scimtest.Request) bool { return r.Status < 300 }) {
				for _, r := range writes {
					if r.Status < 300 {
						t.Errorf("%s %s %s", r.Method, r.Path, r.Body)
					}
				}
			}
			s.directory.LDIF(t, "dn: uid=u1,ou=people,dc=example,dc=com\nchangetype: modify\nreplace: sn\nsn: Changed\n")
			s.until("life goes on", func() bool {
				u, _ := s.target.User("u1")
				name, _ := u["name"].(map[string]any)
				return name["familyName"] == "Changed"
			})
		})
	}
}

// with runs something on the bus of the Rollcall that runs.
func (s *site) with(do func(b *bus.Bus)) {
	s.Helper()
	b, err := allinone.Attach(s.Context(), s.cfg)
	if err != nil {
		s.Fatal(err)
	}
	defer b.Close()
	do(b)
}

// blocked is how many entries cannot be applied because another one stands in the
// way.
func (s *site) blocked() (n int) {
	s.Helper()
	s.with(func(b *bus.Bus) {
		for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
			summary, _, err := worker.Summarise(s.Context(), b, "wiki", kind, s.cfg.Hash("wiki"))
			if err != nil {
				s.Fatal(err)
			}
			n += summary.Blocked
		}
	})
	return n
}

// approve approves everything that is held of the source.
func (s *site) approve(source string) {
	s.Helper()
	s.with(func(b *bus.Bus) {
		store := held.OfSource(b, source)
		items, err := store.List(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		for _, i := range items {
			if err := store.Mark(s.Context(), i, provisioningv1.Mark_MARK_APPROVED, "one"); err != nil {
				s.Fatal(err)
			}
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
