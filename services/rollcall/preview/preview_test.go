package preview_test

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/service"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
	"github.com/rollcall-scim/rollcall/services/rollcall/preview"
)

const configuration = `
nats: {url: "%s", credentials: "${file:%s}"}
sources:
  corp:
    ldap: {urls: ["%s"], bind_dn: "%s", bind_password: "${env:PREVIEW_PASSWORD}"}
    preset: openldap
    users:
      base_dns: ["ou=people,dc=example,dc=com"]
      filter: (objectClass=inetOrgPerson)
      enabled: '!("left" in user.all.employeeType)'
    groups: {base_dns: ["ou=groups,dc=example,dc=com"], filter: (objectClass=groupOfNames)}
connections:
  wiki:
    source: corp
    target: {url: "%s", rate: {requests_per_second: 0}, overrides: {%s}}
    guard: {max_removal_percent: 50}
    %s
    users:
      attributes:
        userName: user.uid
        name.familyName: %s
        title: user.title
        'emails[type eq "work"].value': user.mail
    groups: {}
console: {listen: ""}
telemetry: {metrics_listen: ""}
`

// world is a directory, a target and a bus that outlives a Rollcall.
type world struct {
	*testing.T

	directory *ldaptest.Server
	target    *scimtest.Server
	bus       *bus.Bus
	natsURL   string
	seed      string
	overrides string // of the target's profile
	cfg       *connection.Config
	outcomes  uint64 // sequence of the last outcome that was compared
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Setenv("PREVIEW_PASSWORD", "reader")
	nats := bustest.Server(t)
	w := &world{
		T: t, directory: ldaptest.Start(t, ldaptest.Options{}), target: scimtest.NewServer(t, scimtest.Options{}),
		bus: bustest.Connect(t, nats), natsURL: nats.URL(), seed: nats.SeedFile(),
	}
	if err := w.bus.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.configure("", "user.sn")
	return w
}

func (w *world) configure(conn, familyName string) {
	w.Helper()
	text := fmt.Appendf(nil, configuration, w.natsURL, w.seed, w.directory.URL, w.directory.ReaderDN, w.target.URL(), w.overrides, conn, familyName)
	cfg, err := connection.Parse(filepath.Base("rollcall.yaml"), text)
	if err != nil {
		w.Fatal(err)
	}
	w.cfg = cfg
}

// line is one entry of a plan, or one of a run.
type line struct {
	Entry, Action, Also string
	Attributes          string
	Added, Removed      int
	Held                string
}

// plan makes a plan and checks that it wrote nothing.
func (w *world) plan() []line {
	w.Helper()
	writes, known := len(w.target.Writes()), w.stored()
	plans, err := preview.Run(w.Context(), w.cfg, w.bus, slog.New(slog.DiscardHandler))
	if err != nil {
		w.Fatal(err)
	}
	if n := len(w.target.Writes()) - writes; n != 0 {
		w.Errorf("the plan sent %d writes", n)
	}
	if diff := gocmp.Diff(known, w.stored()); diff != "" {
		w.Errorf("the plan wrote to NATS: -before +after\n%s", diff)
	}
	var lines []line
	for _, e := range plans[0].Entries {
		lines = append(lines, planned(e))
	}
	return inOrder(lines)
}

// planned is an entry of a plan as a line.
func planned(e preview.Entry) line {
	if e.Action == preview.ActionHeld {
		e.Action = ""
	}
	return line{e.Entry, e.Action, e.Also, sorted(e.Attributes), e.Added, e.Removed, e.HeldAction}
}

// doing counts the lines of which something is done, and not only held.
func doing(lines []line) int {
	n := 0
	for _, l := range lines {
		if l.Action != "" {
			n++
		}
	}
	return n
}

