package scratch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Template is a directory of the cache that takes long to make. It is made once,
// whoever asks first; the key says what it was made of.
func Template(ctx context.Context, name, key string, fill func(ctx context.Context, dir string) error) (string, error) {
	cache, err := Cache(name)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	dir := filepath.Join(cache, key)
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	work, err := os.MkdirTemp(cache, "unfinished-")
	if err != nil {
		return "", fmt.Errorf("make a directory in the cache: %w", err)
	}
	if err := fill(ctx, work); err != nil {
		return "", errors.Join(err, os.RemoveAll(work))
	}
	if err := os.Rename(work, dir); err != nil {
		return "", fmt.Errorf("keep what was made: %w", err)
	}
	return dir, nil
}

// lock waits for a file that one process at a time may hold.
func lock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in our own cache
	if err != nil {
		return nil, fmt.Errorf("open the lock of the cache: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", file, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing unlocks
}

// Copy copies a directory with its modes; the copy must not exist.
func Copy(ctx context.Context, from, to string) error {
	_, err := Run(ctx, os.Environ(), "", "cp", "--archive", "--sparse=always", "--no-target-directory", from, to)
	return err
}
