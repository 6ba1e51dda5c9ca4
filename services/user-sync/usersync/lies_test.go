package usersync_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// provisioned is a bench with users who are there since long.
func provisioned(t *testing.T, users string, n int) *workertest.Bench {
	t.Helper()
	b := workertest.New(t, users, scimtest.Options{})
	b.Breaker = workertest.Quick
	b.Unguarded()
	b.Start(usersync.Run)
	for i := range n {
		b.Publish(workertest.User(i, fmt.Sprintf("u%d", i), "Cook", ""))
	}
	b.Eventually("everybody is there", func() bool { return b.Provisioned(user) == n })
	for i := range n {
		l := b.Link(user, i)
		l.AppliedAt = nil
		b.SetLink(user, i, l)
	}
	return b
}

// A target that answers for a while as if it had done what was asked, or as if there
// was nobody, is away: nothing is recorded as done, the operator is told, and all of it
// is done afterwards.
func TestAnswersOfSomebodyElseAreAnOutage(t *testing.T) {
	t.Parallel()
	const people = 8
	wrongToken := func(b *workertest.Bench) {
		b.Target.SetQuirks(scimtest.Quirks{ErrorsAnswerOK: true})
		b.Target.SetFault(func(scimtest.Request) *scimtest.Fault {
			return &scimtest.Fault{Status: http.StatusUnauthorized, Detail: "token is not valid"}
		})
	}
	gateway := func(b *workertest.Bench) { b.Target.SetQuirks(scimtest.Quirks{GatewayNotFound: true}) }
	noPath := func(b *workertest.Bench) {
		b.Target.SetFault(func(scimtest.Request) *scimtest.Fault { return &scimtest.Fault{Status: http.StatusNotFound, Body: " "} })
	}
	update := func(n int) *directoryv1.Change { return workertest.User(n, fmt.Sprintf("u%d", n), "Chief", "") }
	leave := func(n int) *directoryv1.Change { return workertest.Gone(user, n) }
	enter := func(n int) *directoryv1.Change { return workertest.User(100+n, fmt.Sprintf("new%d", n), "Cook", "") }
	for name, row := range map[string]struct {
		users string
		lie   func(*workertest.Bench)
		words string
		event func(n int) *directoryv1.Change
		done  func(user map[string]any, there bool) bool
	}{
		"200 with an error, to an update":  {"", wrongToken, "token is not valid", update, func(u map[string]any, _ bool) bool { return u["title"] == "Chief" }},
		"200 with an error, to a disable":  {"remove: disable", wrongToken, "token is not valid", leave, func(u map[string]any, _ bool) bool { return u["active"] == false }},
		"200 with an error, to a deletion": {"remove: delete", wrongToken, "token is not valid", leave, func(_ map[string]any, there bool) bool { return !there }},
		"200 with an error, to a creation": {"", wrongToken, "token is not valid", enter, nil},
		"a gateway's 404, to an update":    {"", gateway, "no Route matched", update, func(u map[string]any, _ bool) bool { return u["title"] == "Chief" }},
		"a gateway's 404, to a deletion":   {"remove: delete", gateway, "no Route matched", leave, func(_ map[string]any, there bool) bool { return !there }},
		"a gateway's 404, to a creation":   {"", gateway, "target.url", enter, nil},
		"no service there, to a creation":  {"", noPath, "target.url", enter, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := provisioned(t, row.users, people)
			row.lie(b)
			for n := range people {
				b.Publish(row.event(n))
			}
			if p := b.PausedFor(outage); !strings.Contains(p.GetMessage(), row.words) {
				t.Errorf("the pause does not say %q: %v", row.words, p)
			}
			for id, l := range b.Links(user) {
				if workertest.Parked(l) || l.GetState() == provisioningv1.LinkState_LINK_STATE_REMOVED || l.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED {
					t.Errorf("%s is recorded as %v, problem %v", id, l.GetState(), l.GetProblem())
				}
			}
			if got := b.Target.Count(scim.KindUser); got != people {
				t.Errorf("%d users on the target, want %d", got, people)
			}
			b.Target.SetFault(nil)
			b.Target.SetQuirks(scimtest.Quirks{})
			b.Resumed()
			b.Eventually("all of it is done", func() bool {
				if row.done == nil {
					return b.Target.Count(scim.KindUser) == 2*people
				}
				for n := range people {
					if u, there := b.Target.User(fmt.Sprintf("u%d", n)); !row.done(u, there) {
						return false
					}
				}
				return true
			})
		})
	}
}

