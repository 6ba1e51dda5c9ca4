package ldapsource

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/fake"
)

// delta is what DirSync says of a changed entry.
func delta(n int, dn string, attributes ...fake.Attribute) fake.Message {
	return fake.Message{DN: dn, Attributes: append([]fake.Attribute{
		{Name: "objectGUID", Values: fakeEntry(n, "").Values("objectGUID")}, {Name: "instanceType", Values: []string{"4"}},
	}, attributes...)}
}

// An answer may come in several pieces, each with a cookie for the next.
func TestDirSync_severalRounds(t *testing.T) {
	t.Parallel()
	d := newFake(3)
	var cookies []string
	d.dirsync = func(cookie string, _ fake.Search) fake.Answer {
		cookies = append(cookies, cookie)
		switch cookie {
		case "marked":
			return dirsyncAnswer("one", 1, delta(10, "CN=u10,"+fakeBase, fake.Attribute{Name: "mail", Values: []string{"a"}}))
		case "one":
			return dirsyncAnswer("two", 1)
		case "two":
			return dirsyncAnswer("three", 0, delta(11, "CN=u11,"+fakeBase, fake.Attribute{Name: "mail"}))
		}
		return dirsyncAnswer("four", 0)
	}
	f, r := follow(t, fakeSource(t, d, ModeDirSync))
	r.log = nil
	d.do(func() {
		d.usn++
		d.entries[1] = fakeUser(10, "mail", "new@example.test")
		d.entries[2] = fakeUser(11, "mail", "new@example.test")
	})
	if err := f.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(r.log)
	if diff := cmp.Diff([]string{"put CN=u10," + fakeBase, "put CN=u11," + fakeBase}, r.log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, wrote := range []int64{0, 1} { // a server that wrote nothing is not asked
		d.do(func() { d.usn += wrote })
		if err := f.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"marked", "one", "two", "three"}; !slices.Equal(cookies, want) {
		t.Errorf("asked with the cookies %v, want %v", cookies, want)
	}
}

// What is not proved ends the session, and nothing is concluded.
func TestDirSync_unproved(t *testing.T) {
	t.Parallel()
	gone := delta(10, "CN=u10\nDEL:x,CN=Deleted Objects,"+fakeTop, fake.Attribute{Name: "isDeleted", Values: []string{"TRUE"}})
	for name, test := range map[string]struct {
		answer fake.Answer
		want   error
	}{
		"cut":                  {fake.Answer{Messages: []fake.Message{gone}, Cut: true}, nil},
		"no control":           {fake.Answer{Messages: []fake.Message{gone}}, ErrIncomplete},
		"no cookie":            {dirsyncAnswer("", 0, gone), ErrIncomplete},
		"more and no progress": {dirsyncAnswer("marked", 1, gone), ErrIncomplete},
		"refused":              {fake.Answer{Messages: []fake.Message{gone}, Code: ldap.LDAPResultUnwillingToPerform}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFake(3)
			d.dirsync = func(string, fake.Search) fake.Answer { return test.answer }
			f, r := follow(t, fakeSource(t, d, ModeDirSync))
			d.do(func() { d.usn++ })
			if err := f.poll(t.Context()); err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("the poll ended with %v, want %v", err, test.want)
			}
			harmless(t, r, 1)
			if len(r.mirror) != 4 {
				t.Errorf("%d entries are left", len(r.mirror))
			}
		})
	}
}

