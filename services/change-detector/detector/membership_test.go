package detector

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/status"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// filterRules are the rules of a source whose users match this filter.
func filterRules(t *testing.T, filter string, change ...func(*connection.Source)) *rules {
	t.Helper()
	enabled, err := mapping.CompileBool(directoryv1.Kind_KIND_USER, "true")
	if err != nil {
		t.Fatal(err)
	}
	source := &connection.Source{
		Users:  connection.UserSource{BaseDNs: []string{"ou=p,dc=x"}, Filter: filter, MemberOf: "memberOf", Nested: true, PrimaryGroup: "primaryGroupID"},
		Groups: connection.GroupSource{BaseDNs: []string{"ou=g,dc=x"}, Filter: "(objectClass=group)", Members: "member", Nested: connection.NestedFlatten},
	}
	for _, f := range change {
		f(source)
	}
	r, err := newRules(source, enabled, mapping.NewSet([]string{"uid", "cn"}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// household is a directory with groups that hold each other in a circle: a holds b
// and ann, b holds c and bob, c holds a and cid. Dan is in a by his own word, and
// eve has c as her primary group.
func household(m *mirror) {
	m.Begin()
	for i, g := range []string{"a", "b", "c"} {
		next, user := string("bca"[i]), []string{"ann", "bob", "cid"}[i]
		m.Put(ent(i, "cn="+g+",ou=g,dc=x", "objectclass", "group", "cn", g, "objectsid", sidOf(100+i),
			"member", "cn="+next+",ou=g,dc=x", "member", "uid="+user+",ou=p,dc=x"))
		m.Put(ent(10+i, "uid="+user+",ou=p,dc=x", "uid", user))
	}
	m.Put(ent(13, "uid=dan,ou=p,dc=x", "uid", "dan", "memberof", "CN=A, ou=g,dc=x"))
	m.Put(ent(14, "uid=eve,ou=p,dc=x", "uid", "eve", "objectsid", sidOf(14), "primarygroupid", "102"))
	m.Complete()
}

// present are the uids of the users that are published as present.
func (st *stream) present() string {
	var uids []string
	for _, c := range st.changes {
		if u := c.GetUser(); u != nil && c.GetOp() == directoryv1.Op_OP_PRESENT {
			uids = append(uids, first(u.GetAttributes(), "uid"))
		}
	}
	slices.Sort(uids)
	return strings.Join(uids, " ")
}

func TestFilterNamesGroups(t *testing.T) {
	t.Parallel()
	const chain = "memberOf:1.2.840.113556.1.4.1941:"
	for filter, want := range map[string]string{
		"(&(uid=*)(memberOf=cn=a,ou=g,dc=x))":                                      "ann dan",
		"(&(uid=*)(isMemberOf=CN=A, OU=g,dc=x))":                                   "ann dan",
		"(&(uid=*)(memberOf=cn=c,ou=g,dc=x))":                                      "cid", // not eve: a primary group does not count
		"(&(uid=*)(" + chain + "=cn=b,ou=g,dc=x))":                                 "ann bob cid dan",
		"(&(uid=*)(!(memberOf=cn=a,ou=g,dc=x)))":                                   "bob cid eve",
		"(&(uid=*)(!(" + chain + "=cn=a,ou=g,dc=x)))":                              "eve",
		"(&(uid=*)(|(memberOf=cn=a,ou=g,dc=x)(uid=eve)))":                          "ann dan eve",
		"(&(uid=*)(memberOf=cn=a,ou=g,dc=x)(!(memberOf=cn=b,ou=g,dc=x)))":          "ann dan",
		"(&(uid=*)(memberOf=cn=gone,ou=g,dc=x))":                                   "",
		"(&(uid=*)(!(memberOf=cn=gone,ou=g,dc=x)))":                                "", // nobody can tell
		"(&(uid=*)(|(memberOf=cn=gone,ou=g,dc=x)(memberOf=cn=b,ou=g,dc=x)))":       "bob",
		"(&(uid=*)(|(!(memberOf=cn=gone,ou=g,dc=x))(memberOf=cn=gone,ou=g,dc=x)))": "ann bob cid dan eve",
	} {
		m := newMirror(filterRules(t, filter))
		household(m)
		var st stream
		st.settle(t, m)
		if got := st.present(); got != want {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
	}
}

// Who joins or leaves a group that the filter names is looked at again, though
// nothing of the user changed.
func TestFilterNamesGroups_changes(t *testing.T) {
	t.Parallel()
	m := newMirror(filterRules(t, "(&(uid=*)(memberOf:1.2.840.113556.1.4.1941:=cn=a,ou=g,dc=x))"))
	household(m)
	var st stream
	st.settle(t, m)
	m.Put(ent(1, "cn=b,ou=g,dc=x", "objectclass", "group", "cn", "b")) // empty, so that c is not in a any more
	st.settle(t, m)
	if got := st.present(); got != "ann dan" {
		t.Errorf("b was emptied: %q", got)
	}
	if reason := st.changes[makeID(12)].GetReason(); reason != directoryv1.Reason_REASON_FILTER {
		t.Errorf("cid left because of %s", reason)
	}
	m.Put(ent(1, "cn=b,ou=g,dc=x", "objectclass", "group", "cn", "b", "member", "uid=eve,ou=p,dc=x"))
	st.settle(t, m)
	if got := st.present(); got != "ann dan eve" {
		t.Errorf("eve joined b: %q", got)
	}
}

func TestPrimaryGroup(t *testing.T) {
	t.Parallel()
	scoped := func(s *connection.Source) { s.Users.ScopeGroups = []string{"cn=b,ou=g,dc=x"} }
	m := newMirror(filterRules(t, "(uid=*)", scoped))
	household(m)
	var st stream
	st.settle(t, m)
	if got := st.present(); got != "ann bob cid dan eve" {
		t.Errorf("in scope by nested groups: %q", got)
	}
	if got := memberCount(&st, makeID(2)); got != 5 {
		t.Errorf("c has %d members, want everybody", got)
	}
	// The group says nothing when eve's primary group is another one.
	m.Put(ent(14, "uid=eve,ou=p,dc=x", "uid", "eve", "objectsid", sidOf(14), "primarygroupid", "999"))
	st.settle(t, m)
	if got := memberCount(&st, makeID(2)); got != 4 {
		t.Errorf("c has %d members, want all but eve", got)
	}
	if got := st.present(); got != "ann bob cid dan" {
		t.Errorf("in scope without eve: %q", got)
	}
	// The group of an end that nobody had appears later.
	m.Put(ent(3, "cn=d,ou=g,dc=x", "objectclass", "group", "cn", "d", "objectsid", sidOf(999)))
	m.Put(ent(1, "cn=b,ou=g,dc=x", "objectclass", "group", "cn", "b", "objectsid", sidOf(101), "member", "cn=d,ou=g,dc=x"))
	st.settle(t, m)
	if got := st.present(); got != "eve" {
		t.Errorf("in scope by the new group: %q", got)
	}
	// Without the key nobody is a member by it.
	m = newMirror(filterRules(t, "(uid=*)", func(s *connection.Source) { s.Users.PrimaryGroup = "" }))
	household(m)
	st = stream{}
	st.settle(t, m)
	if got := memberCount(&st, makeID(2)); got != 4 {
		t.Errorf("c has %d members, want all but eve", got)
	}
}

// Any exclude wins, however specific a base inside it is.
func TestArea_covers(t *testing.T) {
	t.Parallel()
	a, err := newArea("users", []string{"dc=x", "ou=in,ou=out,dc=x", "dc=y"}, []string{"OU=Out, dc=x", "ou=never,ou=in,ou=out,dc=x", "uid=one,dc=y"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, name := range []string{
		"uid=a,dc=x", "uid=a,ou=out,dc=x", "ou=out,dc=x", "uid=a,ou=in,ou=out,dc=x", "uid=a,ou=never,ou=in,ou=out,dc=x",
		"uid=a,ou=outer,dc=x", "uid=one,dc=y", "uid=two,dc=y", "dc=y", "uid=a,dc=z", "uid=a,dc=xx",
	} {
		got[name] = a.covers(name)
	}
	want := map[string]bool{
		"uid=a,dc=x": true, "uid=a,ou=out,dc=x": false, "ou=out,dc=x": false, "uid=a,ou=in,ou=out,dc=x": false,
		"uid=a,ou=never,ou=in,ou=out,dc=x": false, "uid=a,ou=outer,dc=x": true, "uid=one,dc=y": false, "uid=two,dc=y": true,
		"dc=y": true, "uid=a,dc=z": false, "uid=a,dc=xx": false,
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// A member that is no entry, such as a foreign principal, is nobody until it
// appears, and nobody again when it is gone.
func TestForeignMemberHeals(t *testing.T) {
	t.Parallel()
	m := newMirror(filterRules(t, "(uid=*)"))
	var st stream
	m.Begin()
	group := ent(1, "cn=a,ou=g,dc=x", "objectclass", "group", "cn", "a", "member", "CN=S-1-5-21-9-9-9-500,CN=ForeignSecurityPrincipals,DC=x", "member", "uid=zoe,ou=far,dc=x")
	m.Put(group)
	m.Complete()
	for step, want := range []uint64{0, 1, 0, 1} {
		switch step {
		case 1, 3:
			m.Put(ent(2, "uid=zoe,ou=far,dc=x", "uid", "zoe"))
		case 2:
			m.Gone(makeID(2))
		}
		if _, again := m.reread[makeID(1)]; again {
			m.Put(group)
		}
		st.settle(t, m)
		if got := memberCount(&st, makeID(1)); got != want {
			t.Errorf("step %d: %d members, want %d", step, got, want)
		}
	}
}

// While a group is hidden that the filter names, nobody leaves by it, and the reason
// says which key to look at. The group itself is not one of the source's groups.
func TestHiddenGroupOfAFilterHoldsRemovals(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{connection.ModeSyncrepl, connection.ModeSnapshot} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			srv := ldaptest.Start(t, ldaptest.Options{LDIF: workforce(3)})
			b := bustest.Start(t)
			cfg := realConfig(t, srv,
				[2]string{"preset: openldap", fmt.Sprintf("preset: openldap\n    detection: {mode: %s, interval: 1s}", mode)},
				[2]string{`"(objectClass=inetOrgPerson)"`, `"(&(objectClass=inetOrgPerson)(memberOf=cn=chosen,ou=system,dc=example,dc=com))"`},
				[2]string{`"(objectClass=groupOfNames)"`, `"(cn=staff)"`})
			chosen := "dn: cn=chosen,ou=system,dc=example,dc=com\n"
			member := func(n int) string { return fmt.Sprintf("member: uid=u%d,ou=people,dc=example,dc=com\n", n) }
			srv.LDIF(t, chosen+"changetype: add\nobjectClass: groupOfNames\ncn: chosen\n"+member(0)+member(1))
			start(t, cfg, b)
			awaitPass(t, b, status.Pass{}, func(p status.Pass) bool { return p.Users == 2 })
			srv.LDIF(t, chosen+"changetype: modify\nadd: member\n"+member(2))
			await(t, func() string { return presentUsers(t, b, 3) })
			srv.LDIF(t, chosen+"changetype: delete\n")
			await(t, func() string {
				items := list(t, b)
				if len(items) != 3 {
					return fmt.Sprintf("%d are held", len(items))
				}
				for _, i := range items {
					if !strings.Contains(i.GetReason(), "sources.corp.users.filter: cn=chosen,ou=system,dc=example,dc=com is not visible") {
						t.Fatalf("held because of %q", i.GetReason())
					}
				}
				return ""
			})
			srv.LDIF(t, chosen+"changetype: add\nobjectClass: groupOfNames\ncn: chosen\n"+member(0)+member(1))
			await(t, func() string { return presentUsers(t, b, 2) })
		})
	}
}

// presentUsers says what is wrong when not so many users are published as present.
func presentUsers(t *testing.T, b *bus.Bus, want int) string {
	t.Helper()
	n := 0
	for subject, header := range readHeaders(t, b) {
		if strings.HasPrefix(subject, "directory.users.") && header[directoryv1.HeaderOp] == directoryv1.Op_OP_PRESENT.String() {
			n++
		}
	}
	if n == want {
		return ""
	}
	return fmt.Sprintf("%d users are present, want %d", n, want)
}
