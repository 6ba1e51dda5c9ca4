package usersync_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

const (
	manual      = provisioningv1.PauseReason_PAUSE_REASON_MANUAL
	outage      = provisioningv1.PauseReason_PAUSE_REASON_OUTAGE
	credentials = provisioningv1.PauseReason_PAUSE_REASON_CREDENTIALS
)

func pauseBy(t *testing.T, b *workertest.Bench, reason provisioningv1.PauseReason, message string) {
	t.Helper()
	if _, err := worker.Pause(t.Context(), b.Bus, "wiki", &provisioningv1.Pause{Reason: reason, Message: message}); err != nil {
		t.Fatal(err)
	}
}

func resume(t *testing.T, b *workertest.Bench) {
	t.Helper()
	if _, err := worker.Resume(t.Context(), b.Bus, "wiki"); err != nil {
		t.Fatal(err)
	}
}

func wantPaused(t *testing.T, b *workertest.Bench, want bool) {
	t.Helper()
	for name := range b.Consumers() {
		b.Eventually(fmt.Sprintf("%s is paused: %v", name, want), func() bool { return b.Consumers()[name].Paused == want })
	}
}

func TestRefusedCredentialsPauseUntilTheSecretIsCured(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"401": http.StatusUnauthorized, "403": http.StatusForbidden} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{})
			b.Breaker = workertest.Quick
			file := filepath.Join(t.TempDir(), "token")
			write := func(token string) {
				if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("wrong")
			secret, err := connection.NewSecret("${file:" + file + "}")
			if err != nil {
				t.Fatal(err)
			}
			b.Config.Connections["wiki"].Target.Auth.Bearer = &connection.BearerAuth{Token: secret}
			b.Target.SetFault(func(scimtest.Request) *scimtest.Fault {
				if token, err := os.ReadFile(file); err != nil || string(token) != "right" {
					return &scimtest.Fault{Status: status, Detail: "who are you?"}
				}
				return nil
			})
			b.Start(usersync.Run)
			var last uint64
			for n := range 20 {
				last = b.Publish(workertest.User(n, fmt.Sprintf("u%d", n), "", ""))
			}
			if p := b.PausedFor(credentials); !strings.Contains(p.GetMessage(), "who are you?") {
				t.Errorf("pause %v", p)
			}
			for id, l := range b.Links(user) {
				if workertest.Parked(l) || l.GetAttempts() > 0 {
					t.Errorf("%s is blamed: %v", id, l)
				}
			}
			write("right")
			b.Resumed()
			b.Until(user, 19, workertest.Applied(last))
			b.Eventually("everybody is there", func() bool { return b.Provisioned(user) == 20 })
		})
	}
}

func TestOutageTurnsIntoRefusedCredentials(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{Token: "right"})
	b.Breaker = workertest.Quick
	b.Down()
	b.Start(usersync.Run)
	for n := range 5 {
		b.Publish(workertest.User(n, fmt.Sprintf("u%d", n), "", ""))
	}
	since := b.PausedFor(outage).GetSince()
	b.Up()
	if p := b.PausedFor(credentials); p.GetSince().AsTime().Before(since.AsTime()) {
		t.Errorf("since %v, the outage since %v", p.GetSince(), since)
	}
}

func TestPersonsPauseOutlivesTheOutage(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Breaker = workertest.Quick
	b.Down()
	b.Start(usersync.Run)
	sequence := b.Publish(workertest.User(1, "ann", "", ""))
	b.Publish(workertest.User(2, "bob", "", ""))
	b.PausedFor(outage)
	pauseBy(t, b, manual, "the wiki moves")
	pauseBy(t, b, outage, "a replica that is late")
	b.Up()
	b.Start(usersync.Run)
	wantPaused(t, b, true)
	if p := b.Paused(); p.GetReason() != manual || p.GetMessage() != "the wiki moves" {
		t.Errorf("pause %v", p)
	}
	if n := b.Target.Count(scim.KindUser); n != 0 {
		t.Errorf("%d users were sent during a pause", n)
	}
	resume(t, b)
	b.Until(user, 1, workertest.Applied(sequence))
	wantPaused(t, b, false)
}

func TestNewGenerationIsBornPaused(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Breaker = workertest.Quick
	pauseBy(t, b, manual, "")
	b.Config.Connections["wiki"].Users.Update = false
	b.Advance()
	wantPaused(t, b, true)
	b.Start(usersync.Run)
	sequence := b.Publish(workertest.User(1, "ann", "", ""))
	resume(t, b)
	b.Until(user, 1, workertest.Applied(sequence))
}

