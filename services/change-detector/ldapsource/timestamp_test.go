package ldapsource

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// withoutCSN hides entryCSN, so that the second is the finest time there is.
const withoutCSN = "access to attrs=entryCSN by * none"

// polled makes a source that asks for changes all the time, and censuses as often.
func polled(t *testing.T, cfg *connection.Source) *Source {
	t.Helper()
	cfg.Detection.Interval = 20 * time.Millisecond
	s := source(t, cfg)
	s.census = 50 * time.Millisecond
	return s
}

// stamps runs a test at a server of each kind: one with entryCSN, one without.
func stamps(t *testing.T, test func(t *testing.T, srv *ldaptest.Server), ldif string) {
	t.Helper()
	for name, acl := range map[string][]string{"entryCSN": nil, "modifyTimestamp": {withoutCSN}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, ldaptest.Start(t, ldaptest.Options{NoSync: true, LDIF: ldif, ACL: acl}))
		})
	}
}

func TestTimestamp_followsEveryKindOfChange(t *testing.T) {
	t.Parallel()
	stamps(t, func(t *testing.T, srv *ldaptest.Server) {
		t.Helper()
		r := watch(t, polled(t, config(srv)))
		first := r.next(t)
		if first.proof.Mode != ModeTimestamp || first.proof.Server != srv.URL || len(first.entries) != 29 {
			t.Fatalf("full read: %+v, %d entries", first.proof, len(first.entries))
		}
		old := first.byDN("uid=u0001," + people)
		for _, step := range []struct {
			name, ldif string
			done       func(state) bool
		}{
			{"add", user("zoe", people), func(s state) bool { return s.byDN("uid=zoe,"+people) != nil }},
			{
				"modify", "dn: uid=u0001," + people + "\nchangetype: modify\nreplace: sn\nsn: Bond\n",
				func(s state) bool { return string(s.entries[old.ID].Values("sn")[0]) == "Bond" },
			},
			{
				"rename", "dn: uid=u0001," + people + "\nchangetype: modrdn\nnewrdn: uid=james\ndeleteoldrdn: 1\n",
				func(s state) bool { return s.entries[old.ID].DN == "uid=james,"+people },
			},
			{
				"group", "dn: cn=staff," + groups + "\nchangetype: modify\nadd: member\nmember: uid=u0002," + people + "\n",
				func(s state) bool { return len(s.byDN("cn=staff,"+groups).Values("member")) == 2 },
			},
			{"delete", "dn: uid=u0003," + people + "\nchangetype: delete\n", func(s state) bool { return s.byDN("uid=u0003,"+people) == nil }},
			{
				"rename of a container", "dn: ou=full," + people + "\nchangetype: modrdn\nnewrdn: ou=renamed\ndeleteoldrdn: 1\n",
				func(s state) bool { return s.byDN("ou=renamed,"+people) != nil },
			},
		} {
			srv.LDIF(t, step.ldif)
			r.until(t, step.name, step.done)
		}
	}, users(20)+group("staff", "uid=u0000,"+people)+
		"dn: ou=full,"+people+"\nobjectClass: organizationalUnit\nou: full\n\n"+user("child", "ou=full,"+people))
}

// Many writes a second, while it polls: what it says in the end is what is there.
func TestTimestamp_losesNothing(t *testing.T) {
	t.Parallel()
	const n, writes = 40, 400
	stamps(t, func(t *testing.T, srv *ldaptest.Server) {
		t.Helper()
		r := watch(t, polled(t, config(srv, mode(ModeTimestamp), bases(people))))
		r.next(t)
		wrote := make(chan error, 1)
		go func() {
			var b strings.Builder
			for i := range writes {
				fmt.Fprintf(&b, "dn: uid=u%04d,%s\nchangetype: modify\nreplace: sn\nsn: %d\n\n", i%n, people, i)
			}
			wrote <- srv.Apply(t.Context(), b.String())
		}()
		r.until(t, "the last write of each", func(s state) bool {
			for i := range n {
				if string(s.byDN(fmt.Sprintf("uid=u%04d,%s", i, people)).Values("sn")[0]) != strconv.Itoa(writes-n+i) {
					return false
				}
			}
			return true
		})
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	}, users(n))
}

// follow is a follower that did its full read and asks when the test says so.
func follow(t *testing.T, s *Source) (*follower, *recorder) {
	t.Helper()
	server, err := s.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.session.Store(server)
	r := &recorder{mirror: map[ID]*Entry{}}
	f := newFollower(s, server, joined(t, s), r)
	f.conn = joined(t, s)
	f.track(server.tracker)
	if err := f.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f, r
}

