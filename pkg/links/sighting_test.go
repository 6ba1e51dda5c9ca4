package links

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Claims of other replicas that were seen once and are never asked for again are
// forgotten, however many there were.
func TestSightingsOfForeignClaimsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Store{owner: "one", foreign: map[string]sighting{}}
		claimed := &provisioningv1.Link{Claim: &provisioningv1.Claim{Owner: "two"}}
		most := 0
		for n := range uint32(10_000) {
			r := &Record{Kind: directoryv1.Kind_KIND_USER, ID: binary.BigEndian.AppendUint32(nil, n), Link: claimed, revision: 1}
			if !s.Busy(r) {
				t.Fatalf("the claim on entry %d is taken over at first sight", n)
			}
			most = max(most, len(s.foreign))
			<-time.After(time.Second)
		}
		if bound := int((sightingLife + 2) * Lease / time.Second); most > bound {
			t.Errorf("%d sightings are kept, want %d at most", most, bound)
		}
		// A claim that is asked for all the time is given up after a lease, as ever.
		r := &Record{Kind: directoryv1.Kind_KIND_USER, ID: []byte("stuck"), Link: claimed, revision: 1}
		began := time.Now()
		for s.Busy(r) {
			<-time.After(time.Second)
		}
		if took := time.Since(began); took != Lease {
			t.Errorf("an abandoned claim is taken over after %s, want %s", took, Lease)
		}
	})
}
