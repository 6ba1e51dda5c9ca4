package scim_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

// crowded is a server with users u0 to u249, on three pages.
func crowded(t *testing.T, quirks scimtest.Quirks) *scimtest.Server {
	t.Helper()
	server := scimtest.NewServer(t, scimtest.Options{Quirks: quirks})
	for i := range 250 {
		server.Seed(scim.KindUser, user(fmt.Sprint("u", i)))
	}
	return server
}

// awaitSharing waits until so many look-ups wait for the next listing.
func awaitSharing(t *testing.T, client *scim.Client, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); client.Sharing() < n; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d look-ups wait, want %d", client.Sharing(), n)
		}
	}
}

// found is how many users a look-up finds.
func found(t *testing.T, client *scim.Client, name string) int {
	t.Helper()
	users, err := client.Find(t.Context(), scim.KindUser, "userName", name)
	if err != nil {
		t.Errorf("look %s up: %v", name, err)
	}
	return len(users)
}

// unfiltered is a profile of a target without filters.
func unfiltered(cfg *scim.Config) {
	cfg.Profile = scim.Generic()
	cfg.Profile.Filter = false
}

// A target that says that it has no filters is asked for all, once for all look-ups
// that come while a listing is made.
func TestLookUpsWithoutFiltersShareAListing(t *testing.T) {
	t.Parallel()
	server := crowded(t, scimtest.Quirks{NoFilters: true})
	client := newClient(t, server.URL())
	said, err := client.Discover(t.Context())
	if err != nil || !said.NoFilter {
		t.Fatalf("the target says %+v, %v", said, err)
	}
	client.Follow(client.Profile().With(said, scim.Learned{}))

	first, gate := make(chan struct{}), make(chan struct{})
	arrive := sync.OnceFunc(func() { close(first) })
	server.SetFault(func(scimtest.Request) *scimtest.Fault {
		arrive()
		<-gate
		return nil
	})
	var all sync.WaitGroup
	all.Go(func() {
		if n := found(t, client, "U7"); n != 1 {
			t.Errorf("the first one finds %d", n)
		}
	})
	<-first
	for i := range 20 {
		all.Go(func() {
			if n := found(t, client, fmt.Sprint("u", 230+i)); n != 1 {
				t.Errorf("u%d: found %d", 230+i, n)
			}
		})
	}
	awaitSharing(t, client, 20)
	close(gate)
	all.Wait()
	if got := len(server.Requests()); got != 6 {
		t.Errorf("%d requests, want two listings of three pages", got)
	}
}

// The one who makes a shared listing may give up; the others go on.
func TestSharedListingOutlivesItsMaker(t *testing.T) {
	t.Parallel()
	server := crowded(t, scimtest.Quirks{NoFilters: true})
	client := newClient(t, server.URL(), unfiltered)
	ctx, cancel := context.WithCancel(t.Context())
	reached, gate := make(chan struct{}), make(chan struct{})
	arrive := sync.OnceFunc(func() { close(reached) })
	server.SetFault(func(scimtest.Request) *scimtest.Fault {
		arrive()
		<-gate
		return nil
	})
	var both sync.WaitGroup
	both.Go(func() { found(t, client, "u1") }) // holds the turn
	<-reached
	both.Go(func() {
		if _, err := client.Find(ctx, scim.KindUser, "userName", "u2"); err == nil {
			t.Error("a look-up that was given up found something")
		}
	})
	awaitSharing(t, client, 1)
	both.Go(func() {
		if n := found(t, client, "u3"); n != 1 {
			t.Errorf("the one who joined finds %d", n)
		}
	})
	awaitSharing(t, client, 2)
	cancel()
	close(gate)
	both.Wait()
}

// A target that ignores filters is noticed by its answer; one that returns a few
// others is not.
func TestIgnoredFilterIsNoticed(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		users int
		want  bool
	}{{250, true}, {10, false}} {
		server := scimtest.NewServer(t, scimtest.Options{Quirks: scimtest.Quirks{IgnoreFilters: true}})
		for i := range row.users {
			server.Seed(scim.KindUser, user(fmt.Sprint("u", i)))
		}
		var learned scim.Learned
		client := newClient(t, server.URL(), func(cfg *scim.Config) {
			cfg.Learned = func(l scim.Learned) { learned = learned.Join(l) }
		})
		if n := found(t, client, "u9"); n != 1 || learned.NoFilter != row.want {
			t.Errorf("%d users: found %d, learned %+v", row.users, n, learned)
		}
		if p := client.Profile().With(scim.Discovered{}, learned); p.Filter == row.want {
			t.Errorf("%d users: the profile says filter %t", row.users, p.Filter)
		}
	}
}

// A target that is said to have no filters and refuses to list everything is asked by
// filter all the same.
func TestFilterIsTheLastResort(t *testing.T) {
	t.Parallel()
	server := crowded(t, scimtest.Quirks{ListByFilterOnly: true})
	if n := found(t, newClient(t, server.URL(), unfiltered), "u9"); n != 1 {
		t.Errorf("found %d", n)
	}
}
