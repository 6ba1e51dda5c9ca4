package stories

import "testing"

// TestStoriesOnScimmy runs stories against a server that others wrote
// and compares the final states.
func TestStoriesOnScimmy(t *testing.T) {
	t.Parallel()
	runOnPeer(t, "scimmy", ways{})
}
