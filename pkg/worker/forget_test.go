package worker_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Nothing stays behind under a forgotten name, and another connection loses nothing.
func TestForgetDropsEveryKeyAndEverySchedule(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	kind, id := directoryv1.Kind_KIND_USER, []byte("0123456789abcdef")
	keys := map[string][]string{
		provisioningv1.BucketLinks: {"users.30.blocked", "users.resource.30", "groups.30.members.0"},
		provisioningv1.BucketTargets: {
			"first.users", "foreseen.users", "foreseen.users.lease", "drift.users", "drift.users.lease", "capabilities", "capabilities.lease",
			"canary", "canary.lease", "guard", "held.users.30", "pause", "probe", "closed", "lane.writes", "replica.one",
		},
	}
	names := []string{"wiki", "wiki-2"}
	for _, name := range names {
		for bucket, parts := range keys {
			for _, part := range parts {
				if err := b.PutText(t.Context(), bucket, name+"."+part, "x", 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, reason := range []string{"later", "late", "delete"} {
			if err := b.ScheduleRequestAt(t.Context(), kind, name, id, reason, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Request(t.Context(), kind, name, id, "members"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := worker.Forget(t.Context(), b, "wiki"); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		left := map[string]int{}
		for bucket := range keys {
			stream, filter := "KV_"+bucket, fmt.Sprintf("$KV.%s.%s.>", bucket, name)
			err := b.Read(t.Context(), stream, bus.ReadOptions{Filters: []string{filter}}, func(*bus.Stored) error { left[stream]++; return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		subjects := []string{provisioningv1.RequestSubject(kind, name, id)}
		for _, reason := range []string{"later", "late", "delete"} {
			subjects = append(subjects, provisioningv1.LaterSubject(kind, name, id, reason))
		}
		for _, subject := range subjects {
			if _, err := b.Last(t.Context(), provisioningv1.StreamRequests, subject); err == nil {
				left[provisioningv1.StreamRequests]++
			} else if !errors.Is(err, bus.ErrNotFound) {
				t.Fatal(err)
			}
		}
		if name == "wiki" && len(left) > 0 || name != "wiki" && (len(left) != 3 || left[provisioningv1.StreamRequests] != len(subjects)) {
			t.Errorf("of %s is left: %v", name, left)
		}
	}
}

// A second pause keeps the words of the first one, unless it brings its own.
func TestSecondPauseKeepsTheReason(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	for _, step := range []struct{ message, want string }{{"the wiki moves", "the wiki moves"}, {"", "the wiki moves"}, {"an audit", "an audit"}} {
		pause := &provisioningv1.Pause{Reason: provisioningv1.PauseReason_PAUSE_REASON_MANUAL, Message: step.message}
		if _, err := worker.Pause(t.Context(), b, "wiki", pause); err != nil {
			t.Fatal(err)
		}
		now, err := worker.Paused(t.Context(), b, "wiki")
		if err != nil || now.GetMessage() != step.want {
			t.Errorf("after %q: got %q (%v), want %q", step.message, now.GetMessage(), err, step.want)
		}
	}
}