func TestWhoDiedBetweenKeyAndConsumersIsRepaired(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Breaker = workertest.Quick
	pauses := bus.OpenBucket[provisioningv1.Pause](b.Bus, provisioningv1.BucketTargets)
	key := provisioningv1.PauseKey("wiki")
	revision, err := pauses.Put(t.Context(), key, &provisioningv1.Pause{Reason: manual}, 0)
	if err != nil {
		t.Fatal(err)
	}
	b.Start(usersync.Run)
	wantPaused(t, b, true)
	if _, err := pauses.Delete(t.Context(), key, revision); err != nil {
		t.Fatal(err)
	}
	wantPaused(t, b, false)
}

// failing are entries that the target fails on for ever, flowing those that it
// takes.
const (
	failing = 16
	flowing = 300
)

func TestEntriesThatFailForEverSlowNobody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status, perEntry int
	}{
		"500": {http.StatusInternalServerError, 16}, // at most 5 attempts of 3 calls in 30 s, and the first
		"400": {http.StatusBadRequest, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := workertest.New(t, "remove: disable", scimtest.Options{})
			b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
				if r.Writes() && strings.Contains(r.Body, `"bad-`) {
					return &scimtest.Fault{Status: c.status}
				}
				return nil
			})
			for n := range failing {
				b.Publish(workertest.User(n, fmt.Sprintf("bad-%d", n), "", ""))
			}
			for n := range flowing {
				b.Publish(workertest.User(100+n, fmt.Sprintf("good-%d", n), "", ""))
			}
			b.Start(usersync.Run)
			b.Eventually("all others are applied", func() bool {
				for name, g := range b.Consumers() {
					if g.Paused {
						t.Fatalf("%s is paused", name)
					}
				}
				return b.Provisioned(user) == flowing
			})
			if p := b.Paused(); p != nil {
				t.Errorf("paused: %v", p)
			}
			spent := 0
			for _, r := range b.Target.Requests() {
				if !strings.Contains(r.Body, `"good-`) {
					spent++
				}
			}
			t.Logf("%d calls for the %d entries that fail", spent, failing)
			if spent > failing*c.perEntry+2 {
				t.Errorf("%d calls for entries that fail, want at most %d", spent, failing*c.perEntry+2)
			}
			for n := range failing {
				l := b.Link(user, n)
				if c.status == http.StatusBadRequest != workertest.Parked(l) || l.GetProblem() == nil {
					t.Errorf("entry %d: %v", n, l)
				}
			}
		})
	}
}

func TestOtherConnectionsAreUntouched(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	b.Breaker = workertest.Quick
	other := b.Another("chat")
	b.Down()
	b.Start(usersync.Run)
	for n := range 10 {
		b.Publish(workertest.User(n, fmt.Sprintf("u%d", n), "", ""))
	}
	b.PausedFor(outage)
	b.Eventually("the other target holds everybody", func() bool { return other.Count(scim.KindUser) == 10 })
	if p, err := worker.Paused(t.Context(), b.Bus, "chat"); p != nil || err != nil {
		t.Errorf("the other connection is paused: %v, %v", p, err)
	}
}

// A resume that is still under way does not hide that the consumers have to pause.
func TestPauseRightAfterAResumeHolds(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	for range 3 {
		pauseBy(t, b, manual, "")
		if _, err := worker.Resume(t.Context(), b.Bus, "wiki"); err != nil {
			t.Fatal(err)
		}
	}
	pauseBy(t, b, manual, "")
	for stream, consumer := range map[string]string{
		user.Stream():                 worker.ChangesConsumer(user, "wiki", b.Config.Hash("wiki")),
		provisioningv1.StreamRequests: worker.RequestsConsumer(user, "wiki"),
	} {
		if g, err := b.Bus.Backlog(t.Context(), stream, consumer); err != nil || !g.Paused {
			t.Errorf("%s delivers though the connection is paused: %v", consumer, err)
		}
	}
}

// A target that goes away right after a probe said that it is well is seen to be away.
func TestOutageRightAfterAProbeThatSucceeded(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "", scimtest.Options{})
	b.Breaker = workertest.Quick
	b.Breaker.Again, b.Breaker.Quiet = 20*time.Millisecond, time.Hour
	var probed atomic.Bool
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Writes() {
			return &scimtest.Fault{Status: http.StatusInternalServerError}
		}
		probed.Store(true)
		return nil
	})
	b.Start(usersync.Run)
	people := func(from int) {
		for n := range 20 {
			b.Publish(workertest.User(from+n, fmt.Sprintf("u%d", from+n), "", ""))
		}
	}
	people(0)
	b.Eventually("a probe has succeeded", probed.Load)
	b.Down()
	people(100)
	b.PausedFor(outage)
}
