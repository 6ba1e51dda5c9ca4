// Command scimtest is a SCIM 2.0 server in memory for demonstrations, benchmarks
// and end-to-end tests. GET / shows its users and groups live, GET /requests the
// requests it got, as JSON, and GET /counts how many there are of each. It keeps nothing and is not meant for production.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "scimtest:", err)
		}
		stop()
		os.Exit(2)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("scimtest", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address to listen on; port 0 picks a free one")
	token := flags.String("token", "", "bearer token that clients must send; empty: none")
	latency := flags.Duration("latency", 0, "least duration of every request")
	maxMembers := flags.Int("max-members", 0, "member changes in one request; 0: no limit")
	throttleEvery := flags.Int("throttle-every", 0, "answer 429 to each write of this number; 0: to none")
	awayAfter := flags.Int("away-after", 0, "after so many requests, answer 429 with Retry-After for a while; 0: never")
	awayFor := flags.Duration("away-for", 2*time.Second, "how long that is, in whole seconds")
	urlFile := flags.String("url-file", "", "file that gets the base URL when the server is ready")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("read the flags: %w", err)
	}
	server := scimtest.New(scimtest.Options{Token: *token, Latency: *latency, MaxMembers: *maxMembers, LogSize: 200_000})
	server.SetFault(busy(*throttleEvery, *awayAfter, *awayFor))
	if err := server.Serve(*listen, newPage(server)); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer server.Close()
	if *urlFile != "" {
		if err := writeWhole(*urlFile, server.URL()+"\n"); err != nil {
			return fmt.Errorf("write the URL file: %w", err)
		}
	}
	_, _ = fmt.Fprintln(out, server.URL())
	<-ctx.Done()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(stopping)
}

// busy refuses requests as a target that is asked too much: each of a number, and all
// for a while after a number. nil refuses none.
func busy(throttleEvery, awayAfter int, awayFor time.Duration) func(scimtest.Request) *scimtest.Fault {
	if throttleEvery == 0 && awayAfter == 0 {
		return nil
	}
	var writes, all atomic.Int64
	var until atomic.Int64 // Unix nanoseconds
	return func(r scimtest.Request) *scimtest.Fault {
		if awayAfter > 0 && all.Add(1) == int64(awayAfter) {
			until.Store(time.Now().Add(awayFor).UnixNano())
		}
		if left := time.Until(time.Unix(0, until.Load())); left > 0 {
			return &scimtest.Fault{Status: http.StatusTooManyRequests, RetryAfter: awayFor}
		}
		if throttleEvery > 0 && r.Writes() && writes.Add(1)%int64(throttleEvery) == 0 {
			return &scimtest.Fault{Status: http.StatusTooManyRequests}
		}
		return nil
	}
}

// writeWhole makes the file appear with its content, so that nobody reads half.
func writeWhole(path, content string) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".scimtest-*")
	if err != nil {
		return fmt.Errorf("make a file: %w", err)
	}
	_, err = file.WriteString(content)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
