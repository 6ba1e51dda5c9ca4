package detector

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/status"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// harm is one way in which a read of the directory is less than the directory.
type harm struct {
	name string
	// acl are access rules, base is data instead of the directory's, config is
	// what the configuration says instead.
	acl    []string
	data   func(srv *ldaptest.Server) string
	config [][2]string
	// reason is why something is held; empty where the read is an error.
	reason string
	// fails is what the log says where the read is an error.
	fails string
}

const tenth = 10

// workforce are n people with mail addresses, a tenth of them in another
// department, and two groups.
func workforce(n int) string {
	var b, members strings.Builder
	for i := range n {
		dn := fmt.Sprintf("uid=u%d,ou=people,dc=example,dc=com", i)
		fmt.Fprintf(&b, "dn: %s\nobjectClass: inetOrgPerson\nuid: u%d\ncn: u%d\nsn: u%d\nmail: u%d@example.com\ndepartmentNumber: %d\n\n", dn, i, i, i, i, i%tenth)
		fmt.Fprintf(&members, "member: %s\n", dn)
	}
	for _, name := range []string{"staff", "everybody"} {
		fmt.Fprintf(&b, "dn: cn=%s,ou=groups,dc=example,dc=com\nobjectClass: groupOfNames\ncn: %s\n%s\n", name, name, &members)
	}
	return b.String()
}

func harms() []harm {
	const below = `dn.subtree="ou=people,dc=example,dc=com"`
	return []harm{
		{name: "filter that matches nothing", config: [][2]string{{"(objectClass=inetOrgPerson)", "(uid=nobody)"}}, reason: "no user is left in scope"},
		{name: "base unreadable", acl: []string{`access to dn.base="dc=example,dc=com" by * none`}, fails: "read the base"},
		{name: "people unreadable", acl: []string{"access to " + below + " by * none"}, reason: "no user is left in scope"},
		{name: "a tenth unreadable", acl: []string{"access to filter=(departmentNumber=3) by * none"}, reason: "max_removal_percent"},
		{name: "mail unreadable", acl: []string{"access to attrs=mail by * none"}, reason: "mail vanished from 100 of the 100 entries"},
		{name: "truncated answer", config: [][2]string{{"cn=reader", "cn=limited"}, {"/password", "/limited"}}, fails: "size limit"},
		{name: "directory emptied", data: (*ldaptest.Server).BaseTree, reason: "no user is left in scope"},
		{name: "objectClass unreadable", acl: []string{"access to " + below + " attrs=objectClass by * none"}, reason: "no user is left in scope"},
		{name: "objectClass unreadable everywhere", acl: []string{"access to attrs=objectClass by * none"}, fails: "directory session ended"},
		{name: "members unreadable", acl: []string{"access to attrs=member by * none"}, reason: "200 of 200 members would be removed"},
	}
}

// TestNothingIsRemovedUnasked breaks the directory, its access rules or the
// configuration in every way that was measured, in both modes: nothing is removed
// and nothing is cleared, a detector that starts meanwhile does not change that,
// and it dissolves without a trace when it is cured.
func TestNothingIsRemovedUnasked(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{connection.ModeSyncrepl, connection.ModeSnapshot} {
		for _, h := range harms() {
			t.Run(mode+"/"+h.name, func(t *testing.T) {
				t.Parallel()
				h.test(t, mode)
			})
		}
	}
}