// unapplied are the paths that the target did not apply, with why.
func unapplied(l *provisioningv1.Link) map[string]string {
	paths := map[string]string{}
	for _, u := range l.GetUnapplied() {
		paths[u.GetPath()] = u.GetReason()
	}
	return paths
}

const departmentPath = scim.SchemaEnterpriseUser + ":department"

// TestAttributeWithoutEffectIsSaidAndNotRepeated is the way of three public servers: 200,
// and the resource without the change.
func TestAttributeWithoutEffectIsSaidAndNotRepeated(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ path, expression, kept, hint string }{
		"of the core":      {"nickName", "user.title", "nickName", "patch_only"},
		"of the extension": {departmentPath, "user.title", scim.SchemaEnterpriseUser, "extension_patch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "", scimtest.Options{Quirks: scimtest.Quirks{PatchKeeps: []string{row.kept}}})
			b.Map(row.path, row.expression)
			b.Start(usersync.Run)
			b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", ""))))
			link := b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Chief", "ann@x"))))
			if why := unapplied(link); len(why) != 1 || !strings.Contains(why[row.path], row.hint) {
				t.Errorf("not applied: %v, want %s with the key %s", why, row.path, row.hint)
			}
			if ann, _ := b.Target.User("ann"); ann["title"] != "Chief" || !strings.Contains(textOf(ann["emails"]), "ann@x") {
				t.Errorf("the rest was not applied: %v", ann)
			}
			parked, err := worker.Parked(t.Context(), b.Bus, "wiki", "corp")
			if err != nil || len(parked) != 1 || parked[0].State() != "unapplied" || !strings.Contains(parked[0].Problem.GetMessage(), row.path) {
				t.Errorf("parked: %v, %v", parked, err)
			}
			d := comparison(t, b)
			r := compare(t, d)
			if diff := cmp.Diff([]string{"unapplied ann " + row.path}, found(r)); diff != "" {
				t.Errorf("drift (-want +got):\n%s", diff)
			}
			b.Target.ResetLog()
			if n, err := d.Repair(t.Context(), r); n != 0 || err != nil {
				t.Errorf("%d repairs, %v", n, err)
			}
			b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Chief", "ann@y"))))
			for _, r := range b.Target.Writes() {
				if strings.Contains(r.Body, "Chief") {
					t.Errorf("it is sent again: %s", r.Body)
				}
			}
			b.Target.SetQuirks(scimtest.Quirks{})
			if err := worker.RetryParked(t.Context(), b.Bus, parked[0]); err != nil {
				t.Fatal(err)
			}
			b.Until(user, 1, func(l *provisioningv1.Link) bool { return len(l.GetUnapplied()) == 0 && l.GetClaim() == nil })
			if diff := found(compare(t, d)); len(diff) > 0 {
				t.Errorf("drift after the cure: %v", diff)
			}
		})
	}
}

// A user whose disabling has no effect is not recorded as disabled.
func TestDisablingWithoutEffectIsNotRecorded(t *testing.T) {
	t.Parallel()
	b := employed(t, "remove: disable", scimtest.Options{})
	b.Target.SetQuirks(scimtest.Quirks{PatchKeeps: []string{"active"}})
	sequence := b.Publish(workertest.Gone(user, 1))
	link := b.Until(user, 1, func(l *provisioningv1.Link) bool { return l.GetProblem() != nil })
	if link.GetState() != provisioningv1.LinkState_LINK_STATE_ACTIVE || !strings.Contains(link.GetProblem().GetMessage(), "did not apply active") {
		t.Errorf("link %v", link)
	}
	b.Target.SetQuirks(scimtest.Quirks{})
	b.Until(user, 1, workertest.Applied(sequence))
	if ann, _ := b.Target.User("ann"); ann["active"] != false {
		t.Errorf("user %v", ann)
	}
}

