package usersync_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const user = directoryv1.Kind_KIND_USER

// calls are the requests that the target saw, in short.
func calls(s *scimtest.Server) []string {
	var out []string
	for _, r := range s.Requests() {
		path := r.Path
		if i := strings.LastIndex(path, "/"); i > 0 {
			path = path[:i] + "/{id}"
		}
		out = append(out, r.Method+" "+path)
	}
	return out
}

func wantCalls(t *testing.T, s *scimtest.Server, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, calls(s)); diff != "" {
		t.Errorf("calls: -want +got\n%s", diff)
	}
}

func TestLostAnswerOfACreationIsLookedFor(t *testing.T) {
	t.Parallel()
	for name, reset := range map[string]scimtest.Reset{"before commit": scimtest.ResetBeforeCommit, "after commit": scimtest.ResetAfterCommit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{})
			posts := 0
			b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
				if r.Method != http.MethodPost {
					return nil
				}
				if posts++; posts > 1 {
					return nil
				}
				return &scimtest.Fault{Reset: reset}
			})
			sequence := b.Publish(workertest.User(1, "ann", "", "ann@x"))
			b.Start(usersync.Run)
			link := b.Until(user, 1, workertest.Applied(sequence))
			if n := b.Target.Count(scim.KindUser); n != 1 {
				t.Errorf("%d users on the target, want 1", n)
			}
			if link.GetResourceId() == "" {
				t.Errorf("no resource in %v", link)
			}
		})
	}
}

func TestUnchangedEntriesCostNothing(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run)
	sequence := b.Publish(workertest.User(1, "ann", "Director", "ann@x"))
	b.Until(user, 1, workertest.Applied(sequence))
	wantCalls(t, b.Target, "POST /Users")
	stop()
	// Everything is delivered again, to another replica, under a configuration that
	// changes nothing for this entry.
	again := b.Publish(workertest.User(1, "ann", "Director", "ann@x"))
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(again))
	wantCalls(t, b.Target, "POST /Users")
}

func TestOnlyWhatChangedIsPushed(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Director", "ann@x"))))
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", "ann@x"))))
	requests := b.Target.Writes()
	want := `{"Operations":[{"op":"remove","path":"title"}],"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"]}`
	if got := strings.TrimSpace(requests[len(requests)-1].Body); got != want {
		t.Errorf("body:\n%s\nwant\n%s", got, want)
	}
}

func TestForeignValuesOfAnAdoptedUserStay(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "active": true, "emails": []any{
		map[string]any{"type": "work", "value": "old@x", "primary": true}, map[string]any{"type": "home", "value": "home@x"},
	}})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", "ann@x"))))
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", "new@x"))))
	values := map[string]string{}
	ann, _ := b.Target.User("ann")
	mails, _ := ann["emails"].([]any)
	for _, m := range mails {
		mail := m.(map[string]any)
		values[mail["type"].(string)] = mail["value"].(string)
	}
	if diff := cmp.Diff(map[string]string{"work": "new@x", "home": "home@x"}, values); diff != "" {
		t.Errorf("emails: -want +got\n%s", diff)
	}
}

// A resource may end between the search that finds it and its adoption: the worker
// of the former owner deletes it.
func TestUserDeletedWhileAdoptedIsCreated(t *testing.T) {
	t.Parallel()
	for name, title := range map[string]any{"something to write": "Former", "nothing to write": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: delete", scimtest.Options{})
			seeded := b.Target.Seed(scim.KindUser, map[string]any{"userName": "ann", "active": true, "title": title})
			former(t, b, seeded)
			b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
				if strings.HasSuffix(r.Path, "/"+seeded) {
					_ = b.Target.Remove(scim.KindUser, seeded) // twice is once
				}
				return nil
			})
			b.Start(usersync.Run)
			link := b.Until(user, 1, func(l *provisioningv1.Link) bool {
				return workertest.Parked(l) || l.GetSequence() > 0 && l.GetClaim() == nil
			})
			if u, found := b.Target.User("ann"); !found || u["id"] != link.GetResourceId() || u["id"] == seeded {
				t.Errorf("link %v, target %v", link, b.Target.Users())
			}
		})
	}
}

// former lets another entry have owned a resource and given it up, and publishes
// the person who matches it.
func former(t *testing.T, b *workertest.Bench, resource string) {
	t.Helper()
	store := links.Open(b.Bus, nil, "wiki", "")
	own, err := store.Own(user, resource, workertest.ID(9), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Bus.Commit(t.Context(), []bus.Write{own}); err != nil {
		t.Fatal(err)
	}
	disown, err := store.Disown(t.Context(), user, resource, workertest.ID(9))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Bus.Commit(t.Context(), disown); err != nil {
		t.Fatal(err)
	}
	b.Publish(workertest.User(1, "ann", "", ""))
}

func TestUserDeletedBehindOurBackIsCreatedAgain(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Start(usersync.Run)
	link := b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", "ann@x"))))
	if err := b.Target.Remove(scim.KindUser, link.GetResourceId()); err != nil {
		t.Fatal(err)
	}
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Director", "ann@x"))))
	if ann, _ := b.Target.User("ann"); ann["title"] != "Director" {
		t.Errorf("user %v", ann)
	}
}

func TestTargetWithoutPatchIsReplaced(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{Quirks: scimtest.Quirks{NoPatch: true}})
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", "ann@x"))))
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Director", "ann@x"))))
	if ann, _ := b.Target.User("ann"); ann["title"] != "Director" || ann["active"] != true {
		t.Errorf("user %v", ann)
	}
}

