package usersync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// lists is a target that answers every listing alike.
type lists struct {
	listing *scim.Listing
	err     error
}

func (l lists) ReadAll(context.Context, scim.Kind, scim.ListOptions, func(*scim.Resource) error) (*scim.Listing, error) {
	return l.listing, l.err
}

func (lists) Profile() scim.Profile { return scim.Generic() }

// Accounts that go away matter to a listing that is made or kept, and to nothing after
// it: a service runs for months.
func TestAccountsThatAreGoneAreForgottenWithTheListing(t *testing.T) {
	t.Parallel()
	for _, target := range []lists{{listing: &scim.Listing{}}, {err: errors.New("the pages do not add up")}} {
		synctest.Test(t, func(t *testing.T) {
			a := newAccounts(target, func(context.Context) (uint64, error) { return 1000, nil }, func(*scim.Resource) {}, slog.New(slog.DiscardHandler))
			for range listFrom {
				a.met = append(a.met, time.Now())
			}
			if err := a.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			gone := func() int {
				a.mu.Lock()
				defer a.mu.Unlock()
				return len(a.gone)
			}
			a.drop("while it is kept")
			if kept := target.err == nil; (gone() == 1) != kept {
				t.Errorf("%d accounts are noted as gone, and a listing is kept: %v", gone(), kept)
			}
			<-time.After(2 * listingLifetime)
			synctest.Wait()
			for n := range 1000 {
				a.drop(fmt.Sprint("later ", n))
			}
			if n := gone(); n != 0 {
				t.Errorf("%d accounts are kept that went away after the listing", n)
			}
		})
	}
}
