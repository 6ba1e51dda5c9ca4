package links_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/links"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const user = directoryv1.Kind_KIND_USER

var id = []byte("0123456789abcdef")

func stores(t *testing.T) (a, b *links.Store) {
	t.Helper()
	conn := bustest.Start(t)
	writer := bus.NewWriter(conn)
	t.Cleanup(writer.Close)
	return links.Open(conn, writer, "wiki", "a"), links.Open(conn, writer, "wiki", "b")
}

func get(t *testing.T, s *links.Store) *links.Record {
	t.Helper()
	r, err := s.Get(t.Context(), user, id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestOneClaimWins(t *testing.T) {
	t.Parallel()
	a, b := stores(t)
	ra, rb := get(t, a), get(t, b)
	if err := a.Claim(t.Context(), ra, 7, provisioningv1.Intent_INTENT_CREATE); err != nil {
		t.Fatal(err)
	}
	if err := b.Claim(t.Context(), rb, 7, provisioningv1.Intent_INTENT_CREATE); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("second claim: %v, want ErrConflict", err)
	}
	if !b.Busy(get(t, b)) {
		t.Error("the other's claim does not count")
	}
	if a.Busy(get(t, a)) {
		t.Error("our own claim keeps us out")
	}
}

func TestAClaimWithoutOwnerIsFree(t *testing.T) {
	t.Parallel()
	a, b := stores(t)
	r := get(t, a)
	r.Link.Claim = &provisioningv1.Claim{Intent: provisioningv1.Intent_INTENT_CREATE}
	if _, err := a.Commit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if b.Busy(get(t, b)) {
		t.Error("a claim that was given up keeps others out")
	}
}

// TestForeignClaimEndsByOurClock uses records of a claim that nobody renews.
func TestForeignClaimEndsByOurClock(t *testing.T) {
	t.Parallel()
	record := &links.Record{Kind: user, ID: id, Link: &provisioningv1.Link{Claim: &provisioningv1.Claim{Owner: "dead"}}}
	synctest.Test(t, func(t *testing.T) {
		s := links.Open(nil, nil, "wiki", "us")
		if !s.Busy(record) {
			t.Fatal("free at first sight")
		}
		<-time.After(links.Lease - 1)
		if !s.Busy(record) {
			t.Fatal("free before the lease is over")
		}
		<-time.After(1)
		if s.Busy(record) {
			t.Error("busy after the lease")
		}
	})
}

func TestOwnershipIsGivenOnce(t *testing.T) {
	t.Parallel()
	a, _ := stores(t)
	r := get(t, a)
	own, err := a.Own(user, "42", id, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Commit(t.Context(), r, own); err != nil {
		t.Fatal(err)
	}
	other := &links.Record{Kind: user, ID: []byte("fedcba9876543210"), Link: &provisioningv1.Link{ResourceId: "42"}}
	steal, err := a.Own(user, "42", other.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Commit(t.Context(), other, steal); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("second owner: %v, want ErrConflict", err)
	}
	if left, err := a.Get(t.Context(), user, other.ID); err != nil || left.Link.GetResourceId() != "" {
		t.Errorf("the link of the refused commit was stored: %v, %v", left.Link, err)
	}
	give, err := a.Disown(t.Context(), user, "42", other.ID)
	if err != nil || len(give) != 0 {
		t.Errorf("an entry gives up what it does not own: %v, %v", give, err)
	}
}
