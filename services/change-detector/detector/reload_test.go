package detector

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/status"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// The directory comes back with the same names under new ids: the new entries are
// published, and the old ones stay as they are until the old data is restored, or
// a person lets them go.
func TestReloadedDirectory(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{connection.ModeSyncrepl, connection.ModeSnapshot} {
		for _, end := range []string{"approved", "restored"} {
			t.Run(mode+"/"+end, func(t *testing.T) {
				t.Parallel()
				testReload(t, mode, end == "approved")
			})
		}
	}
}

func testReload(t *testing.T, mode string, approve bool) {
	t.Helper()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: workforce(50)})
	b := bustest.Start(t)
	cfg := realConfig(t, srv, [2]string{"preset: openldap", fmt.Sprintf("preset: openldap\n    detection: {mode: %s, interval: 1s}", mode)})
	start(t, cfg, b)
	first := awaitPass(t, b, status.Pass{}, anyPass)
	before := readAllStreams(t, b)
	data := reset(t, srv, srv.BaseTree()+"\n"+workforce(50))

	awaitPass(t, b, first, func(p status.Pass) bool { return p.Held == 52 && p.Users == 100 })
	oldOnes(t, "reloaded", before, readAllStreams(t, b))
	for _, i := range list(t, b) {
		if !strings.Contains(i.GetReason(), "50 of 50 entries came back under another id: the directory was reloaded") {
			t.Fatalf("held because of %q", i.GetReason())
		}
	}
	if !approve {
		reset(t, srv, data)
		awaitPass(t, b, first, func(p status.Pass) bool { return p.Held == 52 && p.Users == 100 && heldNew(t, b, before) == 52 })
		oldOnes(t, "restored", before, readAllStreams(t, b))
		return
	}
	for _, i := range list(t, b) {
		if err := held.OfSource(b, "corp").Mark(t.Context(), i, provisioningv1.Mark_MARK_APPROVED, "approval-1"); err != nil {
			t.Fatal(err)
		}
	}
	await(t, func() string {
		if n := len(list(t, b)); n > 0 {
			return fmt.Sprintf("%d are held still", n)
		}
		return ""
	})
	after := readHeaders(t, b)
	for subject := range before {
		if strings.Contains(subject, ".entry.") && (after[subject][directoryv1.HeaderOp] != "OP_ABSENT" || after[subject][directoryv1.HeaderApproval] != "approval-1") {
			t.Fatalf("%s: %v, want it removed by approval-1", subject, after[subject])
		}
	}
}

// reset gives a running server other data and returns what it had.
func reset(t *testing.T, srv *ldaptest.Server, ldif string) string {
	t.Helper()
	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	data, err := srv.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Reset(t.Context(), ldif); err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return data
}

func list(t *testing.T, b *bus.Bus) []held.Item {
	t.Helper()
	all, err := held.OfSource(b, "corp").List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// heldNew counts what is held of entries that were not there before.
func heldNew(t *testing.T, b *bus.Bus, before map[string]message) int {
	t.Helper()
	n := 0
	for _, i := range list(t, b) {
		if _, old := before[directoryv1.EntrySubject(i.Kind, "corp", i.ID)]; !old {
			n++
		}
	}
	return n
}

// oldOnes checks that the entries from before are published as they were.
func oldOnes(t *testing.T, when string, before, after map[string]message) {
	t.Helper()
	after = maps.Clone(after)
	maps.DeleteFunc(after, func(subject string, _ message) bool { _, old := before[subject]; return !old })
	sameStreams(t, when, before, after)
}

func readHeaders(t *testing.T, b *bus.Bus) map[string]map[string]string {
	t.Helper()
	all := map[string]map[string]string{}
	for _, kind := range kinds {
		opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(kind, "corp")}}
		err := b.Read(t.Context(), kind.Stream(), opts, func(s *bus.Stored) error {
			all[s.Subject] = s.Header
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}
