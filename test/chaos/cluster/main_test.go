//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/test/chaos/process"
)

var (
	seedFlag     = flag.Uint64("seed", 0, "seed of the random choices; 0: a new one")
	storiesFlag  = flag.String("stories", "selection", "selection, nightly, notyet, or names of stories, separated by commas")
	durationFlag = flag.Duration("duration", time.Hour, "how long random stories are played")
	reportFlag   = flag.String("report", "", "file that gets the table of the stories")
	killsFlag    = flag.Int("kills", 50, "leaders that are killed for the figures")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if programs != "" {
		_ = os.RemoveAll(programs)
	}
	if err := results.write(os.Stdout, *reportFlag); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// programs is the directory of the binaries, once they are built.
var programs string

// build makes the binaries once for all stories.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		return "", err
	}
	programs = dir
	const module = "github.com/rollcall-scim/rollcall/"
	return dir, process.Build(dir, "", module+"services/"+detector, module+"services/"+userSync, module+"services/"+groupSync,
		module+"services/rollcall", module+"test/chaos/cluster/natsd")
})

// launch runs a program until it is ended or the test ends.
func launch(t *testing.T, name, log string, env []string, args ...string) *process.Process {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	p, err := process.Start(process.Spec{Path: filepath.Join(dir, name), Args: args, Env: env, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// newSeed is the seed of a story; the log says how to choose it again.
func newSeed(t *testing.T) uint64 {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() >> 32
	}
	t.Logf("seed %d: again with SEED=%d", seed, seed)
	return seed
}

const (
	poll = 100 * time.Millisecond
	// attempt bounds one question: a server that has stopped may never answer it.
	attempt = 5 * time.Second
)

// eventually asks other processes again and again until there is nothing to object to.
// The test fails with the last objection when that takes too long.
func eventually(ctx context.Context, t *testing.T, within time.Duration, what string, look func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	objection := error(nil)
	for {
		err := ask(ctx, look)
		if err == nil {
			return
		}
		if ctx.Err() == nil || objection == nil { // otherwise the question was broken off
			objection = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s: %v", within, what, objection)
		case <-tick.C:
		}
	}
}

func ask(ctx context.Context, look func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	return look(ctx)
}

const shown = 8000

// tail is the end of a log.
func tail(file string) string {
	log, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	if len(log) > shown {
		log = log[len(log)-shown:]
		_, log, _ = bytes.Cut(log, []byte("\n"))
	}
	return string(log)
}
