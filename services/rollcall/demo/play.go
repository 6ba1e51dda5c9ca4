package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/services/rollcall/demo/compare"
)

const (
	firstSyncPatience = 2 * time.Minute
	changePatience    = 20 * time.Second
	progressEvery     = 100 * time.Millisecond
	changeEvery       = 5 * time.Millisecond
	lookAgain         = 500 * time.Millisecond // where nothing more arrives, before both sides are compared again
	quiet             = 150 * time.Millisecond // after a change, so that nothing of it counts for the next one
)

// firstSync shows how the target fills, until both sides are equal.
func (s *stage) firstSync(ctx context.Context) error {
	want, err := s.expected(ctx)
	if err != nil {
		return err
	}
	var requests []request
	err = s.await(ctx, s.rollcall, "the first synchronization", firstSyncPatience, progressEvery, func() (bool, error) {
		fresh, err := s.traffic.next(ctx)
		if err != nil {
			return false, err
		}
		requests = append(requests, fresh...)
		users, groups, err := s.traffic.counts(ctx)
		if err != nil {
			return false, err
		}
		s.printer.progress("first sync         %d of %d users, %d of %d groups, %.1f s",
			users, len(want.Users), groups, len(want.Groups), time.Since(s.started).Seconds())
		if users != len(want.Users) || groups != len(want.Groups) {
			return false, nil
		}
		_, diff, err := s.compare(ctx)
		return err == nil && len(diff) == 0, err
	})
	if err != nil {
		return s.explained(ctx, err)
	}
	s.printer.line("first sync         equal after %.1f s: %d users, %d groups", lastWrite(requests).Sub(s.started).Seconds(), len(want.Users), len(want.Groups))
	s.printer.line("                   %d requests: %s", len(requests), summarise(requests))
	s.printer.line("")
	return nil
}

// play makes the changes one by one and says how long each took to arrive.
func (s *stage) play(ctx context.Context, story []change) ([]time.Duration, error) {
	var latencies []time.Duration
	state, err := s.scim.Read(ctx)
	if err != nil {
		return nil, err
	}
	names := state.Names
	s.printer.line("milliseconds are counted from before ldapmodify is started until the request arrives at the target")
	var writing []time.Duration
	for _, c := range story {
		s.remember(c)
		began := time.Now()
		if err := s.directory.Apply(ctx, c.ldif); err != nil {
			return nil, fmt.Errorf("%s %s: %w", c.at, c.text, err)
		}
		writing = append(writing, time.Since(began))
		requests, state, err := s.arrival(ctx, c)
		if err != nil {
			return nil, err
		}
		merged := maps.Clone(state.Names)
		maps.Copy(merged, names) // a renamed one is shown as it was
		s.printer.change(c, requests, began, merged)
		latencies = append(latencies, lastWrite(requests).Sub(began))
		names = state.Names
	}
	p50, _ := summary(writing)
	s.printer.line("ldapmodify alone (start, bind, change, end) takes %s at the median", millis(p50))
	s.printer.line("more than five removals at once gather for two seconds, so that the guard sees them as one")
	s.printer.line("")
	return latencies, nil
}

// remember keeps account of whose accounts stay, disabled.
func (s *stage) remember(c change) {
	if c.leaves != "" {
		s.kept = append(s.kept, c.leaves)
	}
	s.kept = slices.DeleteFunc(s.kept, func(name string) bool { return name == c.returns })
}

// arrival waits until a change has reached the target: requests came, and both
// sides are equal. It returns the requests and what the target holds.
func (s *stage) arrival(ctx context.Context, c change) (requests []request, state compare.State, err error) {
	var compared time.Time
	equal := func() (bool, error) {
		fresh, err := s.traffic.next(ctx)
		if err != nil {
			return false, err
		}
		requests = append(requests, fresh...)
		if lastWrite(requests).IsZero() || len(fresh) == 0 && time.Since(compared) < lookAgain {
			return false, nil
		}
		compared = time.Now()
		now, diff, err := s.compare(ctx)
		state = now
		return err == nil && len(diff) == 0, err
	}
	what := fmt.Sprintf("%q to reach the target", c.text)
	if err := s.await(ctx, s.rollcall, what, changePatience, changeEvery, equal); err != nil {
		return nil, state, s.explained(ctx, err)
	}
	rest, err := s.settle(ctx)
	return append(requests, rest...), state, err
}

// settle waits until nothing more arrives.
func (s *stage) settle(ctx context.Context) (requests []request, err error) {
	since := time.Now()
	err = s.await(ctx, s.rollcall, "the target to be left in peace", changePatience, changeEvery, func() (bool, error) {
		fresh, err := s.traffic.next(ctx)
		if len(fresh) > 0 {
			since, requests = time.Now(), append(requests, fresh...)
		}
		return time.Since(since) >= quiet, err
	})
	return requests, err
}

// stay leaves everything running until ctx ends, and shows what arrives.
func (s *stage) stay(ctx context.Context) error {
	s.printer.invitation(s)
	state, err := s.scim.Read(ctx)
	if err != nil {
		return interruption(ctx, err)
	}
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.printer.line("")
			return nil
		case <-s.rollcall.ended:
			return s.rollcall.failure()
		case <-s.target.ended:
			return s.target.failure()
		case <-tick.C:
		}
		fresh, err := s.traffic.next(ctx)
		if err != nil || len(fresh) == 0 {
			continue // whether the target has ended is seen above
		}
		before := state.Names
		if now, err := s.scim.Read(ctx); err == nil {
			state = now
		}
		names := maps.Clone(state.Names)
		maps.Copy(names, before)
		s.printer.live(fresh, names)
	}
}

func lastWrite(requests []request) (last time.Time) {
	for _, r := range requests {
		if r.writes() && r.At.After(last) {
			last = r.At
		}
	}
	return last
}

// explained adds to the end of patience what it waited for.
func (s *stage) explained(ctx context.Context, err error) error {
	if !errors.Is(err, errPatience) {
		return err
	}
	_, diff, failed := s.compare(ctx)
	if failed != nil {
		return errors.Join(err, failed)
	}
	return differs(err.Error(), diff)
}

const shownDifferences = 20

// differs is an error that lists differences.
func differs(what string, diff []string) error {
	shown := diff[:min(len(diff), shownDifferences)]
	if more := len(diff) - len(shown); more > 0 {
		shown = append(slices.Clone(shown), fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("%s; differences: %d\n  %s", what, len(diff), strings.Join(shown, "\n  ")) //nolint:err113 // said to a person
}

// summary is the median and the longest.
func summary(latencies []time.Duration) (p50, longest time.Duration) {
	sorted := slices.Sorted(slices.Values(latencies))
	return sorted[len(sorted)/2], sorted[len(sorted)-1]
}