// stored are the newest sequences of every stream.
func (w *world) stored() map[string]uint64 {
	w.Helper()
	last := map[string]uint64{}
	for _, stream := range []string{"USERS", "GROUPS", "REQUESTS", "OUTCOMES", "KV_links", "KV_sources", "KV_targets"} {
		n, err := w.bus.LastSequence(w.Context(), stream)
		if err != nil {
			w.Fatal(err)
		}
		last[stream] = n
	}
	return last
}

func sorted(attributes []string) string {
	return strings.Join(slices.Sorted(slices.Values(attributes)), " ")
}

func inOrder(lines []line) []line {
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return lines
}

// run lets Rollcall work until nothing is left to do, and returns what it did.
func (w *world) run() []line {
	w.Helper()
	w.work()
	return w.did()
}

func (w *world) work() {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	before := w.lastPass()
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx, "rollcall", w.cfg, allinone.Run) }()
	w.settle(before)
	cancel()
	if err := <-done; err != nil {
		w.Fatal(err)
	}
}

const (
	patience = 30 * time.Second
	poll     = 20 * time.Millisecond
	quiet    = 400 * time.Millisecond
)

// lastPass is when the directory was read last: the zero time before the first.
func (w *world) lastPass() time.Time {
	w.Helper()
	pass, err := status.LastPass(w.Context(), w.bus, "corp")
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		w.Fatal(err)
	}
	return pass.At
}

// settle waits until the directory was read after the pass before, the
// configuration is current, and nothing waits for a while.
func (w *world) settle(before time.Time) {
	w.Helper()
	deadline, since, last := time.Now().Add(patience), time.Now(), uint64(0)
	for time.Since(since) < quiet {
		if time.Now().After(deadline) {
			w.Fatal("nothing settles")
		}
		known := w.stored()
		if busy := w.lastPass().Equal(before) || w.busy(); busy || known["KV_links"]+known["OUTCOMES"]+known["USERS"] != last {
			since, last = time.Now(), known["KV_links"]+known["OUTCOMES"]+known["USERS"]
		}
		<-time.After(poll)
	}
}

// busy says whether something waits for a worker, or nobody works yet.
func (w *world) busy() bool {
	current, err := worker.CurrentGeneration(w.Context(), w.bus, "wiki")
	if err != nil || current.Hash != w.cfg.Hash("wiki") {
		return true
	}
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		changes, err := w.bus.Backlog(w.Context(), kind.Stream(), worker.ChangesConsumer(kind, "wiki", current.Hash))
		if err != nil || changes.Total() > 0 {
			return true
		}
		requests, err := w.bus.Backlog(w.Context(), provisioningv1.StreamRequests, worker.RequestsConsumer(kind, "wiki"))
		if err != nil || requests.Total() > 0 {
			return true
		}
	}
	return false
}

