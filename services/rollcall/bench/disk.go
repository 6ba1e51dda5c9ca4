package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

const syncedWrites = 200

// disk states what one synced write costs here: every claim, commit and publish
// of Rollcall waits for one.
func (b *bench) disk(context.Context) (err error) {
	file, err := os.Create(filepath.Join(b.scratch, "synced"))
	if err != nil {
		return fmt.Errorf("measure synced writes: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	block := make([]byte, 4096)
	var all []time.Duration
	for range syncedWrites {
		started := time.Now()
		if _, err := file.Write(block); err != nil {
			return fmt.Errorf("measure synced writes: %w", err)
		}
		if err := file.Sync(); err != nil {
			return fmt.Errorf("measure synced writes: %w", err)
		}
		all = append(all, time.Since(started))
	}
	b.report.percentiles("disk: synced write of 4 KiB", all, "", nil)
	return nil
}

func machine() string {
	return fmt.Sprintf("%s/%s, %d processors, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}
