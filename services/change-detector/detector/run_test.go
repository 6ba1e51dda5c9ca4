package detector

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

func TestAgainWaitsLongerEachTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		calls, longest := 0, time.Duration(0)
		again(ctx, func(func()) error {
			calls++
			return errors.New("no stream")
		}, func(_ error, wait time.Duration) { longest = max(longest, wait) })
		if calls < 40 || calls > 200 {
			t.Errorf("%d tries in an hour, want about one a minute", calls)
		}
		if longest > longestRetry*3/2 {
			t.Errorf("waited %s, want at most %s and its jitter", longest, longestRetry)
		}
	})
}

func TestAgainIsQuickAfterWorkThatGotSomewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		again(ctx, func(worked func()) error {
			worked()
			return nil
		}, func(_ error, wait time.Duration) {
			if wait > 2*firstRetry {
				t.Errorf("waits %s after it worked", wait)
			}
		})
	})
}

// With one bad source none is started; goleak sees the goroutines of the others.
func TestRunStartsNothingWhenASourceIsWrong(t *testing.T) {
	t.Parallel()
	cfg := &connection.Config{Sources: map[string]*connection.Source{}}
	for _, name := range []string{"a", "b", "c", "d", "wrong"} {
		cfg.Sources[name] = &connection.Source{
			Name:   name,
			LDAP:   connection.LDAP{URLs: []string{"ldap://127.0.0.1:1"}},
			ID:     connection.IDAttribute{Attribute: "entryUUID", Encoding: "text"},
			Users:  connection.UserSource{BaseDNs: []string{people}, Filter: "(uid=*)", Enabled: "true"},
			Groups: connection.GroupSource{BaseDNs: []string{groupsBase}, Filter: "(cn=*)", Members: "member", MemberValues: connection.MemberDN},
		}
	}
	for range 5 {
		// a bus of nil: a detector that runs would crash
		if _, err := newDetector(cfg, "a", nil, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		cfg.Sources["wrong"].Users.Filter = "(uid"
		if err := Run(t.Context(), cfg, nil, slog.New(slog.DiscardHandler)); err == nil {
			t.Fatal("want an error")
		}
		cfg.Sources["wrong"].Users.Filter = "(uid=*)"
	}
}
