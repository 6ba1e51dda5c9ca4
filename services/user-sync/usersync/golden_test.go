package usersync_test

import (
	"maps"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// golden is a state of target and link, a change, and every request that it costs.
type golden struct {
	name     string
	quirks   scimtest.Quirks
	users    string // keys of the connection's users
	override string // of the target's profile
	// seed is what the target holds before anybody is provisioned.
	seed map[string]any
	// linked is what was applied before; nil for nobody.
	linked *directoryv1.Change
	// meanwhile happens on the target before the change.
	meanwhile func(t *testing.T, b *workertest.Bench)
	change    *directoryv1.Change
	want      []string
}

// The people of the table. The directory's ann has an entry id, #1.
var (
	ann      = workertest.User(1, "ann", "Cook", "ann@x")
	annOff   = off(workertest.User(1, "ann", "Cook", "ann@x"))
	annGone  = workertest.Gone(user, 1)
	annAlone = map[string]any{"userName": "ann", "active": true}
	annWhole = map[string]any{
		"userName": "ann", "active": true, "title": "Cook", "emails": []any{map[string]any{"type": "work", "value": "ann@x"}},
	}
)

func off(change *directoryv1.Change) *directoryv1.Change {
	change.GetUser().Enabled = false
	return change
}

// ended deletes ann on the target behind our back.
func ended(t *testing.T, b *workertest.Bench) {
	t.Helper()
	old(t, b)
	if err := b.Target.Remove(scim.KindUser, b.Link(user, 1).GetResourceId()); err != nil {
		t.Fatal(err)
	}
}

// replaced is ended, and somebody made another account of her name.
func replaced(t *testing.T, b *workertest.Bench) {
	t.Helper()
	ended(t, b)
	b.Target.Seed(scim.KindUser, annWhole)
}

// lost cuts the connection of the next request of a method, once.
func lost(method string, when scimtest.Reset) func(*testing.T, *workertest.Bench) {
	return func(_ *testing.T, b *workertest.Bench) { answering(b, method, 1, scimtest.Fault{Reset: when}) }
}

const (
	posted     = `POST /Users {"active":true,"emails":[{"primary":true,"type":"work","value":"ann@x"}],"externalId":"#1","title":"Cook","userName":"ann"}`
	postedOff  = `POST /Users {"active":false,"emails":[{"primary":true,"type":"work","value":"ann@x"}],"externalId":"#1","title":"Cook","userName":"ann"}`
	postedBoss = `POST /Users {"active":true,"emails":[{"primary":true,"type":"work","value":"ann@x"}],"externalId":"#1","title":"Boss","userName":"ann"}`
	byName     = `GET /Users?filter=userName eq "ann"`
	byEntry    = `GET /Users?filter=externalId eq "#1"`
	read       = `GET /Users/{id}`
	disabled   = `PATCH /Users/{id} {"Operations":[{"op":"replace","path":"active","value":false}]}`
	enabled    = `PATCH /Users/{id} {"Operations":[{"op":"replace","path":"active","value":true}]}`
	promoted   = `PATCH /Users/{id} {"Operations":[{"op":"replace","path":"title","value":"Boss"}]}`
	renamed    = `PATCH /Users/{id} {"Operations":[{"op":"replace","path":"userName","value":"anna"}]}`
)

func boss() *directoryv1.Change { return workertest.User(1, "ann", "Boss", "ann@x") }

var goldens = []golden{
	// Nothing changes.
	{name: "no effective change", linked: ann, change: ann},
	{name: "an attribute that is not mapped", linked: ann, change: roomed()},
	{name: "gone, and was never here", change: annGone},
	{name: "disabled, and was never here", change: annOff, want: []string{byName}},
	{name: "gone, and disabled before", linked: annOff, users: "provision_disabled: true", change: annGone},

	// Creation.
	{name: "create, the target keeps names unique", change: ann, want: []string{posted}},
	{name: "create disabled", users: "provision_disabled: true", change: annOff, want: []string{postedOff}},
	{
		name: "create, the target keeps nothing unique", quirks: scimtest.Quirks{DuplicateUserNames: true}, override: "unique: none",
		change: ann, want: []string{byName, posted},
	},
	{
		name: "create, matched by two attributes", users: "match: [externalId, userName]", change: ann,
		want: []string{byEntry, byName, posted},
	},
	{
		name: "create, the answer is lost before it was done", meanwhile: lost(http.MethodPost, scimtest.ResetBeforeCommit), change: ann,
		want: []string{posted, byEntry, byName, posted},
	},
	{
		name: "create, the answer is lost after it was done", meanwhile: lost(http.MethodPost, scimtest.ResetAfterCommit), change: ann,
		want: []string{posted, byEntry},
	},

	// Match.
	{name: "exists, and is the same", seed: annWhole, change: ann, want: []string{posted, byName}},
	{
		name: "exists, and differs", seed: annAlone, change: ann,
		want: []string{posted, byName, `PATCH /Users/{id} {"Operations":[` +
			`{"op":"replace","path":"emails","value":[{"primary":true,"type":"work","value":"ann@x"}]},{"op":"replace","path":"title","value":"Cook"}]}`},
	},
	{
		name: "exists, 409 without scimType", quirks: scimtest.Quirks{BareConflict: true}, seed: annWhole, change: ann,
		want: []string{posted, byName},
	},
	{
		name: "exists, the target keeps nothing unique", quirks: scimtest.Quirks{DuplicateUserNames: true}, override: "unique: none",
		seed: annWhole, change: ann, want: []string{byName},
	},
	{name: "exists, matched by another attribute", users: "match: [externalId]", seed: with(annWhole, "externalId", "30303030303030303030303030303031"), change: ann, want: []string{byEntry}},

	// Update.
	{name: "update an attribute", linked: ann, change: boss(), want: []string{promoted}},
	{
		name: "update and clear", linked: ann, change: workertest.User(1, "ann", "", "ann@y"),
		want: []string{`PATCH /Users/{id} {"Operations":[{"op":"replace","path":"emails","value":[{"primary":true,"type":"work","value":"ann@y"}]},{"op":"remove","path":"title"}]}`},
	},
	{name: "rename", linked: ann, change: workertest.User(1, "anna", "Cook", "ann@x"), want: []string{renamed}},
	{name: "rename, names are immutable", override: "immutable: [userName]", linked: ann, change: workertest.User(1, "anna", "Cook", "ann@x")},
	{name: "update, gone on the target", linked: ann, meanwhile: ended, change: boss(), want: []string{promoted, byName, postedBoss}},
	{name: "update, replaced on the target", linked: ann, meanwhile: replaced, change: boss(), want: []string{promoted, byName, promoted}},
	{
		name: "update, the answer is lost", linked: ann, meanwhile: lost(http.MethodPatch, scimtest.ResetAfterCommit), change: boss(),
		want: []string{promoted, promoted},
	},
	{
		name: "update, the profile says that there is no PATCH", quirks: scimtest.Quirks{NoPatch: true}, override: "patch: false", linked: ann, change: boss(),
		want: []string{read, `PUT /Users/{id} {"active":true,"emails":[{"primary":true,"type":"work","value":"ann@x"}],"externalId":"#1","id":"ann","title":"Boss","userName":"ann"}`},
	},

	// Disable and enable.
	{name: "disabled in the directory", linked: ann, change: annOff, want: []string{disabled}},
	{name: "enabled in the directory", users: "provision_disabled: true", linked: annOff, change: ann, want: []string{enabled}},
	{
		name: "enabled, and changed meanwhile", users: "provision_disabled: true", linked: annOff, change: boss(),
		want: []string{`PATCH /Users/{id} {"Operations":[{"op":"replace","path":"active","value":true},{"op":"replace","path":"title","value":"Boss"}]}`},
	},
	{name: "disabled, gone on the target", linked: ann, meanwhile: ended, change: annOff, want: []string{disabled}},
	{name: "enabled, gone on the target", users: "provision_disabled: true", linked: annOff, meanwhile: ended, change: ann, want: []string{enabled, byName, posted}},

	// Removal.
	{name: "gone, disabled by policy", linked: ann, change: annGone, want: []string{disabled}},
	{name: "gone, deleted by policy", users: "remove: delete", linked: ann, change: annGone, want: []string{"DELETE /Users/{id}"}},
	{name: "gone, kept by policy", users: "remove: keep", linked: ann, change: annGone},
	{name: "gone, and gone on the target", users: "remove: delete", linked: ann, meanwhile: ended, change: annGone, want: []string{"DELETE /Users/{id}"}},
	{name: "gone, disabled, and gone on the target", linked: ann, meanwhile: ended, change: annGone, want: []string{disabled}},
	{
		name: "gone, the answer to DELETE is lost", users: "remove: delete", linked: ann, meanwhile: lost(http.MethodDelete, scimtest.ResetAfterCommit), change: annGone,
		want: []string{"DELETE /Users/{id}", "DELETE /Users/{id}"},
	},
	{
		name: "gone, DELETE answers with a body", quirks: scimtest.Quirks{DeleteAnswersOK: true}, users: "remove: delete", linked: ann, change: annGone,
		want: []string{"DELETE /Users/{id}"},
	},
}

func with(body map[string]any, name string, value any) map[string]any {
	all := maps.Clone(body)
	all[name] = value
	return all
}

// roomed is a change that says more than the mapping reads.
func roomed() *directoryv1.Change {
	more := workertest.User(1, "ann", "Cook", "ann@x")
	more.GetUser().Attributes = append(more.GetUser().GetAttributes(), &directoryv1.Attribute{Name: "room", Values: [][]byte{[]byte("12")}})
	return more
}

// TestGoldenRequests is what each change of a user costs, to the letter.
func TestGoldenRequests(t *testing.T) {
	t.Parallel()
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, g.users, scimtest.Options{Quirks: g.quirks})
			b.Override(g.override)
			b.Unguarded()
			if g.seed != nil {
				b.Target.Seed(scim.KindUser, g.seed)
			}
			b.Start(usersync.Run)
			if g.linked != nil {
				b.Until(user, 1, workertest.Applied(b.Publish(g.linked)))
			}
			b.Target.ResetLog()
			if g.meanwhile != nil {
				g.meanwhile(t, b)
			}
			b.Until(user, 1, workertest.Applied(b.Publish(g.change)))
			if diff := cmp.Diff(g.want, b.Sent()); diff != "" {
				t.Errorf("requests: -want +got\n%s", diff)
			}
		})
	}
}