// did reads the audit log since the last call, and what is held: what was done about
// each entry.
func (w *world) did() []line {
	w.Helper()
	items, err := held.OfConnection(w.bus, "wiki").List(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	lines, last := done(w.T, w.bus, w.outcomes, provisioningv1.Result_RESULT_APPLIED, items)
	w.outcomes = last
	return lines
}

// done are the outcomes after a sequence that ended in a result, as lines, with what is
// held of each entry.
func done(tb testing.TB, b *bus.Bus, after uint64, result provisioningv1.Result, items []held.Item) (lines []line, last uint64) {
	tb.Helper()
	byEntry := map[string]*line{}
	of := func(id []byte) *line {
		entry := hex.EncodeToString(id)
		if byEntry[entry] == nil {
			byEntry[entry] = &line{Entry: entry}
		}
		return byEntry[entry]
	}
	paths := map[string][]string{}
	last = after
	err := b.Read(tb.Context(), "OUTCOMES", bus.ReadOptions{Filters: []string{"outcomes.>"}}, func(s *bus.Stored) error {
		var o provisioningv1.Outcome
		if err := proto.Unmarshal(s.Data, &o); err != nil {
			return err
		}
		if s.Sequence <= after {
			return nil
		}
		last = max(last, s.Sequence)
		l := of(o.GetEntryId())
		switch o.GetResult() {
		case provisioningv1.Result_RESULT_HELD:
			return nil
		case provisioningv1.Result_RESULT_BLOCKED:
			l.Action = "blocked"
			return nil
		case result:
		default:
			tb.Errorf("outcome %v", &o)
		}
		if l.Action != "" && slices.Equal(o.GetAttributes(), []string{"active"}) && o.GetCalls() == 0 {
			l.Also = worker.ActionName(o.GetAction())
			return nil
		}
		if l.Action == "" {
			l.Action = worker.ActionName(o.GetAction())
		}
		if result == provisioningv1.Result_RESULT_DRY_RUN { // the newest is what it would do
			*l, paths[l.Entry] = line{Entry: l.Entry, Action: worker.ActionName(o.GetAction()), Held: o.GetHeldAction()}, nil
		}
		if l.Action == "none" {
			l.Action = ""
		}
		l.Added += int(o.GetMembersAdded())
		l.Removed += int(o.GetMembersRemoved())
		paths[l.Entry] = append(paths[l.Entry], o.GetAttributes()...)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	for _, i := range items {
		of(i.ID).Held = i.GetAction()
	}
	for id, l := range byEntry {
		l.Attributes = sorted(slices.Compact(slices.Sorted(slices.Values(paths[id]))))
		if *l != (line{Entry: id}) {
			lines = append(lines, *l)
		}
	}
	return inOrder(lines), last
}

func person(n int, more string) string {
	return fmt.Sprintf("dn: uid=u%d,ou=people,dc=example,dc=com\nobjectClass: inetOrgPerson\nuid: u%d\ncn: U %d\nsn: Sur%d\nmail: u%d@example.com\n%s\n", n, n, n, n, n, more)
}

func group(name string, members ...int) string {
	text := fmt.Sprintf("dn: cn=%s,ou=groups,dc=example,dc=com\nobjectClass: groupOfNames\ncn: %s\n", name, name)
	for _, n := range members {
		text += fmt.Sprintf("member: uid=u%d,ou=people,dc=example,dc=com\n", n)
	}
	return text + "\n"
}

// TestPlanIsWhatRunDoes compares each plan with what a run then does, entry by
// entry: the first run against a populated target, a morning of changes, an edited
// mapping, and nothing.
func TestPlanIsWhatRunDoes(t *testing.T) {
	w := newWorld(t)
	for n := range 30 {
		more := ""
		if n%10 == 9 {
			more = "employeeType: left\n"
		}
		w.directory.LDIF(t, person(n, more))
	}
	w.directory.LDIF(t, group("staff", 0, 1, 2, 3, 4, 5, 6, 9)+group("board", 1)+group("ops", 7, 8, 10))
	var guests []any
	for n, title := range []any{"Guest", nil, "Clerk"} {
		body := map[string]any{"userName": fmt.Sprintf("U%d", n), "active": n != 1, "title": title}
		guests = append(guests, map[string]any{"value": w.target.Seed(scim.KindUser, body)})
	}
	stranger := w.target.Seed(scim.KindUser, map[string]any{"userName": "stranger", "active": true})
	w.target.Seed(scim.KindGroup, map[string]any{"displayName": "Staff", "members": append(guests, map[string]any{"value": stranger})})

	for _, step := range []struct {
		name string
		do   func()
		want int // entries with something to do
	}{
		{"first run", func() {}, 30},
		{"nothing changed", func() {}, 0},
		{"a morning of changes", func() {
			w.directory.LDIF(t, "dn: uid=u3,ou=people,dc=example,dc=com\nchangetype: modify\nreplace: title\ntitle: Boss\n\n"+
				"dn: uid=u0,ou=people,dc=example,dc=com\nchangetype: modify\ndelete: mail\n\n"+
				"dn: uid=u4,ou=people,dc=example,dc=com\nchangetype: modrdn\nnewrdn: uid=u400\ndeleteoldrdn: 1\n\n"+
				"dn: cn=staff,ou=groups,dc=example,dc=com\nchangetype: modify\nadd: member\nmember: uid=u400,ou=people,dc=example,dc=com\n-\n"+
				"delete: member\nmember: uid=u4,ou=people,dc=example,dc=com\n\n"+
				"dn: uid=u5,ou=people,dc=example,dc=com\nchangetype: modify\nadd: employeeType\nemployeeType: left\n\n"+
				"dn: uid=u6,ou=people,dc=example,dc=com\nchangetype: delete\n\n"+
				"dn: uid=u9,ou=people,dc=example,dc=com\nchangetype: modify\ndelete: employeeType\n\n"+
				"dn: cn=ops,ou=groups,dc=example,dc=com\nchangetype: modify\nadd: member\nmember: uid=u11,ou=people,dc=example,dc=com\n-\n"+
				"delete: member\nmember: uid=u7,ou=people,dc=example,dc=com\n\n"+
				"dn: cn=board,ou=groups,dc=example,dc=com\nchangetype: delete\n\n"+
				person(50, "title: Novice\n")+group("novices", 50))
		}, 11},
		{"an edited mapping", func() { w.configure("", `user.sn + "!"`) }, 28},
		{"an edited scope", func() { w.configure(`scope: '!("u12@example.com" in user.all.mail)'`, `user.sn + "!"`) }, 1},
		{"nothing changed again", func() {}, 0},
	} {
		step.do()
		planned := w.plan()
		done := w.run()
		if diff := gocmp.Diff(planned, done); diff != "" {
			t.Errorf("%s: -plan +run\n%s", step.name, diff)
		}
		if n := doing(planned); n != step.want {
			t.Errorf("%s: %d entries are planned, want %d", step.name, n, step.want)
		}
	}
}

// On a target that compares names exactly a run finds accounts in another spelling, as
// a plan does, and makes no second ones: one by one, or many.
func TestPlanOnACaseExactTarget(t *testing.T) {
	for _, people := range []int{2, 30} {
		t.Run(fmt.Sprint(people, " people"), func(t *testing.T) {
			w := newWorld(t)
			w.target.SetQuirks(scimtest.Quirks{ExactUserNames: true, CaseSensitiveFilters: true})
			w.overrides = "case_sensitive: true"
			w.configure("", "user.sn")
			for n := range people {
				w.directory.LDIF(t, person(n, ""))
				w.target.Seed(scim.KindUser, map[string]any{"userName": fmt.Sprintf("U%d", n), "active": true})
			}
			planned := w.plan()
			for _, l := range planned {
				if l.Action != "adopt" {
					t.Errorf("planned: %v", l)
				}
			}
			if diff := gocmp.Diff(planned, w.run()); diff != "" {
				t.Errorf("-plan +run\n%s", diff)
			}
			if got := w.target.Count(scim.KindUser); got != people {
				t.Errorf("%d accounts of %d people", got, people)
			}
		})
	}
}

// What waits for the next change is no work of a run until that change comes.
func TestPlanOfWhatIsParked(t *testing.T) {
	w := newWorld(t)
	w.directory.LDIF(t, person(1, "")+person(2, ""))
	w.target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPost && strings.Contains(r.Body, "Sur1") {
			return &scimtest.Fault{Status: 400}
		}
		return nil
	})
	w.work()
	w.target.SetFault(nil)
	if lines := w.plan(); len(lines) != 0 {
		t.Errorf("planned though it is parked: %v", lines)
	}
	w.directory.LDIF(t, "dn: uid=u1,ou=people,dc=example,dc=com\nchangetype: modify\nreplace: title\ntitle: Boss\n")
	if lines := w.plan(); len(lines) != 1 {
		t.Errorf("planned: %v, want the new change", lines)
	}
}