func joined(t *testing.T, s *Source) *conn {
	t.Helper()
	c, err := s.join(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// An idle directory is asked again and again, and the sink hears nothing, though
// each poll returns the entries that were loaded last.
func TestTimestamp_idleDirectoryIsQuiet(t *testing.T) {
	t.Parallel()
	stamps(t, func(t *testing.T, srv *ldaptest.Server) {
		t.Helper()
		f, r := follow(t, source(t, config(srv)))
		r.log, f.unsaid = nil, false
		for range 3 {
			repeats := 0
			err := f.tracker.changes(t.Context(), f.conn, func(event) error {
				repeats++
				return nil
			})
			if err != nil || repeats == 0 {
				t.Fatalf("%d repeats, %v", repeats, err)
			}
			if err := errors.Join(f.poll(t.Context()), f.census(t.Context())); err != nil {
				t.Fatal(err)
			}
			if len(r.log) > 0 || f.unsaid {
				t.Fatalf("nothing happened, and the sink was told %v", r.log)
			}
		}
		f.tracker.(*timestamp).since = time.Now().Add(-2 * quiet)
		if err := f.poll(t.Context()); err != nil || len(r.log) > 0 {
			t.Errorf("after a while without changes: %v, %v", r.log, err)
		}
		srv.LDIF(t, user("late", people))
		if err := f.poll(t.Context()); err != nil || len(r.log) != 1 {
			t.Errorf("a change after a while: %v, %v", r.log, err)
		}
	}, users(10))
}

// A census asks by id before it reports: what moved from base to base is there.
func TestTimestamp_severalBases(t *testing.T) {
	t.Parallel()
	other := "ou=other," + suffix
	srv := ldaptest.Start(t, ldaptest.Options{NoSync: true, LDIF: "dn: " + other + "\nobjectClass: organizationalUnit\nou: other\n\n" +
		users(20) + user("bob", other) + "dn: ou=far," + suffix + "\nobjectClass: organizationalUnit\nou: far\n"})
	r := watch(t, polled(t, config(srv, bases(people, other))))
	first := r.next(t)
	id := first.byDN("uid=bob," + other).ID
	for range 5 {
		for _, move := range [][2]string{{other, people}, {people, other}} {
			srv.LDIF(t, "dn: uid=bob,"+move[0]+"\nchangetype: modrdn\nnewrdn: uid=bob\ndeleteoldrdn: 0\nnewsuperior: "+move[1]+"\n")
			r.until(t, "the move", func(s state) bool {
				if s.entries[id] == nil {
					t.Fatal("the entry was gone for a moment")
				}
				return s.entries[id].DN == "uid=bob,"+move[1]
			})
		}
	}
	srv.LDIF(t, "dn: uid=bob,"+other+"\nchangetype: modrdn\nnewrdn: uid=bob\ndeleteoldrdn: 0\nnewsuperior: ou=far,"+suffix+"\n")
	r.until(t, "the move out of the bases", func(s state) bool { return s.entries[id] == nil })
	srv.LDIF(t, "dn: uid=bob,ou=far,"+suffix+"\nchangetype: modrdn\nnewrdn: uid=bob\ndeleteoldrdn: 0\nnewsuperior: "+people+"\n")
	r.until(t, "the move back", func(s state) bool { return s.entries[id] != nil })
}

// What has a time from the future is seen, and what changes after it too: the
// census compares.
func TestTimestamp_futureTime(t *testing.T) {
	t.Parallel()
	future := strings.Replace(user("future", people), "uid: future", "uid: future\nmodifyTimestamp: 20991231235959Z\nentryCSN: 20991231235959.000000Z#000000#000#000000", 1)
	stamps(t, func(t *testing.T, srv *ldaptest.Server) {
		t.Helper()
		r := watch(t, polled(t, config(srv)))
		if r.next(t).byDN("uid=future,"+people) == nil {
			t.Fatal("the entry is not there")
		}
		srv.LDIF(t, user("new", people))
		for i := 0; ; i++ { // until a change does not fall into the second of the one before
			srv.LDIF(t, fmt.Sprintf("dn: uid=u0001,%s\nchangetype: modify\nreplace: sn\nsn: Late%d\n", people, i))
			select {
			case err := <-r.ended:
				t.Fatal(err)
			case s := <-r.settled:
				if e := s.byDN("uid=u0001," + people); s.byDN("uid=new,"+people) != nil && strings.HasPrefix(string(e.Values("sn")[0]), "Late") {
					return
				}
			default:
			}
		}
	}, users(5)+future)
}

// Entries whose time cannot be read are found by the sweep.
func TestTimestamp_entriesWithoutTime(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{
		NoSync: true, LDIF: users(3),
		ACL: []string{`access to dn.exact="uid=u0001,ou=people,dc=example,dc=com" attrs=entryCSN,modifyTimestamp,createTimestamp by * none`},
	})
	s := polled(t, config(srv, func(c *connection.Source) { c.Detection.SweepInterval = 50 * time.Millisecond }))
	r := watch(t, s)
	r.next(t)
	srv.LDIF(t, "dn: uid=u0001,"+people+"\nchangetype: modify\nreplace: sn\nsn: Late\n")
	r.until(t, "the change", func(s state) bool { return string(s.byDN("uid=u0001," + people).Values("sn")[0]) == "Late" })
	if s.first("without stamp") {
		t.Error("the entry without a time was not reported")
	}
}

// The account loses sight of everybody: a census asks for them by id, and the sink
// hears that they are gone, to be confirmed; the base stays.
func TestTimestamp_lostAccessIsForTheSinkToConfirm(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{NoSync: true, LDIF: users(5)})
	s := polled(t, config(srv, bases(people)))
	r := watch(t, s)
	known := r.next(t)
	srv.SetACL(`access to dn.children="ou=people,dc=example,dc=com" by * none`)
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.end(t); err == nil {
		t.Error("the session outlived the server")
	}
	canary := known.byDN("uid=u0000," + people).ID
	if _, err := s.Confirm(t.Context(), []ID{canary}, []ID{canary}); err == nil {
		t.Error("the lost entry was confirmed as gone")
	}
}

