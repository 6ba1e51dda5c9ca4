// Demo plays a company's morning: a real OpenLDAP with 200 people, a SCIM target
// and `rollcall run`, started in a scratch directory on loopback ports. It prints
// each change of the directory with what reached the target and how many
// milliseconds later, and proves by an independent comparison that both are equal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

const (
	exitFailure = 1
	exitUsage   = 2
)

// run is main with its surroundings as arguments.
func run(args []string, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(errOut)
	once := flags.Bool("once", false, "end after the story, with success only if directory and target are equal")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	case flags.NArg() > 0:
		_, _ = fmt.Fprintf(errOut, "demo: unknown argument %q\n", flags.Arg(0))
		return exitUsage
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go watchParent(ctx, cancel)
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once; what was started dies with us
	if err := demo(ctx, newPrinter(out), *once); err != nil {
		_, _ = fmt.Fprintf(errOut, "demo: %v\n", err)
		return exitFailure
	}
	return 0
}

var errOrphan = errors.New("the process that started this one has ended")

// watchParent ends the demo with the process that started it: `go run` that is
// terminated does not pass that on.
func watchParent(ctx context.Context, cancel context.CancelCauseFunc) {
	parent := os.Getppid()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if os.Getppid() != parent {
				cancel(errOrphan)
				return
			}
		}
	}
}
