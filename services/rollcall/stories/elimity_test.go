package stories

import "testing"

// TestStoriesOnElimity runs stories against a server on a library that others
// wrote, which refuses everything that its schemas do not know.
func TestStoriesOnElimity(t *testing.T) {
	t.Parallel()
	runOnPeer(t, "elimity", ways{})
}
