package backup_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/backup"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// What a backup holds is there after a restore to another server, with the position of
// its consumers; what came later is not.
func TestRestoreIsWhatWasSaved(t *testing.T) {
	t.Parallel()
	from, dir := bustest.Start(t), filepath.Join(t.TempDir(), "monday")
	put := func(b *bus.Bus, key, text string) {
		t.Helper()
		if err := b.PutText(t.Context(), provisioningv1.BucketTargets, key, text, 0); err != nil {
			t.Fatal(err)
		}
	}
	put(from, "wiki.note", "before")
	spec := bus.ConsumerSpec{Stream: directoryv1.StreamUsers, Name: "users-wiki-1", Filter: directoryv1.EntryFilter(directoryv1.Kind_KIND_USER, "corp"), Window: 1}
	if err := from.EnsureConsumer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	saved, err := backup.Save(t.Context(), from, dir)
	if err != nil {
		t.Fatal(err)
	}
	put(from, "wiki.note", "after")
	if _, err := backup.Save(t.Context(), from, dir); !errors.Is(err, backup.ErrExists) {
		t.Errorf("a second backup at the same place: %v", err)
	}
	private(t, dir)

	to := bustest.Start(t)
	put(to, "wiki.note", "another life")
	if _, err := backup.Restore(t.Context(), to, dir, false); !errors.Is(err, backup.ErrHoldsData) {
		t.Fatalf("restored over data: %v", err)
	}
	restored, err := backup.Restore(t.Context(), to, dir, true)
	if err != nil {
		t.Fatal(err)
	}
	for i := range saved {
		saved[i].Bytes = 0
	}
	if diff := cmp.Diff(saved, restored); diff != "" {
		t.Errorf("-saved +restored\n%s", diff)
	}
	if err := to.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := to.Text(t.Context(), provisioningv1.BucketTargets, "wiki.note"); err != nil || got != "before" {
		t.Errorf("the note is %q, %v", got, err)
	}
	if got, err := to.Consumers(t.Context(), directoryv1.StreamUsers); err != nil || !cmp.Equal(got, []string{spec.Name}) {
		t.Errorf("consumers %v, %v", got, err)
	}
}

// An incomplete backup deletes nothing.
func TestIncompleteBackupDeletesNothing(t *testing.T) {
	t.Parallel()
	b, dir := bustest.Start(t), filepath.Join(t.TempDir(), "monday")
	if err := b.PutText(t.Context(), provisioningv1.BucketTargets, "wiki.note", "kept", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Save(t.Context(), b, dir); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "KV_links")); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Restore(t.Context(), b, dir, true); !errors.Is(err, backup.ErrIncomplete) {
		t.Fatalf("restored: %v", err)
	}
	if got, err := b.Text(t.Context(), provisioningv1.BucketTargets, "wiki.note"); err != nil || got != "kept" {
		t.Errorf("the note is %q, %v", got, err)
	}
}

// private sees that nobody else may read a backup.
func private(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