func (h harm) test(t *testing.T, mode string) {
	t.Helper()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: workforce(100), SizeLimit: 50})
	b := bustest.Start(t)
	usual := [][2]string{
		{"preset: openldap", fmt.Sprintf("preset: openldap\n    detection: {mode: %s, interval: 1s}", mode)},
		{"{userName: user.uid}", "{userName: user.uid, 'emails[type eq \"work\"].value': user.mail}"},
	}
	stop := start(t, realConfig(t, srv, usual...), b)
	first := awaitPass(t, b, status.Pass{}, anyPass)
	before := readAllStreams(t, b)
	data := h.do(t, srv, stop)

	log := &output{also: t.Output()}
	broken := realConfig(t, srv, append(usual, h.config...)...)
	stop = startLogging(t, broken, b, log)
	var since map[string]string
	if h.fails != "" {
		await(t, func() string { return log.lacks(h.fails) })
	} else {
		awaitPass(t, b, first, func(p status.Pass) bool { return p.Held > 0 })
		since = items(t, b, h.reason)
	}
	sameStreams(t, "broken", before, readAllStreams(t, b))
	stop()
	log = &output{also: t.Output()}
	stop = startLogging(t, broken, b, log)
	if h.fails != "" {
		await(t, func() string { return log.lacks(h.fails) })
	} else {
		awaitPass(t, b, latest(t, b), func(p status.Pass) bool { return p.Held > 0 })
		if diff := gocmp.Diff(since, items(t, b, h.reason)); diff != "" {
			t.Errorf("the restart changed what is held: -before +after\n%s", diff)
		}
	}
	sameStreams(t, "broken, after a restart", before, readAllStreams(t, b))

	stop()
	h.undo(t, srv, data)
	start(t, realConfig(t, srv, usual...), b)
	cured := awaitPass(t, b, latest(t, b), anyPass)
	if cured.Published != 0 || cured.Held != 0 || cured.HeldReason != "" {
		t.Errorf("cured: %+v", cured)
	}
	sameStreams(t, "cured", before, readAllStreams(t, b))
	if left := items(t, b, ""); len(left) > 0 {
		t.Errorf("cured, and held still: %v", left)
	}
}

// do breaks the directory; the detector that runs sees the server go and come back
// broken, where its configuration is right.
func (h harm) do(t *testing.T, srv *ldaptest.Server, stop func()) (data string) {
	t.Helper()
	if len(h.config) > 0 {
		stop()
		return ""
	}
	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	if h.data != nil {
		var err error
		if data, err = srv.Dump(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := srv.Reset(t.Context(), h.data(srv)); err != nil {
			t.Fatal(err)
		}
	}
	srv.SetACL(h.acl...)
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	return data
}

func (h harm) undo(t *testing.T, srv *ldaptest.Server, data string) {
	t.Helper()
	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	if data != "" {
		if err := srv.Reset(t.Context(), data); err != nil {
			t.Fatal(err)
		}
	}
	srv.SetACL()
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// latest is the last pass.
func latest(t *testing.T, b *bus.Bus) status.Pass {
	t.Helper()
	p, err := status.LastPass(t.Context(), b, "corp")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// items are what is held and since when; each must have the reason.
func items(t *testing.T, b *bus.Bus, reason string) map[string]string {
	t.Helper()
	all, err := held.OfSource(b, "corp").List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, i := range all {
		out[provisioningv1.HeldKey("corp", i.Kind, i.ID)] = i.GetAction() + " since " + i.GetSince().AsTime().String()
		if !strings.Contains(i.GetReason(), reason) && i.Kind == directoryv1.Kind_KIND_USER {
			t.Errorf("%x is held because of %q, want %q", i.ID, i.GetReason(), reason)
		}
	}
	if reason != "" && len(out) == 0 {
		t.Errorf("nothing is held, want something because of %q", reason)
	}
	return out
}

// message is what stands in a stream under one subject.
type message struct {
	Sequence uint64
	Fields   string
	Data     []byte
}

// readAllStreams is everything that both streams hold, but the fences.
func readAllStreams(t *testing.T, b *bus.Bus) map[string]message {
	t.Helper()
	all := map[string]message{}
	for _, kind := range kinds {
		filters := []string{directoryv1.EntryFilter(kind, "corp")}
		if kind == directoryv1.Kind_KIND_GROUP {
			filters = append(filters, directoryv1.ChunkFilter("corp"))
		}
		err := b.Read(t.Context(), kind.Stream(), bus.ReadOptions{Filters: filters}, func(s *bus.Stored) error {
			all[s.Subject] = message{Sequence: s.Sequence, Fields: s.Header[directoryv1.HeaderFields], Data: bytes.Clone(s.Data)}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func sameStreams(t *testing.T, when string, before, after map[string]message) {
	t.Helper()
	if diff := gocmp.Diff(before, after); diff != "" {
		t.Errorf("%s: the streams changed: -before +after\n%.3000s", when, diff)
	}
}

// output is a log that a test reads.
type output struct {
	mu   sync.Mutex
	text strings.Builder
	also io.Writer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	return o.also.Write(p)
}

// lacks says that a text is not in the log yet, or nothing.
func (o *output) lacks(text string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if strings.Contains(o.text.String(), text) {
		return ""
	}
	return fmt.Sprintf("the log does not say %q", text)
}
