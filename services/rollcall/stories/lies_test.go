package stories

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// The entries of a world by number, and those of its group before the directory changes
// and afterwards.
const (
	ann, bob, cid, dan, eve = 1, 2, 3, 4, 5

	staff = 1000
)

// world is a target with accounts of its own, and both services that provision to it. The
// directory changes in it while the target lies.
type world struct {
	*workertest.Bench

	t *testing.T
	// sequences are those of the changes, by entry.
	users  map[int]uint64
	groups map[int]uint64
	// foreign is what the target holds besides, as it was in the beginning.
	foreign map[string]string
	late    chan struct{}
}

const (
	department = scim.SchemaEnterpriseUser + ":department"
	division   = scim.SchemaEnterpriseUser + ":division"
	phone      = `phoneNumbers[type eq "work"].value`
)

// newWorld is a world in which everything is applied. ann and the group have been on the
// target before.
func newWorld(t *testing.T, always scimtest.Quirks, overrides string) *world {
	t.Helper()
	w := &world{
		Bench: workertest.New(t, "remove: disable", scimtest.Options{Quirks: always}), t: t,
		users: map[int]uint64{}, groups: map[int]uint64{}, late: make(chan struct{}),
	}
	w.Breaker, w.LookAgain = workertest.Quick, lookAgain
	if overrides != "" {
		w.Override(overrides)
	}
	for path, expression := range map[string]string{department: "user.title", division: "user.mail", phone: "user.mail"} {
		w.Map(path, expression)
	}
	w.Unguarded()
	root := w.Target.Seed(scim.KindUser, map[string]any{"userName": "root", "title": "Owner"})
	w.Target.Seed(scim.KindUser, map[string]any{"userName": "annabel", "title": "Guest"})
	w.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "title": "Guest"})
	w.Target.Seed(scim.KindGroup, map[string]any{"displayName": "admins", "members": []any{map[string]any{"value": root}}})
	w.Target.Seed(scim.KindGroup, map[string]any{"displayName": "staff"})
	w.foreign = map[string]string{"root": w.state()["root"], "annabel": w.state()["annabel"], "admins": w.state()["admins"]}
	w.Start(usersync.Run, groupsync.Run)
	for n, name := range map[int]string{ann: "ann", bob: "bob", cid: "cid", dan: "dan"} {
		w.user(n, person(n, name, "Cook"))
	}
	w.group(ann, bob, cid, dan)
	w.Eventually("everything is applied", func() bool {
		return w.Provisioned(user) == 4 && w.Link(group, staff).GetMembersApplied() == 4 && w.Link(group, staff).GetClaim() == nil
	})
	for kind, numbers := range map[directoryv1.Kind][]int{user: {ann, bob, cid, dan}, group: {staff}} {
		for _, n := range numbers { // it was long ago
			l := w.Link(kind, n)
			l.AppliedAt = nil
			w.SetLink(kind, n, l)
		}
	}
	return w
}

// lookAgain is long enough for what happens before the second look, and short for a test.
const lookAgain = 4 * time.Second

func person(n int, name, title string) *directoryv1.Change {
	return workertest.User(n, name, title, name+"@x")
}

func (w *world) user(n int, change *directoryv1.Change) { w.users[n] = w.Publish(change) }

func (w *world) group(members ...int) { w.groups[staff] = w.Group(staff, "staff", members...) }

// change changes the directory: one user comes and joins the group, one has another title,
// one leaves the group, and one is deleted.
func (w *world) change() {
	w.user(eve, person(eve, "eve", "Cook"))
	w.user(bob, person(bob, "bob", "Chief"))
	w.user(dan, workertest.Gone(user, dan))
	w.group(ann, bob, eve)
}

// restore takes most of the change back.
func (w *world) restore() {
	w.user(bob, person(bob, "bob", "Cook"))
	w.user(dan, person(dan, "dan", "Cook"))
	w.group(ann, bob, cid, dan, eve)
}

// account is how state writes an account.
func account(name, title, active string) string {
	return fmt.Sprintf("%s %s %s@x %s@x %s", title, title, name, name, active)
}

// changed and restored are what the target is to hold of ours after change and restore.
func changed() map[string]string {
	return map[string]string{
		"ann": account("ann", "Cook", "active"), "bob": account("bob", "Chief", "active"), "cid": account("cid", "Cook", "active"),
		"dan": account("dan", "Cook", "disabled"), "eve": account("eve", "Cook", "active"), "staff": "ann bob eve",
	}
}

func restored() map[string]string {
	all := changed()
	all["bob"], all["dan"], all["staff"] = account("bob", "Cook", "active"), account("dan", "Cook", "active"), "ann bob cid dan eve"
	return all
}

