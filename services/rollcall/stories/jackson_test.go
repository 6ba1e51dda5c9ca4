package stories

import "testing"

// TestStoriesOnJackson runs stories against the directory synchronization of SAML
// Jackson (Polis), which never shows the members of a group and looks users up by their
// e-mail address. Two stories do not fit it: where members cannot be read, no trial
// shows that a removal leaves the others, so that none is made unless the operator
// vouches for it ("canary"), and a comparison says that it could not judge them
// ("drift").
func TestStoriesOnJackson(t *testing.T) {
	t.Parallel()
	runOnPeer(t, "jackson", ways{
		overrides: `, unique: none, members_on_create: false, members_readable: "no", extension_patch: nested`,
		match:     "'emails[type eq \"work\"].value', userName",
	}, "canary", "drift")
}