// A user who is created active although he is disabled is disabled at once.
func TestCreationThatIgnoresActive(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "provision_disabled: true", scimtest.Options{})
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method != http.MethodPost {
			return nil
		}
		id := b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "active": true})
		return &scimtest.Fault{Status: http.StatusCreated, Body: `{"id":"` + id + `","userName":"ann","active":true}`}
	})
	b.Start(usersync.Run)
	change := workertest.User(1, "ann", "", "")
	change.GetUser().Enabled = false
	link := b.Until(user, 1, workertest.Applied(b.Publish(change)))
	if ann, _ := b.Target.User("ann"); ann["active"] != false || link.GetState() != provisioningv1.LinkState_LINK_STATE_DISABLED {
		t.Errorf("user %v, link %v", ann, link.GetState())
	}
}

// A value that the target keeps in a form of its own is cleared, and goes back to a
// former one, as any other.
func TestValueInAnotherFormIsClearedAndChanged(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ title, want string }{"cleared": {"", ""}, "changed": {"Boss", "Boss"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "", scimtest.Options{})
			b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
				if r.Method != http.MethodPost {
					return nil
				}
				id := b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "title": "COOK"})
				return &scimtest.Fault{Status: http.StatusCreated, Body: `{"id":"` + id + `","userName":"ann","title":"COOK","active":true}`}
			})
			b.Start(usersync.Run)
			link := b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", ""))))
			if why := unapplied(link); why["title"] == "" {
				t.Errorf("not applied: %v", why)
			}
			link = b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", row.title, ""))))
			ann, _ := b.Target.User("ann")
			if got, _ := ann["title"].(string); got != row.want || len(link.GetUnapplied()) > 0 {
				t.Errorf("title %q, want %q; not applied: %v", got, row.want, unapplied(link))
			}
		})
	}
}

// The target refuses to disable one user, its last administrator: all others are
// disabled all the same, and the one is not recorded as disabled.
func TestRefusedDisablingIsThatUsersAlone(t *testing.T) {
	t.Parallel()
	b := provisioned(t, "remove: disable", 5)
	admin := b.Link(user, 0).GetResourceId()
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPatch && strings.HasSuffix(r.Path, admin) {
			return &scimtest.Fault{Status: http.StatusBadRequest, ScimType: "mutability", Detail: "the last owner cannot be deactivated"}
		}
		return nil
	})
	b.Publish(workertest.Gone(user, 0))
	if l := b.Until(user, 0, workertest.Parked); l.GetState() != provisioningv1.LinkState_LINK_STATE_ACTIVE {
		t.Errorf("the one who was refused is recorded as %v", l.GetState())
	}
	for n := 1; n < 5; n++ {
		b.Until(user, n, workertest.Applied(b.Publish(workertest.Gone(user, n))))
		if u, _ := b.Target.User(fmt.Sprintf("u%d", n)); u["active"] != false {
			t.Errorf("u%d: %v", n, u)
		}
	}
}

// An attribute that is refused for one user says nothing about the others; after three
// it is not sent any more. What was not sent is not recorded as applied.
func TestImmutableAttributeIsLearnedByResource(t *testing.T) {
	t.Parallel()
	b := provisioned(t, "", 5)
	b.Target.SetQuirks(scimtest.Quirks{Immutable: []string{"title"}})
	for n := range 5 {
		b.Target.ResetLog()
		link := b.Until(user, n, workertest.Applied(b.Publish(workertest.User(n, fmt.Sprintf("u%d", n), "Chief", ""))))
		if why := unapplied(link); !strings.Contains(why["title"], "immutable") {
			t.Errorf("u%d: not applied: %v", n, why)
		}
		want := 1
		if n >= 3 {
			want = 0
		}
		if got := len(b.Target.Writes()); got != want {
			t.Errorf("u%d: %d writes, want %d", n, got, want)
		}
	}
	b.Target.SetQuirks(scimtest.Quirks{})
	if got := found(compare(t, comparison(t, b))); len(got) != 5 {
		t.Errorf("drift %v, want the five titles", got)
	}
}

