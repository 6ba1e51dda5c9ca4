package status_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

func TestRead(t *testing.T) {
	t.Parallel()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	before := status.Connection{Name: "wiki", Generation: 1, FirstRun: true, Users: &worker.Summary{}, Groups: &worker.Summary{}}
	read := func() status.Status {
		t.Helper()
		s, err := status.Read(t.Context(), b.Config, b.Bus)
		if err != nil {
			t.Fatal(err)
		}
		return *s
	}
	want := status.Status{Sources: []status.Source{{Name: "corp"}}, Connections: []status.Connection{before}}
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Errorf("before anything ran (-want +got):\n%s", diff)
	}

	b.SetLink(directoryv1.Kind_KIND_USER, 1, &provisioningv1.Link{State: provisioningv1.LinkState_LINK_STATE_ACTIVE})
	b.SetLink(directoryv1.Kind_KIND_USER, 2, &provisioningv1.Link{
		State: provisioningv1.LinkState_LINK_STATE_DISABLED, Problem: &provisioningv1.Problem{Kind: provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED, Message: "no userName"},
	})
	if _, err := worker.Pause(t.Context(), b.Bus, "wiki", &provisioningv1.Pause{Reason: provisioningv1.PauseReason_PAUSE_REASON_MANUAL, Message: "an audit"}); err != nil {
		t.Fatal(err)
	}
	pass := status.Pass{At: time.Now().UTC().Add(-3 * time.Hour), Mode: "snapshot", Users: 2}
	b.Config.Connections["wiki"].DryRun = true
	outage := &status.Outage{Since: pass.At, Reason: status.OutageUnreachable, Error: "connection refused"}
	kept := pass
	kept.Outage = outage
	if err := kept.Keep(t.Context(), b.Bus, "corp"); err != nil {
		t.Fatal(err)
	}

	got := read()
	if p := got.Connections[0].Paused; p == nil || time.Since(p.Since) > time.Minute {
		t.Fatalf("paused: %+v", p)
	}
	got.Connections[0].Paused.Since = time.Time{}
	want = status.Status{
		Sources: []status.Source{{Name: "corp", LastPass: &pass, Overdue: true, Outage: outage}},
		Connections: []status.Connection{{
			Name: "wiki", Generation: 1, DryRun: true, FirstRun: true, Paused: &status.Pause{Reason: "manual", Message: "an audit"},
			Users: &worker.Summary{Active: 1, Disabled: 1, Blocked: 1}, Groups: &worker.Summary{},
			Problems: []worker.ProblemOf{{Kind: "users", Entry: "30303030303030303030303030303032", State: "blocked", Message: "no userName"}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
