package ldapsource

import (
	"encoding/hex"
	"errors"
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
		{Name: "objectGUID", Values: []string{strings.Repeat("\x00", 15) + string(rune(n))}},
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

func TestPages_unproved(t *testing.T) {
	t.Parallel()
	users := []fake.Message{fakeUser(10), fakeUser(11), fakeUser(12)}
	limit := func(code uint16) error { return ldap.NewError(code, errors.New("x")) }
	for name, test := range map[string]struct {
		page func(cookie string) fake.Answer
		want error
	}{
		"cut in the first page":    {func(string) fake.Answer { return fake.Answer{Messages: users, Cut: true} }, nil},
		"no paging control":        {func(string) fake.Answer { return fake.Answer{Messages: users} }, ErrIncomplete},
		"size limit in a page":     {func(string) fake.Answer { return fake.Answer{Messages: users, Code: ldap.LDAPResultSizeLimitExceeded} }, limit(4)},
		"admin limit after a page": {secondPage(users, fake.Answer{Code: ldap.LDAPResultAdminLimitExceeded}), limit(11)},
		"size limit after a page":  {secondPage(users, fake.Answer{Code: ldap.LDAPResultSizeLimitExceeded}), limit(4)},
		"busy after a page":        {secondPage(users, fake.Answer{Code: ldap.LDAPResultBusy}), limit(51)},
		"cut after a page":         {secondPage(users, fake.Answer{Cut: true}), nil},
		"one page for ever":        {func(string) fake.Answer { return page("same", users...) }, ErrIncomplete},
		"two pages for ever": {func(cookie string) fake.Answer {
			if cookie == "a" {
				return page("b", users[0])
			}
			return page("a", users[1])
		}, ErrIncomplete},
		"empty pages for ever": {func(cookie string) fake.Answer { return page(cookie + "x") }, ErrIncomplete},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFake(3)
			d.other = func(s fake.Search) (fake.Answer, bool) {
				cookie, ok := pagedFrom(s)
				if !ok {
					return fake.Answer{}, false
				}
				return test.page(cookie), true
			}
			r := watch(t, fakeSource(t, d, ModeSnapshot))
			err := r.end(t)
			e, isLDAP := errors.AsType[*ldap.Error](test.want)
			if err == nil || isLDAP && !isCode(err, e.ResultCode) || !isLDAP && test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("the session ended with %v, want %v", err, test.want)
			}
			harmless(t, r, 0)
		})
	}
}

func secondPage(first []fake.Message, second fake.Answer) func(string) fake.Answer {
	return func(cookie string) fake.Answer {
		if cookie == "" {
			return page("next", first...)
		}
		return second
	}
}

// One cookie for all pages is allowed; references may stand anywhere; and a server
// that takes small pages only gets them.
func TestPages_proved(t *testing.T) {
	t.Parallel()
	d := newFake(3)
	var sizes []uint32
	calls := 0
	d.other = func(s fake.Search) (fake.Answer, bool) {
		if _, ok := pagedFrom(s); !ok {
			return fake.Answer{}, false
		}
		size := ldap.FindControl(s.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging).PagingSize
		if sizes = append(sizes, size); size > 300 {
			return fake.Answer{Code: ldap.LDAPResultAdminLimitExceeded}, true
		}
		calls++
		if calls <= len(d.entries)-1 {
			return page("always", fake.Message{URL: "ldap://other.test/DC=other"}, d.entries[calls-1], fake.Message{URL: "ldap://third.test/"}), true
		}
		return page("", d.entries[calls-1]), true
	}
	s := fakeSource(t, d, ModeSnapshot, func(c *connection.Source) { c.Detection.Interval = time.Hour })
	got := watch(t, s).next(t)
	if len(got.entries) != 4 || got.proof.Referrals != 6 || !slices.Equal(sizes[:3], []uint32{1000, 500, 250}) {
		t.Errorf("%v, %+v, page sizes %v", got.dns(), got.proof, sizes)
	}
}

