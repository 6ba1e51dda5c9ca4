package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

const (
	// leaverGap is the time between two people who leave.
	leaverGap = 500 * time.Millisecond
	// leaverPatience is how long after the last one is waited for the last request:
	// removals that gather do so for half a minute.
	leaverPatience = time.Minute
	// bucket is how many removals of the usual crowd flow at once before they gather.
	bucket = 100
)

// departure is a person who leaves: a request that disables her account.
type departure struct {
	resource string
	at       time.Time
}

// removals is the figure of leaving: people leave one after the other, at a steady rate,
// and the time counts until the request that disables their account. The first ones are
// within what flows at once, the others gather.
func (b *bench) removals(ctx context.Context) (err error) {
	s := shape{users: b.opts.crowd, groups: max(minGroups, b.opts.crowd/50)}
	dir := filepath.Join(b.scratch, "removals")
	directory, err := b.directory(ctx, "removals", s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	server := scimtest.New(scimtest.Options{Token: token})
	if err := server.Start("127.0.0.1:0"); err != nil {
		return fmt.Errorf("start the target: %w", err)
	}
	defer server.Close()
	file, cfg, err := writeConfig(dir, directory, setting{mode: "syncrepl", target: server.URL(), concurrency: inFlight, data: filepath.Join(dir, "data")})
	if err != nil {
		return err
	}
	b.say("removals: first sync of %s", s)
	rollcall, err := start(filepath.Join(dir, "rollcall.log"), b.program("rollcall"), "run", "--config", file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rollcall.stop()) }()
	err = settled(ctx, cfg, rollcall,
		func() (int, error) { return server.Received(), nil },
		func() (bool, error) { return holds(server, s), nil })
	if err != nil {
		return fmt.Errorf("removals: %w", err)
	}
	m, err := dialModifier(ctx, directory.URL, directory.AdminDN, directory.AdminPassword)
	if err != nil {
		return err
	}
	b.say("removals: %d people leave, two in each second", b.opts.leavers)
	took, err := leave(ctx, m, server, s.users, b.opts.leavers)
	if err = errors.Join(err, m.close()); err != nil {
		return fmt.Errorf("removals: %w", err)
	}
	within := min(bucket, len(took))
	b.report.percentiles(fmt.Sprintf("removal to request, the first %d", within), took[:within], "", nil)
	if beyond := took[within:]; len(beyond) > 0 {
		b.report.percentiles(fmt.Sprintf("removal to request, %d more", len(beyond)), beyond, "", nil)
	}
	return nil
}

// leave removes people at a steady rate, and returns how long each took to be disabled on
// the target, in the order in which they left.
func leave(ctx context.Context, m *modifier, server *scimtest.Server, users, leavers int) ([]time.Duration, error) {
	number := map[string]int{}
	for _, row := range server.Recent(scim.KindUser, users) {
		var n int
		if _, err := fmt.Sscanf(row.Name, "u%d", &n); err != nil {
			return nil, fmt.Errorf("find the user behind %q: %w", row.Name, err)
		}
		number[row.ID] = n
	}
	departures := make(chan departure, leavers)
	server.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if id, ok := strings.CutPrefix(r.Path, "/Users/"); ok && r.Method == http.MethodPatch {
			departures <- departure{id, r.At}
		}
		return nil
	})
	defer server.SetFault(nil)
	sent, took := make([]time.Time, leavers), make([]time.Duration, leavers)
	gap := time.NewTicker(leaverGap)
	defer gap.Stop()
	end := time.NewTimer(time.Duration(leavers)*leaverGap + leaverPatience)
	defer end.Stop()
	for next, arrived := 0, 0; arrived < leavers; {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-end.C:
			return nil, fmt.Errorf("%d of %d people who left were disabled on the target in time", arrived, leavers)
		case d := <-departures:
			n, known := number[d.resource]
			if !known || n >= next || took[n] != 0 {
				return nil, fmt.Errorf("user %d was disabled, who did not leave", n)
			}
			took[n] = d.at.Sub(sent[n])
			arrived++
		case <-gap.C:
			if next == leavers {
				continue
			}
			sent[next] = time.Now()
			if err := m.remove(userDN(next)); err != nil {
				return nil, err
			}
			next++
		}
	}
	return took, nil
}
