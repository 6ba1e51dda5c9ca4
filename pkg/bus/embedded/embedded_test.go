package embedded_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	fresh := filepath.Join(t.TempDir(), "not", "yet")
	if err := embedded.Inspect(fresh); err != nil {
		t.Errorf("a directory that can be created: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(fresh)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was left behind: %v", err)
	}

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/nowhere"} {
		if err := embedded.Inspect(dir); err == nil || !strings.Contains(err.Error(), "nats.data_dir") {
			t.Errorf("%s: %v, want an error that names nats.data_dir", dir, err)
		}
	}

	used := t.TempDir()
	s, err := embedded.Start(embedded.Config{DataDir: used, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := embedded.Inspect(used); !errors.Is(err, embedded.ErrLocked) || !strings.Contains(err.Error(), used) {
		t.Errorf("a directory that is in use: %v", err)
	}
	s.Close()
	if err := embedded.Inspect(used); err != nil {
		t.Errorf("a directory that was in use: %v", err)
	}
}

// From another working directory a relative data directory is another one.
func TestRunningSaysWhereItLooked(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = embedded.Running("./nothing-here")
	if err == nil || !strings.Contains(err.Error(), filepath.Join(here, "nothing-here")) || !strings.Contains(err.Error(), "relative to the working directory") {
		t.Errorf("%v: says neither where it looked nor why there", err)
	}
}
