package worker

import (
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

func TestHintNamesTheKeyThatHelps(t *testing.T) {
	t.Parallel()
	nested, noPut := scim.Generic(), scim.Generic()
	nested.ExtensionPatch, noPut.Put = scim.ExtensionNested, false
	department := scim.SchemaEnterpriseUser + ":department"
	for _, row := range []struct {
		profile scim.Profile
		path    string
		patched bool
		want    string
	}{
		{scim.Generic(), department, true, "extension_patch to nested"},
		{nested, department, true, "extension_patch to put"},
		{scim.Generic(), department, false, "target.overrides.drop"},
		{scim.Generic(), "title", true, "patch_only"},
		{noPut, "title", true, "target.overrides.drop"},
		{scim.Generic(), "externalId", true, "external_id"},
		{scim.Generic(), "active", true, "patch_only"},
		{noPut, "active", true, "users.remove"},
	} {
		if got := Hint(row.profile, row.path, row.patched); !strings.Contains(got, row.want) {
			t.Errorf("%s, by PATCH %v: %q does not name %s", row.path, row.patched, got, row.want)
		}
	}
}

// An attribute counts as immutable everywhere when several resources showed it, and
// active never does.
func TestImmutableNeedsSeveralResources(t *testing.T) {
	t.Parallel()
	var i Immutables
	for _, id := range []string{"1", "2", "2", "1"} {
		i.Refused("title", id)
	}
	if i.Everywhere("title") {
		t.Error("two resources are enough")
	}
	for _, id := range []string{"1", "2", "3", "4"} {
		i.Refused("title", id)
		i.Refused("active", id)
	}
	if !i.Everywhere("title") || i.Everywhere("active") || i.Everywhere("nickName") {
		t.Errorf("title %v, active %v, nickName %v", i.Everywhere("title"), i.Everywhere("active"), i.Everywhere("nickName"))
	}
}
