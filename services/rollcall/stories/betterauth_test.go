package stories

import "testing"

// TestStoriesOnBetterAuth runs stories against another server that others wrote. Two
// do not fit it: it wants every user to have an e-mail address, also those that are
// there before ("existing"), and keeps the address of a deleted user for itself, so
// that nobody who returns is created again ("return").
func TestStoriesOnBetterAuth(t *testing.T) {
	t.Parallel()
	runOnPeer(t, "betterauth", ways{}, "existing", "return")
}
