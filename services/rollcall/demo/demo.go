package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rollcall-scim/rollcall/services/rollcall/demo/compare"
)

// demo is the table of contents:
//
//  1. make a scratch directory, where everything is written
//  2. start directory, target and Rollcall
//  3. wait until both sides are equal
//  4. play the morning, change by change
//  5. compare once more
//  6. unless it is played once, leave everything running until ctx ends
//  7. end what was started
func demo(ctx context.Context, p *printer, once bool) (err error) {
	scratch, err := os.MkdirTemp("", "rollcall-demo-") // 1
	if err != nil {
		return fmt.Errorf("make a scratch directory: %w", err)
	}
	p.line("scratch directory  %s", scratch)
	company := newCompany()
	var result string
	defer func() { err = finish(p, scratch, result, once, err) }()
	s, err := newStage(ctx, p, scratch, company)         // 2
	defer func() { err = errors.Join(err, s.close()) }() // 7
	if err != nil {
		return interruption(ctx, err)
	}
	if err := s.firstSync(ctx); err != nil { // 3
		return s.failure(ctx, err)
	}
	latencies, err := s.play(ctx, morning(company)) // 4
	if err != nil {
		return s.failure(ctx, err)
	}
	if result, err = s.verdict(ctx, latencies); err != nil { // 5
		return s.failure(ctx, err)
	}
	if once {
		return nil
	}
	p.strong(result)
	return s.stay(ctx) // 6
}

// finish removes the scratch directory after a success that nobody wants to look
// at, and prints the last line.
func finish(p *printer, scratch, result string, once bool, err error) error {
	if err != nil || !once {
		p.line("what was written is kept in %s", scratch)
		return err
	}
	if err := os.RemoveAll(scratch); err != nil {
		return fmt.Errorf("remove the scratch directory: %w", err)
	}
	p.strong(result)
	return nil
}

var errInterrupted = errors.New("interrupted")

// interruption is the error for a person: Ctrl-C is not a fault of what it hit.
func interruption(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if errors.Is(context.Cause(ctx), errOrphan) {
		return errOrphan
	}
	return errInterrupted
}

// failure adds to an error where to look for its reason.
func (s *stage) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return interruption(ctx, err)
	}
	return fmt.Errorf("%w\nlogs:\n  %s\n  %s\n  %s\nthe last lines of %s:\n%s", err,
		s.rollcall.log, s.target.log, filepath.Join(s.dir, "slapd", "log"), s.rollcall.log, tail(s.rollcall.log))
}

// compare reads both sides and says what the target holds and how it differs.
func (s *stage) compare(ctx context.Context) (got compare.State, diff []string, err error) {
	want, err := s.expected(ctx)
	if err != nil {
		return got, nil, err
	}
	got, err = s.scim.Read(ctx)
	return got, compare.Diff(want, got), err
}

// expected is what the target should hold, by what ldapsearch says now.
func (s *stage) expected(ctx context.Context) (compare.State, error) {
	var sides [2][]compare.Entry
	for i, filter := range []string{"(objectClass=inetOrgPerson)", "(objectClass=groupOfNames)"} {
		ldif, err := s.directory.Search(ctx, s.directory.ReaderDN, s.directory.ReaderPassword, "-b", suffix, filter)
		if err != nil {
			return compare.State{}, fmt.Errorf("read the directory: %w", err)
		}
		if sides[i], err = compare.ParseLDIF(ldif); err != nil {
			return compare.State{}, fmt.Errorf("read ldapsearch's output: %w", err)
		}
	}
	return compare.Expected(sides[0], sides[1], s.kept), nil
}

// verdict is the last comparison, and the demo's last line.
func (s *stage) verdict(ctx context.Context, latencies []time.Duration) (string, error) {
	got, diff, err := s.compare(ctx)
	if err != nil {
		return "", err
	}
	if len(diff) > 0 {
		return "", differs("directory and target differ after the story", diff)
	}
	p50, longest := summary(latencies)
	return fmt.Sprintf("demo: equal (%d users, %d groups, %d changes, p50 %s, max %s)",
		len(got.Users), len(got.Groups), len(latencies), millis(p50), millis(longest)), nil
}
