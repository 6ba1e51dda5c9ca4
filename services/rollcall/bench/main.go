// Command bench prints the figures of Rollcall's performance: a first sync into a
// target, the time from a change in the directory to its request at the target,
// and a full pass over a large directory. Everything is started here, on
// loopback, and ended again: OpenLDAP, a SCIM server, `rollcall run`.
//
// A figure passes or fails by a count, or by its ratio to a baseline of the same
// run, on the same machine at the same time: 1 is as fast as the baseline.
// Seconds and milliseconds are only stated.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Exit codes beside 0: a figure failed, the program failed.
const (
	exitFailed = 1
	exitError  = 2
)

func main() { os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr)) }

// execute runs the benchmark, or the detector for it, and returns the exit code.
func execute(args []string, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) > 0 && args[0] == detectorCommand {
		if err := runDetector(ctx, args[1:]); err != nil {
			_, _ = fmt.Fprintln(errOut, "detector:", err)
			return exitError
		}
		return 0
	}
	o, err := parse(args, errOut)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	var r *report
	if err == nil {
		r, err = run(ctx, o, errOut)
	}
	if err == nil {
		err = r.print(out, o.format)
	}
	switch {
	case err != nil:
		_, _ = fmt.Fprintln(errOut, "bench:", err)
		return exitError
	case !r.Passed:
		return exitFailed
	}
	return 0
}

// options is what a run measures.
type options struct {
	small, large  shape
	runs, changes int
	leavers       int // whose way to the target is timed
	members       int // of the big group that somebody joins
	crowd         int // users of the figures of pushing
	huge          int // members of the group that is pushed
	joins         int
	minRatio      float64
	only          string // the one step to do; empty for all
	skipLarge     bool
	unjudged      bool // ratios are only stated: the sizes are too small for them
	format        string
	dir, programs string
}

func parse(args []string, errOut io.Writer) (options, error) {
	o := options{small: shape{users: 1000, groups: 51}, large: shape{big: true}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.IntVar(&o.runs, "runs", 3, "runs of a first sync, of which the fastest counts")
	flags.IntVar(&o.changes, "changes", 500, "changes whose way to the target is timed")
	flags.IntVar(&o.leavers, "leavers", 200, "people who leave a directory of -crowd users, two in each second")
	flags.IntVar(&o.members, "members", 20_000, "members of the group that somebody joins")
	flags.IntVar(&o.crowd, "crowd", 10_000, "users of the figures of pushing")
	flags.IntVar(&o.huge, "huge", 100_000, "members of the group that is pushed")
	flags.IntVar(&o.joins, "joins", 30, "how many join it")
	flags.IntVar(&o.large.users, "users", 100_000, "users of the large directory; it has a group for each fifty")
	flags.BoolVar(&o.skipLarge, "skip-large", false, "leave the large directory out, and do one first sync only")
	flags.StringVar(&o.only, "only", "", "do one step only: "+strings.Join(stepNames, ", "))
	flags.Float64Var(&o.minRatio, "min-ratio", 0, "fail where a first sync has a smaller ratio to bare; 0: only state it")
	flags.StringVar(&o.format, "o", "text", "output format: text or json")
	flags.StringVar(&o.dir, "dir", "", "where the scratch directory is made; its disk counts. Empty: the system's")
	flags.StringVar(&o.programs, "bin", "", "directory with rollcall, scimtest and bare; empty: they are built")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.large.groups = max(minGroups, o.large.users/50)
	if o.skipLarge {
		o.runs = 1
	}
	if flags.NArg() > 0 || o.runs < 1 || o.changes < 1 || o.leavers < 1 || o.members < 1 || o.joins < 1 || o.large.users < 1 || (o.format != "text" && o.format != "json") {
		flags.Usage()
		return o, errors.New("wrong arguments")
	}
	if o.only != "" && !slices.Contains(stepNames, o.only) {
		return o, fmt.Errorf("there is no step %q: write one of %s", o.only, strings.Join(stepNames, ", "))
	}
	return o, nil
}

// stepNames are the steps in their order, and largeSteps those that take a while.
var (
	stepNames  = []string{"disk", "first-sync", "latency", "removals", "join", "full-pass", "crowd", "telemetry", "calls", "replicas", "nats-replicas", "limits", "huge-group"}
	largeSteps = []string{"removals", "full-pass", "crowd", "telemetry", "replicas", "nats-replicas", "limits", "huge-group"}
)

// skips says whether a step is left out.
func (o options) skips(step string) bool {
	return o.only != "" && o.only != step || o.skipLarge && slices.Contains(largeSteps, step)
}

// bench is one run.
type bench struct {
	opts     options
	scratch  string
	programs string
	self     string // this program, for the detector
	report   *report
	progress io.Writer
}

// run is the table of contents of the benchmark:
//
//  1. build what is measured
//  2. state what the disk costs
//  3. first sync, beside bare
//  4. change to request, beside the directory's own times; the same for people who leave
//  5. a person joins a big group, beside a bare read of the group
//  6. full pass over a large directory, beside a bare read
//  7. many users at a quick and at a slow target, with telemetry and without, beside
//     bare; what changes and refusals cost
//  8. replicas, their common limits, and a huge group, with every service alone
//
// Everything that was started has ended, and the scratch directory is gone, when
// it returns.
func run(ctx context.Context, o options, progress io.Writer) (r *report, err error) {
	b := &bench{opts: o, programs: o.programs, report: &report{Machine: machine(), Unjudged: o.unjudged}, progress: progress}
	if b.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	if b.scratch, err = os.MkdirTemp(o.dir, "rollcall-bench-"); err != nil {
		return nil, fmt.Errorf("make a scratch directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.scratch)) }()
	if b.programs == "" { // 1
		b.say("building")
		b.programs = filepath.Join(b.scratch, "bin")
		if err := build(ctx, b.programs); err != nil {
			return nil, err
		}
	}
	for i, do := range []func(context.Context) error{
		b.disk, b.firstSync, b.latency, b.removals, b.join, b.fullPass, b.crowd, b.telemetry, b.calls, b.replicas, b.natsReplicas, b.limits, b.hugeGroup,
	} { // 2 to 8
		if o.skips(stepNames[i]) {
			continue
		}
		if err := do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", stepNames[i], err)
		}
	}
	b.report.close()
	return b.report, nil
}

func (b *bench) program(name string) string { return filepath.Join(b.programs, name) }

// say tells the person who waits what is going on.
func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.progress, format+"\n", args...)
}
