package ldapsource

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/fake"
)

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
