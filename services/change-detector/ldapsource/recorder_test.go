package ldapsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// patience is how long a test waits for what must come; nothing waits so long
// that is right.
const patience = 30 * time.Second

// recorder is a Sink that keeps a mirror and hands out its state at each Settled.
type recorder struct {
	mirror  map[ID]*Entry
	fresh   map[ID]bool // put since Begin
	reading bool
	log     []string
	proof   Proof

	settled chan state
	ended   chan error
	wake    chan struct{}
}

func (r *recorder) Wake() <-chan struct{} { return r.wake }

// state is the mirror at one Settled, and the calls since the last one.
type state struct {
	entries map[ID]*Entry
	log     []string
	proof   Proof
}

func (r *recorder) Begin() {
	r.log = append(r.log, "begin")
	r.fresh, r.reading = map[ID]bool{}, true
}

func (r *recorder) Put(e *Entry) {
	r.log = append(r.log, "put "+e.DN)
	if before, ok := r.mirror[e.ID]; !ok || before.Version <= e.Version {
		r.mirror[e.ID] = e
	}
	if r.reading {
		r.fresh[e.ID] = true
	}
}

func (r *recorder) Gone(id ID) {
	if e, ok := r.mirror[id]; ok {
		r.log = append(r.log, "gone "+e.DN)
	}
	delete(r.mirror, id)
}

func (r *recorder) Link(id ID, added, removed []string) {
	e := r.mirror[id]
	r.log = append(r.log, fmt.Sprintf("link %s +%d -%d", e.DN, len(added), len(removed)))
	var members [][]byte
	for _, m := range e.Values("member") {
		if !slices.Contains(added, string(m)) && !slices.Contains(removed, string(m)) {
			members = append(members, m)
		}
	}
	for _, m := range added {
		members = append(members, []byte(m))
	}
	edited := *e
	edited.Attributes = nil
	for _, a := range e.Attributes {
		if a.GetName() != "member" {
			edited.Attributes = append(edited.Attributes, a)
		}
	}
	if len(members) > 0 {
		edited.Attributes = append(edited.Attributes, &directoryv1.Attribute{Name: "member", Values: members})
	}
	r.mirror[id] = &edited
}

func (r *recorder) Complete(p Proof) {
	r.log = append(r.log, "complete")
	maps.DeleteFunc(r.mirror, func(id ID, _ *Entry) bool { return !r.fresh[id] })
	r.proof, r.reading = p, false
}

func (r *recorder) Settled(ctx context.Context) error {
	if r.reading {
		return errors.New("settled in the middle of a read")
	}
	s := state{entries: maps.Clone(r.mirror), log: r.log, proof: r.proof}
	r.log = nil
	select {
	case r.settled <- s:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// dns are the names in the mirror, sorted.
func (s state) dns() []string {
	var list []string
	for _, e := range s.entries {
		list = append(list, e.DN)
	}
	slices.Sort(list)
	return list
}

// byDN returns the entry with this name, or nil.
func (s state) byDN(dn string) *Entry {
	for _, e := range s.entries {
		if strings.EqualFold(e.DN, dn) {
			return e
		}
	}
	return nil
}

// next is the state at the next Settled.
func (r *recorder) next(t *testing.T) state {
	t.Helper()
	select {
	case s := <-r.settled:
		return s
	case err := <-r.ended:
		t.Fatalf("the session ended: %v", err)
	case <-time.After(patience):
		t.Fatal("nothing settled")
	}
	return state{}
}

// until waits for a settled state that satisfies the condition.
func (r *recorder) until(t *testing.T, what string, ok func(state) bool) state {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s := <-r.settled:
			if ok(s) {
				return s
			}
		case err := <-r.ended:
			t.Fatalf("waiting for %s: the session ended: %v", what, err)
		case <-deadline:
			t.Fatalf("waiting for %s: it did not come", what)
		}
	}
}

// end waits for the end of the session and returns its error.
func (r *recorder) end(t *testing.T) error {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case err := <-r.ended:
			return err
		case <-r.settled:
		case <-deadline:
			t.Fatal("the session did not end")
		}
	}
}

// watch runs a session for the length of the test.
func watch(t *testing.T, s *Source) *recorder {
	t.Helper()
	r := &recorder{mirror: map[ID]*Entry{}, settled: make(chan state), ended: make(chan error, 1)}
	return r.watch(t, s)
}

// watch runs one more session into the same mirror.
func (r *recorder) watch(t *testing.T, s *Source) *recorder {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- s.Watch(ctx, r)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("Watch did not end with its context")
		}
	})
	return r
}

const (
	suffix = "dc=example,dc=com"
	people = "ou=people," + suffix
	groups = "ou=groups," + suffix
)

// config is a source on a test server.
func config(srv *ldaptest.Server, change ...func(*connection.Source)) *connection.Source {
	cfg := &connection.Source{
		Name: "corp",
		LDAP: connection.LDAP{URLs: []string{srv.URL}, BindDN: srv.ReaderDN, PageSize: 1000},
		ID:   connection.IDAttribute{Attribute: "entryUUID", Encoding: "text"},
		Users: connection.UserSource{
			BaseDNs: []string{srv.Suffix}, Filter: "(objectClass=inetOrgPerson)",
		},
		Groups: connection.GroupSource{
			BaseDNs: []string{groups}, Filter: "(objectClass=groupOfNames)", Members: "member",
		},
		Detection: connection.Detection{Mode: "auto", Interval: time.Hour},
	}
	for _, f := range change {
		f(cfg)
	}
	return cfg
}

func mode(m Mode) func(*connection.Source) {
	return func(c *connection.Source) { c.Detection.Mode = string(m) }
}

func bases(users ...string) func(*connection.Source) {
	return func(c *connection.Source) { c.Users.BaseDNs, c.Groups.BaseDNs = users, nil }
}

func limited(srv *ldaptest.Server) func(*connection.Source) {
	return func(c *connection.Source) { c.LDAP.BindDN = srv.LimitedDN }
}

// source makes a Source whose password is the one of the account.
func source(t *testing.T, cfg *connection.Source) *Source {
	t.Helper()
	password, _, _ := strings.Cut(strings.TrimPrefix(cfg.LDAP.BindDN, "cn="), ",")
	s, err := New(cfg, []string{"uid", "cn", "sn", "mail", "employeeType", "manager"}, Deps{
		Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
		Password: func(context.Context) (string, error) { return password, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func user(name, ou string) string {
	return fmt.Sprintf("dn: uid=%[1]s,%[2]s\nobjectClass: inetOrgPerson\nuid: %[1]s\ncn: %[1]s\nsn: %[1]s\nmail: %[1]s@example.com\nuserPassword: secret\n\n", name, ou)
}

func users(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(user(fmt.Sprintf("u%04d", i), people))
	}
	return b.String()
}

func group(name string, members ...string) string {
	return fmt.Sprintf("dn: cn=%[1]s,%[2]s\nobjectClass: groupOfNames\ncn: %[1]s\nmember: %[3]s\n\n", name, groups, strings.Join(members, "\nmember: "))
}