// state is what the target holds, by name. Two resources of one name are a fault.
func (w *world) state() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	put := func(name, value string) {
		if _, twice := all[name]; twice {
			w.t.Errorf("the target holds %s twice", name)
		}
		all[name] = value
	}
	for _, u := range w.Target.Users() {
		extension, _ := u[scim.SchemaEnterpriseUser].(map[string]any)
		phones, _ := u["phoneNumbers"].([]any)
		number := ""
		for _, p := range phones {
			one, _ := p.(map[string]any)
			number += text(one["value"])
		}
		put(text(u["userName"]), strings.Join([]string{text(u["title"]), text(extension["department"]), text(extension["division"]), number, activity(u["active"])}, " "))
	}
	for _, g := range w.Target.Groups() {
		name := text(g["displayName"])
		put(name, strings.Join(slices.Sorted(slices.Values(w.Target.Members(name))), " "))
	}
	return all
}

// honest fails where a link says that a change is applied and the target does not hold it.
// What is being written meanwhile is not judged.
func (w *world) honest(want map[string]string) {
	w.t.Helper()
	names := map[int]string{ann: "ann", bob: "bob", cid: "cid", dan: "dan", eve: "eve"}
	for n, sequence := range w.users {
		l := w.Link(user, n)
		got := w.state()[names[n]]
		if settled := workertest.Applied(sequence)(l) && len(l.GetUnapplied()) == 0; settled && got != want[names[n]] && proto.Equal(l, w.Link(user, n)) {
			w.t.Errorf("%s is recorded as applied, and the target holds %q, want %q", names[n], got, want[names[n]])
		}
	}
	l := w.Link(group, staff)
	members := w.Target.Members("staff")
	if workertest.Applied(w.groups[staff])(l) && len(l.GetRefusedMembers()) == 0 && len(l.GetUnapplied()) == 0 && proto.Equal(l, w.Link(group, staff)) {
		for _, name := range members {
			if !strings.Contains(want["staff"], name) {
				w.t.Errorf("the group is recorded as applied, and the target holds %v, want %s", members, want["staff"])
			}
		}
		if int(l.GetMembersApplied()) != len(members) {
			w.t.Errorf("the group is recorded with %d members, and the target holds %v", l.GetMembersApplied(), members)
		}
	}
}

// becomes waits until the target holds what it should, and fails where the target holds
// something else besides what it had of its own, where the operator is still told of
// anything, and where a comparison finds a difference.
func (w *world) becomes(want map[string]string) {
	w.t.Helper()
	want = maps.Clone(want)
	maps.Copy(want, w.foreign)
	for deadline := time.Now().Add(patience); !maps.Equal(want, w.state()) && time.Now().Before(deadline); {
		pause()
	}
	if diff := cmp.Diff(want, w.state()); diff != "" {
		w.t.Fatalf("the target (-want +got):\n%s\nstill said: %v", diff, w.parked())
	}
	w.Eventually("nothing is paused, parked or not applied", func() bool { return w.Paused() == nil && len(w.parked()) == 0 })
	all := comparisons(w.t, w.Bench)
	w.Eventually("nothing is in work", func() bool { _, calm := drifted(w.t, all); return calm })
	reports, _ := drifted(w.t, all)
	for _, r := range reports {
		for _, f := range r.Findings {
			if f.Name != "root" && f.Name != "annabel" && f.Name != "admins" {
				w.t.Errorf("a comparison finds %+v", f)
			}
		}
	}
	w.honest(want)
	if diff := cmp.Diff(want, w.state()); diff != "" {
		w.t.Errorf("the target afterwards (-want +got):\n%s", diff)
	}
}

// parked is what `rollcall parked` says, one line an entry.
func (w *world) parked() []string {
	w.t.Helper()
	entries, err := worker.Parked(w.t.Context(), w.Bus, "wiki", "corp")
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for _, p := range entries {
		lines = append(lines, p.State()+" "+string(p.ID[14:])+": "+p.Problem.GetMessage())
	}
	return lines
}

// retry is what an operator does after the target was cured.
func (w *world) retry() {
	w.t.Helper()
	entries, err := worker.Parked(w.t.Context(), w.Bus, "wiki", "corp")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range entries {
		if err := worker.RetryParked(w.t.Context(), w.Bus, p); err != nil {
			w.t.Fatal(err)
		}
	}
}

// truth ends every lie that is not always told.
func (w *world) truth() {
	w.Target.SetFault(nil)
	w.Target.SetQuirks(scimtest.Quirks{})
}

// paused waits until the operator is told that the target is away, with these words.
func paused(words string) func(*world) {
	return func(w *world) {
		w.t.Helper()
		if p := w.PausedFor(provisioningv1.PauseReason_PAUSE_REASON_OUTAGE); !strings.Contains(p.GetMessage(), words) {
			w.t.Errorf("the pause does not say %q: %v", words, p)
		}
		if want := len(w.foreign) + 5; len(w.state()) != want {
			w.t.Errorf("the target holds %d resources, want %d", len(w.state()), want)
		}
	}
}