// Values beyond 1,500 come in ranges, beside an empty attribute of that name. A group
// of which a part cannot be read is no group with fewer members.
func TestRanges(t *testing.T) {
	t.Parallel()
	values := func(from, to int) []string {
		var all []string
		for i := from; i < to; i++ {
			all = append(all, fmt.Sprintf("CN=m%d,%s", i, fakeBase))
		}
		return all
	}
	group := fakeEntry(90, "CN=big,"+fakeBase, "objectClass", "group")
	group.Attributes = append(group.Attributes, fake.Attribute{Name: "member"}, fake.Attribute{Name: "member;range=0-1499", Values: values(0, 1500)})
	rest := func(name string, all []string) fake.Answer {
		return fake.Answer{Messages: []fake.Message{{DN: group.DN, Attributes: []fake.Attribute{{Name: "member"}, {Name: name, Values: all}}}}}
	}
	for name, test := range map[string]struct {
		second, third fake.Answer
		fails         bool
	}{
		"all of it":          {rest("member;range=1500-2999", values(1500, 3000)), rest("member;range=3000-*", values(3000, 3003)), false},
		"nothing":            {fake.Answer{}, fake.Answer{}, true},
		"the same again":     {rest("member;range=0-1499", values(0, 1500)), fake.Answer{}, true},
		"without the range":  {rest("member", nil), fake.Answer{}, true},
		"no more rights":     {fake.Answer{Code: ldap.LDAPResultInsufficientAccessRights}, fake.Answer{}, true},
		"a gap":              {rest("member;range=1501-*", values(1501, 3003)), fake.Answer{}, true},
		"with another range": {rest("member;range=1500-many", values(1500, 3000)), fake.Answer{}, true},
		"cut":                {rest("member;range=1500-2999", values(1500, 3000)), fake.Answer{Cut: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFake(1)
			d.entries = append(d.entries, group)
			d.other = func(s fake.Search) (fake.Answer, bool) {
				switch {
				case slices.Contains(s.Attributes, "member;range=1500-*"):
					return test.second, true
				case slices.Contains(s.Attributes, "member;range=3000-*"):
					return test.third, true
				}
				return fake.Answer{}, false
			}
			s := fakeSource(t, d, ModeSnapshot, func(c *connection.Source) { c.Detection.Interval = time.Hour })
			if test.fails {
				r := watch(t, s)
				if err := r.end(t); err == nil {
					t.Error("no error")
				}
				harmless(t, r, 0)
				return
			}
			e := watch(t, s).next(t).byDN("CN=big," + fakeBase)
			if got := e.Values("member"); len(got) != 3003 || string(got[3002]) != "CN=m3002,"+fakeBase {
				t.Errorf("%d members", len(got))
			}
		})
	}
}

// What is no range is no whole attribute either.
func TestRanges_unreadable(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"member;range=0-many", "member;range=0", "member;range=", "member;range=0-9223372036854775807", "member;range=1-*"} {
		d := newFake(1)
		group := fakeEntry(90, "CN=big,"+fakeBase, "objectClass", "group", name, "CN=u10,"+fakeBase)
		d.entries = append(d.entries, group)
		r := watch(t, fakeSource(t, d, ModeSnapshot))
		if err := r.end(t); !errors.Is(err, ErrIncomplete) {
			t.Errorf("%s: the session ended with %v", name, err)
		}
		harmless(t, r, 0)
	}
}

