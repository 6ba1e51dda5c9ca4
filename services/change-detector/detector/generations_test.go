package detector

import (
	"log/slog"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// A removal during a connection's first run waits for a person. Where that ends is
// therefore noted before the detector publishes anything after its first full pass,
// however long everything else about the configuration takes.
func TestFirstRunEndsWithTheFirstPass(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: staff(1)})
	cfg, b := realConfig(t, srv), bustest.Start(t)
	d, err := newDetector(cfg, "corp", b, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	former, known, err := d.readSet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.generations = newGenerations(d, former, known)
	d.generations.advance(t.Context())
	state := func() string {
		text, err := b.Text(t.Context(), provisioningv1.BucketTargets, "wiki.first.users")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got := state(); got != "pending" {
		t.Fatalf("before the pass the first run ends with %s, want pending", got)
	}
	d.firstPassDone(t.Context()) // and nobody runs the generations
	if got := state(); got != "0" {
		t.Errorf("after a pass that published nothing the first run ends with %s, want 0", got)
	}
}