// says waits until `rollcall parked` has lines that hold each of some words.
func says(words ...string) func(*world) {
	return func(w *world) {
		w.t.Helper()
		for _, word := range words {
			w.Eventually("it says "+word, func() bool {
				return slices.ContainsFunc(w.parked(), func(line string) bool { return strings.Contains(line, word) })
			})
		}
	}
}

func wrongToken(w *world) {
	w.Target.SetQuirks(scimtest.Quirks{ErrorsAnswerOK: true})
	w.Target.SetFault(func(scimtest.Request) *scimtest.Fault {
		return &scimtest.Fault{Status: http.StatusUnauthorized, Detail: "token is not valid"}
	})
}

// delayed keeps every PATCH in the network; its sender gets no answer.
func delayed(w *world) {
	w.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPatch {
			return &scimtest.Fault{Late: w.late}
		}
		return nil
	})
}

// arrive lets the delayed requests of change come after restore.
func arrive(w *world) {
	w.t.Helper()
	w.Target.SetFault(nil)
	w.restore()
	w.Eventually("the directory is applied", func() bool { return maps.Equal(w.ours(), restored()) })
	w.Eventually("a second look is scheduled", func() bool { return w.Link(user, bob).GetLookAgainAt() != nil })
	close(w.late)
	w.Target.WaitLate()
	if maps.Equal(w.ours(), restored()) {
		w.t.Fatal("the late writes did no harm")
	}
}

// ours is the state without what is the target's own.
func (w *world) ours() map[string]string {
	all := w.state()
	maps.DeleteFunc(all, func(name, _ string) bool { _, foreign := w.foreign[name]; return foreign })
	return all
}

// TestLies runs both services against a target that tells each of the lies that targets
// were seen to tell, while the directory changes. Whatever the lie is: nothing is lost
// once it has ended, nothing is harmed that is not ours, no account or group is made
// twice, nothing is recorded as applied that is not, and the operator is told as long as
// something is not applied.
func TestLies(t *testing.T) {
	t.Parallel()
	quirk := func(q scimtest.Quirks) func(*world) { return func(w *world) { w.Target.SetQuirks(q) } }
	nothing := func(*world) {}
	for name, row := range map[string]struct {
		always    scimtest.Quirks // told from the beginning to the end
		overrides string
		lie       func(*world) // told while the directory changes
		told      func(*world)
		end       func(*world)
		want      map[string]string
	}{
		"200 with an error in the body": {lie: wrongToken, told: paused("token is not valid"), end: (*world).truth, want: changed()},
		"a gateway's 404": {
			lie: quirk(scimtest.Quirks{GatewayNotFound: true}), told: paused("no Route matched"), end: (*world).truth, want: changed(),
		},
		"200 without effect": {
			lie: quirk(scimtest.Quirks{PatchKeeps: []string{"*"}}), told: func(w *world) {
				says("title", "remove member", "add member")(w)
				w.Until(user, dan, func(l *provisioningv1.Link) bool {
					return strings.Contains(l.GetProblem().GetMessage(), "did not apply active")
				})
			},
			end: func(w *world) { w.truth(); w.retry() }, want: changed(),
		},
		"a late write": {lie: delayed, told: func(w *world) {
			w.Eventually("the writes are abandoned", func() bool {
				return w.Link(user, bob).GetProblem() != nil && w.Link(user, dan).GetProblem() != nil && w.Link(group, staff).GetProblem() != nil
			})
		}, end: arrive, want: restored()},
		"a replaced extension": {
			always: scimtest.Quirks{ReplaceExtensions: true}, overrides: "extension_patch: nested", lie: nothing, told: nothing, end: nothing, want: changed(),
		},
		"an ignored filter": {
			always: scimtest.Quirks{IgnoreFilters: true, DuplicateUserNames: true}, overrides: "unique: none",
			lie: nothing, told: nothing, end: nothing, want: changed(),
		},
		"a truncated listing": {always: scimtest.Quirks{MaxListed: 2}, lie: nothing, told: nothing, end: nothing, want: changed()},
		"a refused member": {
			lie: quirk(scimtest.Quirks{RefusedMembers: []string{"eve"}}), told: says("member"),
			end: func(w *world) { w.truth(); w.retry() }, want: changed(),
		},
		"empty elements": {
			always: scimtest.Quirks{EmptyElements: []string{"phoneNumbers", "emails"}, RefuseEmptyStrings: true},
			lie:    nothing, told: nothing, end: nothing, want: changed(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, row.always, row.overrides)
			row.lie(w)
			w.change()
			row.told(w)
			w.honest(changed())
			row.end(w)
			w.becomes(row.want)
		})
	}
}
