// Command bare sends the requests of a recording to a SCIM target as fast as the
// target and the machine allow, and says how long that took. It is the baseline
// of pushing: the same requests with the same transport and the same number in
// flight, but without a directory, a mapping, a decision, a link or a disk.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rollcall-scim/rollcall/services/rollcall/bench/recording"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bare:", err)
		}
		stop()
		os.Exit(2)
	}
}

// result is what bare prints.
type result struct {
	Requests int     `json:"requests"`
	Seconds  float64 `json:"seconds"`
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bare", flag.ContinueOnError)
	url := flags.String("url", "", "base URL of the target")
	token := flags.String("token", "", "bearer token")
	concurrency := flags.Int("concurrency", 32, "requests in flight")
	file := flags.String("recording", "", "file with the requests")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("read the flags: %w", err)
	}
	all, err := recording.Load(*file)
	if err != nil {
		return err
	}
	s := newSender(*url, *token, *concurrency)
	took, err := replay(ctx, s, all)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(result{Requests: all.Count(), Seconds: took.Seconds()}); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// replay sends one phase after the other. Only the sending counts: ids are put
// into bodies and paths before a phase begins, and read from answers after it
// has ended.
func replay(ctx context.Context, s *sender, all recording.Recording) (took time.Duration, err error) {
	ids := map[string]string{}
	for _, phase := range all.Phases {
		calls := prepare(phase, ids)
		started := time.Now()
		if err := s.send(ctx, calls); err != nil {
			return 0, err
		}
		took += time.Since(started)
		if err := learn(calls, ids); err != nil {
			return 0, err
		}
	}
	return took, nil
}
