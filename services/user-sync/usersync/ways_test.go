package usersync_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// methods are what was sent since the log was emptied.
func methods(b *workertest.Bench) []string {
	var out []string
	for _, r := range b.Target.Requests() {
		out = append(out, r.Method)
	}
	return out
}

// TestWhatPatchCannotChangeIsSentByPut is Zoom: PATCH enables and disables, and
// nothing else.
func TestWhatPatchCannotChangeIsSentByPut(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{Quirks: scimtest.Quirks{PatchActiveOnly: true}})
	b.Override("patch_only: [active]")
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", "ann@x"))))
	b.Target.ResetLog()
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Director", "ann@x"))))
	if diff := cmp.Diff([]string{"GET", "PUT"}, methods(b)); diff != "" {
		t.Errorf("a new title (-want +got):\n%s", diff)
	}
	if ann, _ := b.Target.User("ann"); ann["title"] != "Director" || ann["active"] != true {
		t.Errorf("user %v", ann)
	}
	b.Target.ResetLog()
	left := workertest.User(1, "ann", "Director", "ann@x")
	left.GetUser().Enabled = false
	b.Until(user, 1, workertest.Applied(b.Publish(left)))
	if diff := cmp.Diff([]string{"PATCH"}, methods(b)); diff != "" {
		t.Errorf("disabled (-want +got):\n%s", diff)
	}
	if ann, _ := b.Target.User("ann"); ann["active"] != false {
		t.Errorf("user %v", ann)
	}
}

// TestWhatNothingCanChangeIsSentOnce is GitLab: PATCH changes active, and there is no
// PUT.
func TestWhatNothingCanChangeIsSentOnce(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{Quirks: scimtest.Quirks{PatchActiveOnly: true}})
	b.Override("patch_only: [active], put: false")
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Boss", "ann@x"))))
	b.Target.ResetLog()
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "Director", "ann@x"))))
	if sent := methods(b); len(sent) != 0 {
		t.Errorf("a new title: %v", sent)
	}
	if ann, _ := b.Target.User("ann"); ann["title"] != "Boss" {
		t.Errorf("user %v", ann)
	}
}

func TestMissingPatchIsLearnedOnce(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{Quirks: scimtest.Quirks{NoPatch: true, MissingCapabilities: true}})
	b.Discover = true
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", "ann@x"))))
	for i, want := range [][]string{{"PATCH", "GET", "PUT"}, {"GET", "PUT"}} {
		b.Target.ResetLog()
		b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", []string{"Boss", "Director"}[i], "ann@x"))))
		if diff := cmp.Diff(want, methods(b)); diff != "" {
			t.Errorf("change %d (-want +got):\n%s", i+1, diff)
		}
	}
}

// A target that compares names exactly would take a second account in another
// spelling: the account that is there is found first, in whatever spelling it is.
func TestCaseExactTargetGetsNoSecondAccount(t *testing.T) {
	t.Parallel()
	for _, there := range []string{"Ann.Lee", "ann.lee", "ANN.LEE", "ann.LEE"} {
		t.Run(there, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "", scimtest.Options{Quirks: scimtest.Quirks{ExactUserNames: true, CaseSensitiveFilters: true}})
			b.Override("case_sensitive: true")
			id := b.Target.Seed(scim.KindUser, map[string]any{"userName": there})
			b.Start(usersync.Run)
			link := b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "Ann.Lee", "", ""))))
			if link.GetResourceId() != id || b.Target.Count(scim.KindUser) != 1 {
				t.Errorf("linked to %q of %d accounts, want the one that was there", link.GetResourceId(), b.Target.Count(scim.KindUser))
			}
		})
	}
}