func TestRefusedUserIsParkedWithTheTargetsWords(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if strings.Contains(r.Body, "bob@x") {
			return &scimtest.Fault{Status: http.StatusBadRequest, ScimType: "invalidValue", Detail: "no bobs here"}
		}
		return nil
	})
	b.Start(usersync.Run)
	b.Publish(workertest.User(2, "bob", "", "bob@x"))
	ann := b.Publish(workertest.User(1, "ann", "", "ann@x"))
	problem := b.Until(user, 2, workertest.Parked).GetProblem()
	if !strings.Contains(problem.GetMessage(), "no bobs here") || problem.GetHttpStatus() != http.StatusBadRequest {
		t.Errorf("problem %v", problem)
	}
	b.Until(user, 1, workertest.Applied(ann))
	cured := b.Publish(workertest.User(2, "bob", "", "robert@x"))
	b.Until(user, 2, workertest.Applied(cured))
}

func TestOutageParksNothing(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Breaker = workertest.Quick
	down := make(chan struct{})
	b.Target.SetFault(func(scimtest.Request) *scimtest.Fault {
		select {
		case <-down:
			return nil
		default:
			return &scimtest.Fault{Reset: scimtest.ResetBeforeCommit}
		}
	})
	b.Start(usersync.Run)
	sequence := b.Publish(workertest.User(1, "ann", "", "ann@x"))
	b.PausedFor(provisioningv1.PauseReason_PAUSE_REASON_OUTAGE)
	if l := b.Link(user, 1); l.GetAttempts() != 0 || l.GetProblem() != nil && l.GetProblem().GetKind() != provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING {
		t.Errorf("an outage counts as the entry's fault: %v", l)
	}
	close(down)
	b.Until(user, 1, workertest.Applied(sequence))
}

func TestTwoReplicasNeverDuplicate(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: delete", scimtest.Options{})
	b.Unguarded()
	b.Start(usersync.Run)
	b.Start(usersync.Run)
	const people = 40
	last := map[int]uint64{}
	for round := range 5 {
		for n := range people {
			switch {
			case round == 3 && n%4 == 0:
				last[n] = b.Publish(workertest.Gone(user, n))
			default:
				last[n] = b.Publish(workertest.User(n, "u"+string(workertest.ID(n)), strings.Repeat("x", round+1), ""))
			}
		}
	}
	for n, sequence := range last {
		b.Until(user, n, workertest.Applied(sequence))
	}
	if got := b.Target.Count(scim.KindUser); got != people {
		t.Errorf("%d users on the target, want %d", got, people)
	}
	for _, u := range b.Target.Users() {
		if u["title"] != "xxxxx" {
			t.Errorf("user %v holds an old state: %v", u["userName"], u["title"])
		}
	}
}

// An account is found while its owner, who is gone, still has it, and is disabled before
// it changes hands: it is looked at once more, and made active.
func TestAccountThatIsDisabledBeforeItChangesHandsBecomesActive(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	b.Start(usersync.Run)
	former := b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Cook", ""))))
	found, passed := make(chan struct{}), make(chan struct{})
	b.Down()
	address := strings.TrimSuffix(strings.TrimPrefix(b.Target.URL(), "http://"), scimtest.BasePath)
	if err := b.Target.Serve(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, former.GetResourceId()) {
			<-found // its owner's worker tries again after that
		}
		b.Target.ServeHTTP(w, r)
		if r.Method == http.MethodGet && strings.Contains(r.URL.RawQuery, "ann") {
			select {
			case <-found:
			default:
				close(found)
				<-passed // the answer that was found is on its way
			}
		}
	})); err != nil {
		t.Fatal(err)
	}
	refused := make(chan struct{})
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method != http.MethodPatch {
			return nil
		}
		select {
		case <-refused:
			return nil
		default:
			close(refused)
			return &scimtest.Fault{Status: http.StatusConflict}
		}
	})
	gone := b.Publish(workertest.Gone(user, 1))
	<-refused
	taken := b.Publish(workertest.User(2, "ann", "Cook", ""))
	<-found
	b.Until(user, 1, workertest.Applied(gone))
	close(passed)
	b.Until(user, 2, workertest.Applied(taken))
	ann, _ := b.Target.User("ann")
	if ann["active"] != true || b.Link(user, 2).GetResourceId() != former.GetResourceId() {
		t.Errorf("the account is %v, and was %s", ann, former.GetResourceId())
	}
}