// What one delta makes of an entry: a link where only members changed, a look-up
// otherwise, and nothing for who is not ours.
func TestDirSync_deltas(t *testing.T) {
	t.Parallel()
	member := func(part string, names ...string) fake.Attribute {
		a := fake.Attribute{Name: "member;range=" + part}
		for _, n := range names {
			a.Values = append(a.Values, "CN="+n+","+fakeBase)
		}
		return a
	}
	group := "CN=g," + fakeBase
	for name, test := range map[string]struct {
		deltas []fake.Message
		there  []fake.Message // as a search finds them
		want   []string
	}{
		"join":                 {[]fake.Message{delta(50, group, member("1-1", "u10"))}, nil, []string{"link " + group + " +1 -0"}},
		"join and leave":       {[]fake.Message{delta(50, group, member("0-0", "u11"), member("1-1", "u10", "u12"))}, nil, []string{"link " + group + " +2 -1"}},
		"in another case":      {[]fake.Message{delta(50, group, fake.Attribute{Name: "MEMBER;RANGE=1-1", Values: []string{"CN=x"}})}, nil, []string{"link " + group + " +1 -0"}},
		"all members":          {[]fake.Message{delta(50, group, fake.Attribute{Name: "member", Values: []string{"CN=x"}})}, nil, []string{"put " + group}},
		"members and more":     {[]fake.Message{delta(50, group, member("1-1", "u10"), fake.Attribute{Name: "mail"})}, nil, []string{"put " + group}},
		"in two pieces":        {[]fake.Message{delta(50, group, member("1-1", "u10")), delta(50, group, fake.Attribute{Name: "mail"})}, nil, []string{"put " + group}},
		"not known":            {[]fake.Message{delta(60, "CN=h,"+fakeBase, member("1-1", "u10"))}, []fake.Message{fakeEntry(60, "CN=h,"+fakeBase)}, []string{"put CN=h," + fakeBase}},
		"not known, not there": {[]fake.Message{delta(60, "CN=h,"+fakeBase, member("1-1", "u10"))}, nil, nil},
		"elsewhere":            {[]fake.Message{delta(61, "CN=far,"+fakeTop, member("1-1", "u10"))}, nil, nil},
		"moved away":           {[]fake.Message{delta(51, "CN=u51,"+fakeTop, fake.Attribute{Name: "name"})}, nil, []string{"gone CN=u51," + fakeBase}},
		"deleted": {
			[]fake.Message{delta(51, "CN=u51,CN=Deleted Objects,"+fakeTop, fake.Attribute{Name: "isDeleted", Values: []string{"TRUE"}})},
			nil,
			[]string{"gone CN=u51," + fakeBase},
		},
		"deleted and brought back": {
			[]fake.Message{delta(51, "CN=u51,CN=Deleted Objects,"+fakeTop, fake.Attribute{Name: "isDeleted", Values: []string{"TRUE"}})},
			[]fake.Message{fakeUser(51, "mail", "back")},
			[]string{"put CN=u51," + fakeBase},
		},
		"another one deleted": {[]fake.Message{delta(62, "CN=u62,CN=Deleted Objects,"+fakeTop, fake.Attribute{Name: "isDeleted", Values: []string{"TRUE"}})}, nil, nil},
		"without an id":       {[]fake.Message{{DN: group, Attributes: []fake.Attribute{member("1-1", "u10")}}}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFake(3)
			d.entries = append(d.entries, fakeEntry(50, group, "objectClass", "group"), fakeUser(51))
			d.dirsync = func(string, fake.Search) fake.Answer { return dirsyncAnswer("next", 0, test.deltas...) }
			f, r := follow(t, fakeSource(t, d, ModeDirSync))
			r.log = nil
			d.do(func() {
				d.usn++
				d.entries = d.entries[:len(d.entries)-1]
				d.entries[len(d.entries)-1] = fakeEntry(50, group, "objectClass", "group", "mail", "new")
				d.entries = append(d.entries, test.there...)
			})
			if err := f.poll(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, r.log); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The mark comes before the read, and the number of the last change before the
// cookie: what happens in between is asked for.
func TestDirSync_marksFirst(t *testing.T) {
	t.Parallel()
	d := newFake(3)
	var asked []string
	d.other = func(s fake.Search) (fake.Answer, bool) {
		switch cookie, paged := pagedFrom(s); {
		case ldap.FindControl(s.Controls, ldap.ControlTypeDirSync) != nil:
			asked = append(asked, "dirsync "+s.Filter())
		case paged && cookie == "" && len(s.Attributes) > 2:
			asked = append(asked, "read")
		case slices.Contains(s.Attributes, "highestcommittedusn"):
			asked = append(asked, "usn")
		}
		return fake.Answer{}, false
	}
	follow(t, fakeSource(t, d, ModeDirSync))
	at := slices.Index(asked, "read")
	before := strings.Join(asked[:at], ", ")
	if !strings.Contains(before, "usn, dirsync "+nothing) || slices.Contains(asked[at:], "dirsync "+nothing) {
		t.Errorf("asked for %v", asked)
	}
}

// Of uSNChanged every entry is read whole, the deleted ones too.
func TestUSN_changes(t *testing.T) {
	t.Parallel()
	d := newFake(5)
	far := fakeEntry(70, "CN=far,"+fakeTop)
	d.entries = append(d.entries, far)
	f, r := follow(t, fakeSource(t, d, ModeUSN))
	r.log = nil
	changed := func(n, usn int, pairs ...string) fake.Message {
		m := fakeUser(n, pairs...)
		m.Attributes[1].Values = []string{strconv.Itoa(usn)}
		return m
	}
	d.do(func() {
		d.usn = 1006
		d.entries[1] = changed(10, 1001, "mail", "new")
		d.entries[2] = changed(11, 1002)
		d.entries[2].DN = "CN=u11," + fakeTop
		d.entries[3] = changed(12, 1003, "isDeleted", "TRUE")
		d.entries[4] = changed(13, 1000, "mail", "not changed since the mark")
		d.entries[6].Attributes[1].Values = []string{"1005"}
		d.entries = append(d.entries, changed(80, 1006))
	})
	if err := f.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(r.log)
	want := []string{"gone CN=u11," + fakeBase, "gone CN=u12," + fakeBase, "put CN=u10," + fakeBase, "put CN=u80," + fakeBase}
	if diff := cmp.Diff(want, r.log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := r.mirror[ID{15: 10}].Version; got != "00000000000000001001" {
		t.Errorf("version %q", got)
	}
}

// Where a server sets the modifyTimestamp with the first change only, new entries
// have a time all the same.
func TestTimestamp_createTimestamp(t *testing.T) {
	t.Parallel()
	d := newFake(0)
	d.controls = []string{ldap.ControlTypePaging}
	d.entries[0] = fakeEntry(1, fakeBase, "objectClass", "organizationalUnit", "modifyTimestamp", "20260101000000Z", "createTimestamp", "20250101000000Z")
	f, r := follow(t, fakeSource(t, d, ModeTimestamp))
	r.log = nil
	d.do(func() { d.entries = append(d.entries, fakeUser(20, "createTimestamp", "20260102000000Z")) })
	if err := f.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"put CN=u20," + fakeBase}; !slices.Equal(want, r.log) || r.mirror[ID{15: 20}].Version != "20260102000000.000000Z" {
		t.Errorf("%v, %+v", r.log, r.mirror)
	}
}
