//go:build cluster

package cluster

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// story is something that fails under load.
type story struct {
	name string
	// selected stories are played by `make check`.
	selected bool
	// play lets it fail and ends when everything that was broken is whole again. The
	// load goes on meanwhile.
	play func(s *site)
	// bin are the programs that it is played with; nil: usual.
	bin *programs
	// within is how long it may take until everything is settled; 0: healthy.
	within time.Duration
}

// find is a story by its name.
func find(name string) (story, bool) {
	for _, one := range slices.Concat(stories, notYet, []story{quiet, figure}) {
		if one.name == name {
			return one, true
		}
	}
	return story{}, false
}

// chosen are the stories that the flags ask for.
func chosen(t *testing.T) []story {
	t.Helper()
	switch *storiesFlag {
	case "selection":
		return slices.DeleteFunc(slices.Clone(stories), func(one story) bool { return !one.selected })
	case "all":
		return stories
	case "notyet":
		return notYet
	}
	var all []story
	for name := range strings.SplitSeq(*storiesFlag, ",") {
		one, ok := find(name)
		if !ok {
			t.Fatalf("there is no story %q", name)
		}
		all = append(all, one)
	}
	return all
}

// TestStories plays the chosen stories, two at a time, because they mostly wait.
func TestStories(t *testing.T) {
	t.Parallel()
	if *storiesFlag == "nightly" {
		nightly(t)
		return
	}
	for _, one := range chosen(t) {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			one.run(t, newSeed(t))
		})
	}
}

// quiet is what a quarter of the nightly stories are: load and no failure.
var quiet = story{name: "nothing fails", play: func(s *site) { s.during(100) }}

// nightly plays random stories until the time is over, a quarter of them without any
// failure.
func nightly(t *testing.T) {
	t.Helper()
	r := rand.New(rand.NewPCG(newSeed(t), 3))
	for end := time.Now().Add(*durationFlag); time.Now().Before(end); {
		one := quiet
		if r.IntN(4) > 0 {
			one = stories[r.IntN(len(stories))]
		}
		seed := r.Uint64() >> 32
		t.Run(fmt.Sprintf("%s seed %d", one.name, seed), func(t *testing.T) { one.run(t, seed) })
	}
}

// run plays a story: a first synchronization, the load, what fails, the end of the load,
// and the questions that every story ends with.
func (one story) run(t *testing.T, seed uint64) {
	t.Helper()
	defer func() { results.add(one.name, t.Failed()) }()
	s := newSite(t, cmp.Or(one.bin, usual), seed)
	defer s.explain()
	s.startAll()
	first := s.converge(2 * time.Minute)
	s.strain(s.world.change)
	defer s.relax()
	s.during(10)
	begin := time.Now()
	one.play(s)
	s.during(10)
	s.relax()
	played := time.Since(begin)
	took := s.converge(cmp.Or(one.within, healthy))
	results.took(one.name, took)
	t.Logf("seed %d: first synchronization %.1f s, story %.1f s, %d changes, settled %.1f s after the last one",
		seed, first.Seconds(), played.Seconds(), s.changes(), took.Seconds())
}

// report collects what the stories took.
type report struct {
	mu   sync.Mutex
	rows map[string]*row
}

type row struct {
	runs, failed int
	seconds      []float64
}

var results = &report{rows: map[string]*row{}}

func (r *report) row(name string) *row {
	if r.rows[name] == nil {
		r.rows[name] = &row{}
	}
	return r.rows[name]
}

func (r *report) add(name string, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.row(name)
	one.runs++
	if failed {
		one.failed++
	}
}

func (r *report) took(name string, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.row(name)
	one.seconds = append(one.seconds, d.Seconds())
}

// write prints the table, and writes it to a file where there is one.
func (r *report) write(out io.Writer, file string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rows) == 0 {
		return nil
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "STORY\tRUNS\tFAILED\tSECONDS TO SETTLE: MEDIAN\tMOST")
	for _, name := range slices.Sorted(maps.Keys(r.rows)) {
		one := r.rows[name]
		if len(one.seconds) == 0 {
			_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t-\t-\n", name, one.runs, one.failed)
			continue
		}
		slices.Sort(one.seconds)
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%.1f\t%.1f\n", name, one.runs, one.failed, one.seconds[len(one.seconds)/2], slices.Max(one.seconds))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	_, _ = io.WriteString(out, b.String())
	if file == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}