func TestStamp_read(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		stamp       stamp
		value, want string
	}{
		{stampTime, "20261125170221Z", "20261125170221.000000Z"},
		{stampTime, "20261125170221.123Z", "20261125170221.123000Z"},
		{stampTime, "20261125170221,5Z", "20261125170221.500000Z"},
		{stampTime, "20261125180221+0100", "20261125170221.000000Z"},
		{stampTime, "202611251702Z", "20261125170200.000000Z"},
		{stampTime, "20261125170221.0Z", "20261125170221.000000Z"},
		{stampTime, "yesterday", ""},
		{stampTime, "00000101000000+0100", ""},
		{stampTime, "99991231235959-0100", ""},
		{stampUSN, "4711", "00000000000000004711"},
		{stampUSN, "9223372036854775807", "09223372036854775807"},
		{stampUSN, "-1", ""},
		{stampUSN, "", ""},
		{stampCSN, "20261125170221.123456Z#000000#001#000000", "20261125170221.123456Z#000000#001#000000"},
	} {
		if got := test.stamp.read(test.value); got != test.want {
			t.Errorf("%s %s: %q, want %q", test.stamp, test.value, got, test.want)
		}
	}
}

func TestStamp_filter(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		stamp   stamp
		newest  string
		overlap time.Duration
		want    string
	}{
		{stampTime, "20261125170001.500000Z", 2 * time.Second, "(|(modifytimestamp>=20261125165959Z)(createtimestamp>=20261125165959Z))"},
		{stampTime, "20261125170001.500000Z", 0, "(|(modifytimestamp>=20261125170001Z)(createtimestamp>=20261125170001Z))"},
		{stampCSN, "20261125170001.500000Z#000001#002#000003", 0, "(entrycsn>=20261125170001.500000Z#000001#002#000003)"},
		{stampCSN, "20261125170001.500000Z#000001#002#000003", 2 * time.Second, "(entrycsn>=20261125165959.500000Z#000000#000#000000)"},
		{stampCSN, "garbage", 2 * time.Second, everything},
		{stampTime, "", 0, everything},
		{stampTime, "00000101000001.000000Z", 2 * time.Second, everything},
	} {
		if got := test.stamp.filter(test.newest, test.overlap); got != test.want {
			t.Errorf("%s %s: %s, want %s", test.stamp, test.newest, got, test.want)
		}
	}
}

// A filter that asks from a stamp on asks for that stamp, too.
func FuzzStamp(f *testing.F) {
	for _, s := range []string{"20261125170221Z", "20261125170221.999999Z", "20240229235959+1130", "20261125170221.123456Z#000000#001#000000", "2026112517Z", "00000101000000,0Z", "00000101000000+0100", "99991231235959-0100"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		read := stampTime.read(value)
		if read == "" {
			return
		}
		if again := stampTime.read(read); again != read {
			t.Errorf("%q is %q and then %q", value, read, again)
		}
		from := stampTime.read(stampTime.before(read, overlap))
		if from > read || from == "" && read > "00000102" {
			t.Errorf("%q: asks from %q", value, from)
		}
	})
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	with := func(name string, values ...string) *Entry {
		a := &directoryv1.Attribute{Name: name}
		for _, v := range values {
			a.Values = append(a.Values, []byte(v))
		}
		return &Entry{DN: "a", Attributes: []*directoryv1.Attribute{a}}
	}
	entries := []*Entry{
		{DN: "a"},
		{DN: "b"},
		{DN: "a", Version: "1"},
		with("sn", "x"),
		with("sn", "x", "y"),
		with("sn", "xy"),
		with("snx", "y"),
	}
	var prints []fingerprint
	for _, e := range entries {
		p := fingerprintOf(e)
		if slices.Contains(prints, p) || p != fingerprintOf(e) || !p.of(e.Version) || p.of("other") {
			t.Errorf("%v: %x of %x", e, p, prints)
		}
		prints = append(prints, p)
	}
}