// Another server, or a database from yesterday, ends the session on whichever
// connection it shows.
func TestController_another(t *testing.T) {
	t.Parallel()
	sweeping := func(c *connection.Source) { c.Detection.SweepInterval = time.Millisecond }
	quiet := func(c *connection.Source) { c.Detection.Interval, c.Detection.SweepInterval = time.Hour, 0 }
	for name, change := range map[string]func(d *controllerFake){
		"another server":      func(d *controllerFake) { d.service = "CN=NTDS Settings,CN=DC2,CN=Configuration," + fakeTop },
		"a restored database": func(d *controllerFake) { d.origin = "fedcba9876543210" },
		"an id that vanished": func(d *controllerFake) { d.origin = "" },
		"an earlier state":    func(d *controllerFake) { d.usn = 999 },
	} {
		for _, m := range []Mode{ModeDirSync, ModeUSN} {
			t.Run(fmt.Sprintf("%s %s", m, name), func(t *testing.T) {
				t.Parallel()
				d := newFake(3)
				s := fakeSource(t, d, m)
				r := watch(t, s)
				r.next(t)
				d.do(func() {
					change(d)
					d.entries = d.entries[:1] // which would be a disaster
				})
				if err := r.end(t); !errors.Is(err, ErrServer) {
					t.Errorf("the session ended with %v", err)
				}
				harmless(t, r, 1)
			})
		}
		if name == "an earlier state" {
			continue // shows where numbers are asked for
		}
		t.Run("further connections "+name, func(t *testing.T) {
			t.Parallel()
			d := newFake(3)
			s := fakeSource(t, d, ModeDirSync, sweeping, func(c *connection.Source) { c.Detection.Interval = time.Hour })
			d.other = func(search fake.Search) (fake.Answer, bool) {
				if search.Conn > 4 { // after the probe, two of the session, and the first read
					change(d)
					d.entries = d.entries[:1]
				}
				return fake.Answer{}, false
			}
			r := watch(t, s)
			if err := r.end(t); !errors.Is(err, ErrServer) {
				t.Errorf("the session ended with %v", err)
			}
			harmless(t, r, 1)
		})
		t.Run("confirm "+name, func(t *testing.T) {
			t.Parallel()
			d := newFake(3)
			s := fakeSource(t, d, ModeUSN, quiet)
			r := watch(t, s)
			known := r.next(t).byDN("CN=u10," + fakeBase).ID
			d.do(func() { change(d) })
			if _, err := s.Confirm(t.Context(), []ID{{1}}, []ID{known}); !errors.Is(err, ErrServer) {
				t.Errorf("Confirm ended with %v", err)
			}
		})
	}
}

func TestController_name(t *testing.T) {
	t.Parallel()
	for origin, want := range map[string]string{fakeOrigin: hex.EncodeToString([]byte(fakeOrigin)), "": fakeNTDS} {
		d := newFake(1)
		d.origin = origin
		if got := watch(t, fakeSource(t, d, ModeUSN)).next(t); got.proof.Server != want || got.proof.Mode != ModeUSN {
			t.Errorf("%+v, want server %s", got.proof, want)
		}
	}
}

func TestChoose_activeDirectory(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		refuse func(flags int64) uint16
		want   Mode
		reason string
	}{
		"with the right":       {func(int64) uint16 { return 0 }, ModeDirSync, "offers DirSync"},
		"without":              {func(f int64) uint16 { return uint16(50 * (1 - f&ldap.DirSyncObjectSecurity)) }, ModeDirSync, "no right Replicating Directory Changes"},
		"not at all":           {func(int64) uint16 { return 50 }, ModeUSN, "uSNChanged"},
		"for another reason":   {func(int64) uint16 { return 53 }, ModeUSN, "uSNChanged"},
		"without any deletion": {nil, ModeSnapshot, "usn does not work"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFake(1)
			if test.refuse == nil {
				d.controls = []string{ldap.ControlTypePaging}
			}
			d.other = func(s fake.Search) (fake.Answer, bool) {
				c, ok := ldap.FindControl(s.Controls, ldap.ControlTypeDirSync).(*ldap.ControlDirSync)
				if !ok || test.refuse(c.Flags) == 0 {
					return fake.Answer{}, false
				}
				return fake.Answer{Code: test.refuse(c.Flags)}, true
			}
			got, err := fakeSource(t, d, ModeAuto).Probe(t.Context())
			if err != nil || got.Mode != test.want || !strings.Contains(got.Reason, test.reason) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
