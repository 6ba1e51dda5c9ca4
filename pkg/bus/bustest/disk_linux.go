package bustest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk is a small disk, in memory, that a test can fill.
type Disk struct {
	// Dir is where it is mounted.
	Dir string
}

// SmallDisk mounts a disk of a size in bytes until the test ends. That takes the rights of
// root, or CAP_SYS_ADMIN: without them the test fails, because it cannot say anything.
func SmallDisk(tb testing.TB, size int) *Disk {
	tb.Helper()
	dir := tb.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		tb.Fatalf("mount a small disk: %v; run this test as root, or in a container with CAP_SYS_ADMIN", err)
	}
	tb.Cleanup(func() {
		// a server that failed to write a batch keeps its files open: the disk goes with them
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			tb.Errorf("unmount the small disk: %v", err)
		}
	})
	return &Disk{Dir: dir}
}

func (d *Disk) filler() string { return filepath.Join(d.Dir, "filler") }

// Fill writes until no byte is left.
func (d *Disk) Fill(tb testing.TB) {
	tb.Helper()
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size > 0; {
		switch _, err := f.Write(make([]byte, size)); {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			tb.Fatal(err)
		}
	}
}

// Free makes room again.
func (d *Disk) Free(tb testing.TB) {
	tb.Helper()
	if err := os.Remove(d.filler()); err != nil {
		tb.Fatal(err)
	}
}