// An adopted account with an empty element can be updated and disabled.
func TestEmptyElementOfAnAdoptedAccount(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{Quirks: scimtest.Quirks{EmptyElements: []string{"phoneNumbers"}, RefuseEmptyStrings: true}})
	b.Map(`phoneNumbers[type eq "work"].value`, "user.title")
	b.Unguarded()
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "phoneNumbers": []any{map[string]any{"type": "mobile", "value": "1"}}})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", "ann@x"))))
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Chief", "ann@y"))))
	ann, _ := b.Target.User("ann")
	if phones := textOf(ann["phoneNumbers"]); !strings.Contains(phones, "Chief") || !strings.Contains(phones, "mobile") {
		t.Errorf("phones %s", phones)
	}
	if why := unapplied(b.Link(user, 1)); len(why) > 0 {
		t.Errorf("not applied: %v", why)
	}
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.Gone(user, 1))))
	if ann, _ := b.Target.User("ann"); ann["active"] != false {
		t.Errorf("user %v", ann)
	}
}

// A target that replaces an extension by what a PATCH holds loses nothing: the extension
// is sent whole, also the manager of whom only the target knows the id.
func TestExtensionThatIsReplacedKeepsAll(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{Quirks: scimtest.Quirks{ReplaceExtensions: true}})
	b.Override("extension_patch: nested")
	b.Map(departmentPath, "user.title")
	b.Map(managerPath, "user.manager")
	b.Start(usersync.Run)
	managed := func(title string) *directoryv1.Change {
		return workertest.Managed(workertest.User(2, "bob", title, ""), 1)
	}
	b.Until(user, 2, workertest.Applied(b.Publish(managed("Cook"))))
	b.Publish(workertest.User(1, "ann", "", ""))
	eventuallyManaged(t, b, "bob", "ann")
	department := func() any {
		bob, _ := b.Target.User("bob")
		extension, _ := bob[scim.SchemaEnterpriseUser].(map[string]any)
		return extension["department"]
	}
	if got := department(); got != "Cook" {
		t.Errorf("department %v after the manager came", got)
	}
	b.Until(user, 2, workertest.Applied(b.Publish(managed("Chief"))))
	if got := department(); got != "Chief" || manager(b, "bob") != "ann" {
		t.Errorf("department %v, manager %q", got, manager(b, "bob"))
	}
	ann := b.Link(user, 1)
	links.Forget(ann) // nobody knows her account now: who bob's manager is stays as it is
	b.SetLink(user, 1, ann)
	b.Until(user, 2, workertest.Applied(b.Publish(managed("Boss"))))
	if got := department(); got != "Boss" || manager(b, "bob") != "ann" {
		t.Errorf("department %v, manager %q, whose account is not known any more", got, manager(b, "bob"))
	}
}

// A target that ignores filters, or lists a part and says that this is all, has every
// user adopted once: the answer to a look-up is compared again, and absence from a listing
// is no proof.
func TestLookUpsThatLieAdoptEachUserOnce(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]scimtest.Quirks{
		"the filter is ignored":   {IgnoreFilters: true},
		"the listing is cut off":  {MaxListed: 5},
		"both, and names repeat":  {IgnoreFilters: true, DuplicateUserNames: true},
		"elements without values": {EmptyElements: []string{"emails", "phoneNumbers"}, RefuseEmptyStrings: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const people = 30
			b := workertest.New(t, "", scimtest.Options{Quirks: lie})
			if lie.DuplicateUserNames {
				b.Override("unique: none")
			}
			for n := range people {
				b.Target.Seed(scim.KindUser, map[string]any{"userName": fmt.Sprintf("u%d", n)})
			}
			b.Start(usersync.Run)
			for n := range people {
				b.Publish(workertest.User(n, fmt.Sprintf("u%d", n), "Cook", ""))
			}
			b.Eventually("everybody is adopted", func() bool { return b.Provisioned(user) == people })
			if got := b.Target.Count(scim.KindUser); got != people {
				t.Errorf("%d users, want %d", got, people)
			}
			for _, u := range b.Target.Users() {
				if u["title"] != "Cook" {
					t.Errorf("user %v", u)
				}
			}
		})
	}
}
