package usersync_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

const (
	crowd = 300
	// goAhead is how many users are tried before the target is listed.
	goAhead = 12
)

// populate lets the target hold accounts of the crowd with a title, and publishes who
// they are in the directory: cooks.
func populate(b *workertest.Bench, title string) map[int]uint64 {
	published := map[int]uint64{}
	for n := 1; n <= crowd; n++ {
		name := fmt.Sprintf("u%d", n)
		b.Target.Seed(scim.KindUser, map[string]any{"userName": name, "active": true, "title": title})
		published[n] = b.Publish(workertest.User(n, name, "Cook", ""))
	}
	return published
}

func settled(b *workertest.Bench, published map[int]uint64) {
	for n, sequence := range published {
		b.Until(user, n, workertest.Applied(sequence))
	}
}

// spent counts requests by what they are for.
func spent(b *workertest.Bench) map[string]int {
	counts := map[string]int{}
	for _, r := range b.Target.Requests() {
		kind := r.Method
		switch {
		case r.Method != http.MethodGet:
		case strings.Contains(r.Query, "filter="):
			kind = "look-up"
		case r.Path == "/Users":
			kind = "page"
		}
		counts[kind]++
	}
	return counts
}

// The first synchronization with a populated target costs one PATCH for each account
// that differs, none for one that does not, and one listing.
func TestPopulatedTargetIsListedOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, title, users, override string
		quirks                       scimtest.Quirks
		patches, posts               int
	}{
		{name: "accounts are the same", title: "Cook", posts: goAhead},
		{name: "accounts differ", title: "Maid", patches: crowd, posts: goAhead},
		{name: "names are not unique", title: "Cook", override: "unique: none", quirks: scimtest.Quirks{DuplicateUserNames: true}},
		{name: "two attributes match", title: "Maid", users: "match: [externalId, userName]", patches: crowd},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, c.users, scimtest.Options{Quirks: c.quirks})
			b.Override(c.override)
			published := populate(b, c.title)
			b.Start(usersync.Run)
			settled(b, published)
			got := spent(b)
			t.Logf("%v", got)
			if got["PATCH"] != c.patches || got["GET"] != 0 {
				t.Errorf("requests %v, want %d PATCH and no GET", got, c.patches)
			}
			if got["POST"] > c.posts || got["look-up"] > 2*goAhead || got["page"] == 0 || got["page"] > crowd/100+1 {
				t.Errorf("requests %v, want %d POST, %d look-ups and %d pages at most", got, c.posts, 2*goAhead, crowd/100+1)
			}
			if n := b.Target.Count(scim.KindUser); n != crowd {
				t.Errorf("%d users on the target, want %d", n, crowd)
			}
			for _, u := range b.Target.Users() {
				if u["title"] != "Cook" {
					t.Fatalf("user %v", u)
				}
			}
		})
	}
}

// A target whose listing does not add up is asked user by user.
func TestIncompleteListingOfUsersProvesNothing(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{Quirks: scimtest.Quirks{StuckPaging: true}})
	published := populate(b, "Cook")
	b.Start(usersync.Run)
	settled(b, published)
	got := spent(b)
	// One that was delivered again is looked up instead of being created.
	if got["POST"]+got["look-up"] != 2*crowd || got["look-up"] < crowd || got["page"] > crowd/100 || b.Target.Count(scim.KindUser) != crowd {
		t.Errorf("requests %v, %d users", got, b.Target.Count(scim.KindUser))
	}
}

// A listing with more pages than there are users to be found in it is given up.
func TestListingThatCostsMoreThanItSavesIsGivenUp(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	b.Override("page_size: 5")
	for n := range crowd {
		b.Target.Seed(scim.KindUser, map[string]any{"userName": fmt.Sprintf("stranger%d", n)})
	}
	const few = 20
	published := map[int]uint64{}
	for n := 1; n <= few; n++ {
		name := fmt.Sprintf("u%d", n)
		b.Target.Seed(scim.KindUser, map[string]any{"userName": name, "active": true})
		published[n] = b.Publish(workertest.User(n, name, "", ""))
	}
	b.Start(usersync.Run)
	settled(b, published)
	if got := spent(b); got["POST"] != few || got["look-up"] != few || got["page"] > few+goAhead {
		t.Errorf("requests %v", got)
	}
}

// An empty target is never listed: nobody is there already.
func TestEmptyTargetIsNotListed(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	published := map[int]uint64{}
	for n := 1; n <= 50; n++ {
		published[n] = b.Publish(workertest.User(n, fmt.Sprintf("u%d", n), "Cook", ""))
	}
	b.Start(usersync.Run)
	settled(b, published)
	if got := spent(b); got["POST"] != 50 || len(got) != 1 {
		t.Errorf("requests %v", got)
	}
}

// An account that came after the listing is found as ever, and one that has gone since
// is made again.
func TestListingThatIsOlderThanTheTarget(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	published := populate(b, "Maid")
	b.Start(usersync.Run)
	settled(b, published)
	b.Target.ResetLog()
	late := b.Target.Seed(scim.KindUser, map[string]any{"userName": "late", "active": true})
	b.Until(user, crowd+1, workertest.Applied(b.Publish(workertest.User(crowd+1, "late", "", ""))))
	if id := b.Link(user, crowd+1).GetResourceId(); id != late {
		t.Errorf("linked to %s, want %s", id, late)
	}
	b.Until(user, crowd+2, workertest.Applied(b.Publish(workertest.User(crowd+2, "new", "", ""))))
	if got := spent(b); got["POST"] != 2 || got["look-up"] != 1 || len(got) != 2 {
		t.Errorf("requests %v", got)
	}
}

// An account that ends between the listing and its adoption is created.
func TestListedAccountThatHasEnded(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	published := populate(b, "Maid")
	var patches atomic.Int32
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method != http.MethodPatch || patches.Add(1) != 100 { // long after those who go ahead
			return nil
		}
		_ = b.Target.Remove(scim.KindUser, strings.TrimPrefix(r.Path, "/Users/"))
		return nil
	})
	b.Start(usersync.Run)
	settled(b, published)
	if n := b.Target.Count(scim.KindUser); n != crowd {
		t.Errorf("%d users on the target, want %d", n, crowd)
	}
	for _, u := range b.Target.Users() {
		if u["title"] != "Cook" {
			t.Fatalf("user %v", u)
		}
	}
}

// A listing is not believed of an account that Rollcall had: it was disabled since the
// listing was made, and its user returns under a new entry id.
func TestListingIsNotBelievedOfWhatWasOwned(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Unguarded()
	b.Start(usersync.Run)
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.User(1, "ann", "", ""))))
	for n := 10; n < 20; n++ { // each is looked for, and so a listing is made
		b.Until(user, n, workertest.Applied(b.Publish(off(workertest.User(n, fmt.Sprintf("u%d", n), "", "")))))
	}
	b.Until(user, 1, workertest.Applied(b.Publish(workertest.Gone(user, 1))))
	b.Until(user, 2, workertest.Applied(b.Publish(workertest.User(2, "ann", "", ""))))
	if ann, _ := b.Target.User("ann"); ann["active"] != true {
		t.Errorf("ann is back, and her account is not active: %v", ann)
	}
}
