package stories

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// renames gives ten people and both groups another name in the directory, and waits until
// the server has changed the members of the groups.
func (s *site) renames() {
	s.Helper()
	var b strings.Builder
	for _, name := range []string{"staff", "board"} {
		fmt.Fprintf(&b, "dn: cn=%[1]s,ou=groups,dc=example,dc=com\nchangetype: modrdn\nnewrdn: cn=%[1]s renamed\ndeleteoldrdn: 1\n\n", name)
	}
	for n := range renamed {
		fmt.Fprintf(&b, "dn: uid=u%d,ou=people,dc=example,dc=com\nchangetype: modrdn\nnewrdn: uid=renamed%d\ndeleteoldrdn: 1\n\n", n, n)
	}
	s.directory.LDIF(s.T, b.String())
	s.until("the members have their new names", func() bool {
		all, err := s.directory.Dump(s.Context())
		return err == nil && strings.Count(all, "member: uid=renamed") == renamed+1
	})
}

// renamed is how many people get another name; one of them is in both groups.
const renamed = 10

// accounts are the ids of the target's users and groups, by externalId.
func (s *site) accounts() map[string]string {
	s.Helper()
	ids := map[string]string{}
	for _, r := range append(s.target.Users(), s.target.Groups()...) {
		external, id := text(r["externalId"]), text(r["id"])
		if external == "" {
			continue // a stranger
		}
		if other, taken := ids[external]; taken {
			s.Errorf("%s and %s bear the same externalId", other, id)
		}
		ids[external] = id
	}
	return ids
}

// isRenamed says whether the target has the new names, and nothing waits.
func (s *site) isRenamed() bool {
	for n := range renamed {
		if _, found := s.target.User(fmt.Sprintf("renamed%d", n)); !found {
			return false
		}
	}
	return len(s.target.Members("staff renamed")) == crowd && len(s.target.Members("board renamed")) == 2 && s.idle()
}

// Everything that NATS held is lost, and people and groups were renamed in the
// meantime. The accounts are found by the externalId that they bear: each is renamed
// in place, nobody gets a second one, and nobody leaves a group.
func TestLostNATSDataRenamesInPlace(t *testing.T) {
	t.Parallel()
	for name, populated := range map[string]int{"few strangers": 0, "many strangers": 3000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSiteOn(t, "syncrepl", ldaptest.Options{MemberOf: "overlay"})
			before := s.accounts()
			s.stop()
			for n := range populated {
				s.target.Seed(scim.KindUser, map[string]any{"userName": fmt.Sprintf("stranger%d", n)})
			}
			if err := os.RemoveAll(s.data); err != nil {
				t.Fatal(err)
			}
			s.renames()
			s.target.ResetLog()
			s.start()
			s.until("everything is renamed", s.isRenamed)

			after := s.accounts()
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("resource ids by externalId: -before +after\n%s", diff)
			}
			for _, r := range s.target.Writes() {
				if r.Method != http.MethodPatch || strings.Contains(r.Body, `"remove"`) {
					t.Errorf("%s %s %s", r.Method, r.Path, r.Body)
				}
			}
			s.until("nothing is held", func() bool { now := s.held(); return now != nil && len(now) == 0 })
		})
	}
}
