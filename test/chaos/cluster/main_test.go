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
	previousFlag = flag.String("previous", "", "revision of the previous release; empty: the last tag, or where there is none, the tenth commit before")
	killsFlag    = flag.Int("kills", 50, "leaders that are killed for the figures")
	usersFlag    = flag.Int("users", 2000, "users of the large directory; it has a group for every twenty of them")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	for _, one := range []*programs{usual, withClock, previous} {
		one.remove()
	}
	if err := results.write(os.Stdout, *reportFlag); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// programs are the binaries, which are built once for all stories that need them. Where
// the environment names a defect, they have it; see pkg/defect.
type programs struct {
	// prepare, where there is any, says in which directory they are built (empty: the
	// present one) and with which flags of `go build`; it may write to dir.
	prepare func(dir string) (in string, flags []string, err error)

	services bool // only the services are built

	once sync.Once
	dir  string
	err  error
}

// usual are the programs as they are.
var usual = &programs{}

// build returns the directory of the binaries.
func (p *programs) build() (string, error) {
	p.once.Do(func() {
		if p.dir, p.err = os.MkdirTemp("", "cluster"); p.err != nil {
			return
		}
		var in string
		var flags []string
		if p.prepare != nil {
			if in, flags, p.err = p.prepare(p.dir); p.err != nil {
				return
			}
		}
		if os.Getenv("ROLLCALL_DEFECT") != "" {
			flags = append(flags, "-tags", "defect")
		}
		const module = "github.com/rollcall-scim/rollcall/"
		packages := []string{module + "services/" + detector, module + "services/" + userSync, module + "services/" + groupSync}
		if !p.services {
			packages = append(packages, module+"services/rollcall", module+"test/chaos/cluster/natsd")
		}
		p.err = process.Build(in, p.dir, flags, packages...)
	})
	return p.dir, p.err
}

func (p *programs) remove() {
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// launch runs a program until it is ended or the test ends.
func (p *programs) launch(t *testing.T, name, log string, env []string, args ...string) *process.Process {
	t.Helper()
	dir, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	started, err := process.Start(process.Spec{Path: filepath.Join(dir, name), Args: args, Env: env, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(started.Kill)
	return started
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
