package ldapsource

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/fake"
)

// Another server, or a database from yesterday, ends the session on whichever
// connection it shows.
func TestController_another(t *testing.T) {
	t.Parallel()
	sweeping := func(c *connection.Source) { c.Detection.SweepInterval = time.Millisecond }
	quiet := func(c *connection.Source) { c.Detection.Interval, c.Detection.SweepInterval = time.Hour, 0 }
	for name, change := range map[string]func(d *controllerFake){
		"another server":      func(d *controllerFake) { d.service = "CN=NTDS Settings,CN=DC2,CN=Configuration," + fakeTop },
		"a restored database": func(d *controllerFake) { d.origin = "fedcba9876543210" },
		"an id that vanished": func(d *controllerFake) { d.origin = "" },
		"an earlier state":    func(d *controllerFake) { d.usn = 999 },
	} {
		for _, m := range []Mode{ModeDirSync, ModeUSN} {
			t.Run(fmt.Sprintf("%s %s", m, name), func(t *testing.T) {
				t.Parallel()
				d := newFake(3)
				s := fakeSource(t, d, m)
				r := watch(t, s)
				r.next(t)
				d.do(func() {
					change(d)
					d.entries = d.entries[:1] // which would be a disaster
				})
				if err := r.end(t); !errors.Is(err, ErrServer) {
					t.Errorf("the session ended with %v", err)
				}
				harmless(t, r, 1)
			})
		}
		if name == "an earlier state" {
			continue // shows where numbers are asked for
		}
		t.Run("further connections "+name, func(t *testing.T) {
			t.Parallel()
			d := newFake(3)
			s := fakeSource(t, d, ModeDirSync, sweeping, func(c *connection.Source) { c.Detection.Interval = time.Hour })
			d.other = func(search fake.Search) (fake.Answer, bool) {
				if search.Conn > 4 { // after the probe, two of the session, and the first read
					change(d)
					d.entries = d.entries[:1]
				}
				return fake.Answer{}, false
			}
			r := watch(t, s)
			if err := r.end(t); !errors.Is(err, ErrServer) {
				t.Errorf("the session ended with %v", err)
			}
			harmless(t, r, 1)
		})
		t.Run("confirm "+name, func(t *testing.T) {
			t.Parallel()
			d := newFake(3)
			s := fakeSource(t, d, ModeUSN, quiet)
			r := watch(t, s)
			known := r.next(t).byDN("CN=u10," + fakeBase).ID
			d.do(func() { change(d) })
			if _, err := s.Confirm(t.Context(), []ID{{1}}, []ID{known}); !errors.Is(err, ErrServer) {
				t.Errorf("Confirm ended with %v", err)
			}
		})
	}
}

func TestController_name(t *testing.T) {
	t.Parallel()
	for origin, want := range map[string]string{fakeOrigin: hex.EncodeToString([]byte(fakeOrigin)), "": fakeNTDS} {
		d := newFake(1)
		d.origin = origin
		if got := watch(t, fakeSource(t, d, ModeUSN)).next(t); got.proof.Server != want || got.proof.Mode != ModeUSN {
			t.Errorf("%+v, want server %s", got.proof, want)
		}
	}
}

func TestChoose_activeDirectory(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		refuse func(flags int64) uint16
		want   Mode
		reason string
	}{
		"with the right":       {func(int64) uint16 { return 0 }, ModeDirSync, "offers DirSync"},
		"without":              {func(f int64) uint16 { return uint16(50 * (1 - f&ldap.DirSyncObjectSecurity)) }, ModeDirSync, "no right Replicating Directory Changes"},
		"not at all":           {func(int64) uint16 { return 50 }, ModeUSN, "uSNChanged"},
		"for another reason":   {func(int64) uint16 { return 53 }, ModeUSN, "uSNChanged"},
		"without any deletion": {nil, ModeSnapshot, "usn does not work"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFake(1)
			if test.refuse == nil {
				d.controls = []string{ldap.ControlTypePaging}
			}
			d.other = func(s fake.Search) (fake.Answer, bool) {
				c, ok := ldap.FindControl(s.Controls, ldap.ControlTypeDirSync).(*ldap.ControlDirSync)
				if !ok || test.refuse(c.Flags) == 0 {
					return fake.Answer{}, false
				}
				return fake.Answer{Code: test.refuse(c.Flags)}, true
			}
			got, err := fakeSource(t, d, ModeAuto).Probe(t.Context())
			if err != nil || got.Mode != test.want || !strings.Contains(got.Reason, test.reason) {
				t.Errorf("%+v, %v", got, err)
			}
			if pinned := got.controller != nil; pinned != (test.want != ModeSnapshot) {
				t.Errorf("the session is bound to one server: %t", pinned)
			}
		})
	}
}
