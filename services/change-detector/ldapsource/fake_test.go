package ldapsource

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/fake"
)

const (
	fakeTop    = "DC=example,DC=test"
	fakeBase   = "OU=people," + fakeTop
	fakeOrigin = "0123456789abcdef"
	fakeNTDS   = "CN=NTDS Settings,CN=DC1,CN=Configuration," + fakeTop
)

// controllerFake is a domain controller of which a test decides every answer.
type controllerFake struct {
	mu       sync.Mutex
	usn      int64
	service  string
	origin   string
	controls []string
	entries  []fake.Message
	// dirsync answers a DirSync search that came with a cookie; nil: nothing changed.
	dirsync func(cookie string, s fake.Search) fake.Answer
	// other answers before everything else, unless it says false.
	other func(s fake.Search) (fake.Answer, bool)
}

func newFake(users int) *controllerFake {
	d := &controllerFake{
		usn: 1000, service: fakeNTDS, origin: fakeOrigin,
		controls: []string{ldap.ControlTypePaging, ldap.ControlTypeDirSync, controlDeleted},
		entries:  []fake.Message{fakeEntry(1, fakeBase, "objectClass", "organizationalUnit")},
	}
	for i := range users {
		d.entries = append(d.entries, fakeUser(10+i))
	}
	return d
}

func fakeEntry(n int, dn string, pairs ...string) fake.Message {
	m := fake.Message{DN: dn, Attributes: []fake.Attribute{
		{Name: "objectGUID", Values: []string{strings.Repeat("\x00", 14) + string([]byte{byte(n >> 8), byte(n)})}},
		{Name: "uSNChanged", Values: []string{strconv.Itoa(n)}},
	}}
	for pair := range slices.Chunk(pairs, 2) {
		m.Attributes = append(m.Attributes, fake.Attribute{Name: pair[0], Values: []string{pair[1]}})
	}
	return m
}

func fakeUser(n int, pairs ...string) fake.Message {
	name := fmt.Sprintf("u%d", n)
	return fakeEntry(n, "CN="+name+","+fakeBase, append([]string{"objectClass", "user", "cn", name}, pairs...)...)
}

// do changes the domain between two answers.
func (d *controllerFake) do(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *controllerFake) answer(s fake.Search) fake.Answer {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.other != nil {
		if a, ok := d.other(s); ok {
			return a
		}
	}
	if c, ok := ldap.FindControl(s.Controls, ldap.ControlTypeDirSync).(*ldap.ControlDirSync); ok {
		if len(c.Cookie) == 0 || d.dirsync == nil {
			return dirsyncAnswer("marked", 0)
		}
		return d.dirsync(string(c.Cookie), s)
	}
	return d.search(s)
}

func (d *controllerFake) search(s fake.Search) fake.Answer {
	switch {
	case s.Base == "":
		return fake.Answer{Messages: []fake.Message{{Attributes: []fake.Attribute{
			{Name: "supportedCapabilities", Values: []string{capabilityAD}},
			{Name: "supportedControl", Values: d.controls},
			{Name: "namingContexts", Values: []string{"CN=Configuration," + fakeTop, fakeTop}},
			{Name: "dsServiceName", Values: []string{d.service}},
			{Name: "dnsHostName", Values: []string{"dc1.example.test"}},
			{Name: "highestCommittedUSN", Values: []string{strconv.FormatInt(d.usn, 10)}},
		}}}}
	case s.Base == d.service && d.origin == "":
		return fake.Answer{Code: ldap.LDAPResultNoSuchObject}
	case s.Base == d.service:
		return fake.Answer{Messages: []fake.Message{{DN: d.service, Attributes: []fake.Attribute{{Name: "invocationId", Values: []string{d.origin}}}}}}
	}
	return fake.Answer{Messages: d.found(s), Controls: lastPage(s)}
}

func (d *controllerFake) found(s fake.Search) []fake.Message {
	var found []fake.Message
	for _, m := range d.entries {
		dead := len(m.Values("isDeleted")) > 0 && ldap.FindControl(s.Controls, controlDeleted) == nil
		if s.Matches(m) && !dead {
			found = append(found, m)
		}
	}
	return found
}

// lastPage is the answer's paging control, where the request had one.
func lastPage(s fake.Search) []ldap.Control {
	if ldap.FindControl(s.Controls, ldap.ControlTypePaging) == nil {
		return nil
	}
	return []ldap.Control{&ldap.ControlPaging{}}
}

func page(cookie string, messages ...fake.Message) fake.Answer {
	return fake.Answer{Messages: messages, Controls: []ldap.Control{&ldap.ControlPaging{Cookie: []byte(cookie)}}}
}

func dirsyncAnswer(cookie string, flags int64, messages ...fake.Message) fake.Answer {
	return fake.Answer{Messages: messages, Controls: []ldap.Control{ldap.NewRequestControlDirSync(flags, 0, []byte(cookie))}}
}

// pagedFrom is the cookie of a paged search of the base, and whether it is one.
func pagedFrom(s fake.Search) (string, bool) {
	c, ok := ldap.FindControl(s.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
	if !ok || s.Base != fakeBase {
		return "", false
	}
	return string(c.Cookie), true
}

func fakeSource(t *testing.T, d *controllerFake, m Mode, change ...func(*connection.Source)) *Source {
	t.Helper()
	srv := fake.Start(t, d.answer)
	cfg := &connection.Source{
		Name: "corp", LDAP: connection.LDAP{URLs: []string{srv.URL}, PageSize: 1000, ReadTimeout: patience},
		ID:        connection.IDAttribute{Attribute: "objectGUID", Encoding: "bytes"},
		Users:     connection.UserSource{BaseDNs: []string{fakeBase}},
		Groups:    connection.GroupSource{Members: "member"},
		Detection: connection.Detection{Mode: string(m), Interval: time.Millisecond},
	}
	for _, f := range change {
		f(cfg)
	}
	s, err := New(cfg, []string{"cn", "mail"}, Deps{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.census = time.Hour
	return s
}

// harmless fails the test where anything was called gone, or complete more often
// than it may be.
func harmless(t *testing.T, r *recorder, completes int) {
	t.Helper()
	n := 0
	for _, call := range r.log {
		if strings.HasPrefix(call, "gone ") {
			t.Errorf("concluded: %s", call)
		}
		if call == "complete" {
			n++
		}
	}
	if n > completes {
		t.Errorf("%d full reads, want at most %d: %v", n, completes, r.log)
	}
}
