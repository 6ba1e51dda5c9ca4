package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
)

// On a full disk NATS answers everything and stores nothing: the status says both.
func TestStatusSaysThatNATSHasNoSpace(t *testing.T) {
	t.Parallel()
	disk := bustest.SmallDisk(t, 32<<20)
	s := newSite(t)
	if err := os.Symlink(disk.Dir, filepath.Join(s.dir, "data")); err != nil {
		t.Fatal(err)
	}
	server := s.runNATS(t, disk.Dir)
	if err := bustest.Connect(t, server).Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	disk.Fill(t)
	st, says, code := s.status(t)
	if code != exitFailure || !strings.Contains(says, "NATS refuses writes: no space") || !strings.Contains(says, "make room") {
		t.Errorf("exit code %d, and it says %q", code, says)
	}
	if len(st.Errors) != 1 || !strings.Contains(st.Errors[0], "no space") || st.Connections[0].Users == nil || st.Sources[0].Error != "" {
		t.Errorf("the status is %+v, want what can be read, and that nothing is stored", st)
	}
}
