// Package backup writes everything that Rollcall keeps in NATS to a directory, and
// restores it, by the server's own snapshots of streams. Only a command line needs it.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/jsm.go"
	"github.com/nats-io/jsm.go/api"

	"github.com/rollcall-scim/rollcall/pkg/bus"
)

// Stream is one stream or bucket of a backup.
type Stream struct {
	Name     string `json:"stream"`
	Messages uint64 `json:"messages"`
	// Bytes is what it takes on disk in the backup.
	Bytes int64 `json:"bytes"`
}

var (
	// ErrExists means that a backup would be written over something.
	ErrExists = errors.New("it exists already")
	// ErrHoldsData means that a restore would delete what NATS holds.
	ErrHoldsData = errors.New("NATS holds data that would be deleted")
	// ErrIncomplete means that a directory holds no complete backup.
	ErrIncomplete = errors.New("this is no complete backup")
)

// partial is added to the name of a backup until it is complete.
const partial = ".partial"

// Save writes every stream, with its consumers, to a directory that does not exist yet.
// Services may run meanwhile: each stream is consistent in itself, and a restore
// compares everything with the targets. A backup that failed leaves nothing under the
// directory's name. The files hold personal data and can be read by their owner only.
func Save(ctx context.Context, b *bus.Bus, dir string) ([]Stream, error) {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("write a backup to %s: %w", dir, errors.Join(ErrExists, err))
	}
	manager, err := jsm.New(b.Conn())
	if err != nil {
		return nil, fmt.Errorf("open the management of JetStream: %w", err)
	}
	temporary := dir + partial
	if err := os.RemoveAll(temporary); err != nil {
		return nil, fmt.Errorf("remove an incomplete backup: %w", err)
	}
	var saved []Stream
	for _, name := range b.StreamNames() {
		s, err := save(ctx, manager, name, filepath.Join(temporary, name))
		if err != nil {
			return nil, fmt.Errorf("save stream %s: %w", name, err)
		}
		saved = append(saved, s)
	}
	if err := os.Rename(temporary, dir); err != nil {
		return nil, fmt.Errorf("complete the backup: %w", err)
	}
	return saved, nil
}

func save(ctx context.Context, manager *jsm.Manager, name, dir string) (Stream, error) {
	stream, err := manager.LoadStream(name)
	if err != nil {
		return Stream{}, err
	}
	state, err := stream.State()
	if err != nil {
		return Stream{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Stream{}, err
	}
	if _, err := stream.SnapshotToDirectory(ctx, dir, jsm.SnapshotConsumers(), jsm.SnapshotHealthCheck()); err != nil {
		return Stream{}, err
	}
	s := Stream{Name: name, Messages: state.Msgs}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return s, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if err == nil {
			err = os.Chmod(path, 0o600)
		}
		if err != nil {
			return s, err
		}
		s.Bytes += info.Size()
	}
	return s, nil
}

// Restore puts a backup in the place of what NATS holds. replace allows that data is
// deleted for it; without it ErrHoldsData says which. No service may run meanwhile. What
// NATS held in the streams is deleted only after the backup was seen to be complete.
func Restore(ctx context.Context, b *bus.Bus, dir string, replace bool) ([]Stream, error) {
	manager, err := jsm.New(b.Conn())
	if err != nil {
		return nil, fmt.Errorf("open the management of JetStream: %w", err)
	}
	for _, name := range b.StreamNames() {
		if err := complete(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("restore %s: %w", name, err)
		}
	}
	for _, name := range b.StreamNames() {
		if err := clear(manager, name, replace); err != nil {
			return nil, fmt.Errorf("restore %s: %w", name, err)
		}
	}
	var restored []Stream
	for _, name := range b.StreamNames() {
		_, state, err := manager.RestoreSnapshotFromDirectory(ctx, name, filepath.Join(dir, name))
		if err != nil {
			return restored, fmt.Errorf("restore %s: %w; run the command again with --replace", name, err)
		}
		restored = append(restored, Stream{Name: name, Messages: state.Msgs})
	}
	return restored, nil
}

func complete(dir string) error {
	data, err := jsm.SnapshotDataPath(dir)
	for _, file := range []string{data, filepath.Join(dir, jsm.SnapshotMetaFile)} {
		if err != nil {
			return errors.Join(ErrIncomplete, err)
		}
		var info fs.FileInfo
		if info, err = os.Stat(file); err != nil || info.Size() == 0 {
			return errors.Join(ErrIncomplete, err)
		}
	}
	return nil
}

// clear deletes a stream, if it is there.
func clear(manager *jsm.Manager, name string, replace bool) error {
	stream, err := manager.LoadStream(name)
	if problem, answered := errors.AsType[api.ApiError](err); answered && problem.NotFoundError() {
		return nil
	}
	if err != nil {
		return err
	}
	state, err := stream.State()
	if err != nil {
		return err
	}
	if state.Msgs > 0 && !replace {
		return fmt.Errorf("%w: %d messages", ErrHoldsData, state.Msgs)
	}
	return stream.Delete()
}
