package groupsync

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	// maxRefused is how many refused members a group may have: with more, the group
	// itself is at fault.
	maxRefused = 100
	// A refused removal is tried again after firstRetry, then after twice the time
	// each time, up to lastRetry.
	firstRetry = time.Minute
	lastRetry  = time.Hour
	// maxReason is how much of the target's words is kept.
	maxReason = 120
)

// refusals are the changes of members that the target refused: what the link
// remembers of earlier ones, and what is refused now.
type refusals struct {
	configuration string
	asked         bool // by a person, who wants all of it tried
	before        map[entryID][]*provisioningv1.RefusedMember
	now           []*provisioningv1.RefusedMember
}

func newRefusals(job *worker.Job) *refusals {
	r := &refusals{configuration: job.Configuration(), asked: job.Asked(), before: map[entryID][]*provisioningv1.RefusedMember{}}
	for _, m := range job.Record.Link.GetRefusedMembers() {
		id := entryID(m.GetEntryId())
		r.before[id] = append(r.before[id], m)
	}
	return r
}

// known is what is remembered of a step that was refused before; nil when it was not.
func (r *refusals) known(s step) *provisioningv1.RefusedMember {
	for _, m := range r.before[s.id] {
		if m.GetRemoval() == s.remove && bytes.Equal(m.GetResourceHash(), provisioningv1.ResourceHash(s.resource)) {
			return m
		}
	}
	return nil
}

// leaveOut takes out of the steps what was refused before and need not be tried now.
// What nobody wants any more is forgotten.
func (r *refusals) leaveOut(steps []step, now time.Time) []step {
	r.now = nil
	if len(r.before) == 0 {
		return steps
	}
	return slices.DeleteFunc(steps, func(s step) bool {
		m := r.known(s)
		if m == nil || r.asked || m.GetConfigurationHash() != r.configuration || s.remove && !now.Before(m.GetRetryAt().AsTime()) {
			return false
		}
		r.now = append(r.now, m)
		return true
	})
}

// add remembers a step that was refused.
func (r *refusals) add(s step, answer error) {
	now := time.Now()
	m := &provisioningv1.RefusedMember{
		EntryId: s.id[:], ResourceHash: provisioningv1.ResourceHash(s.resource), Removal: s.remove, ConfigurationHash: r.configuration,
		Reason: shortened(answer.Error(), maxReason), HttpStatus: status(answer), Since: timestamppb.New(now), Tries: 1,
	}
	if former := r.known(s); former != nil {
		m.Since, m.Tries = former.GetSince(), former.GetTries()+1
	}
	if s.remove {
		m.RetryAt = timestamppb.New(now.Add(min(firstRetry<<min(m.GetTries()-1, 10), lastRetry)))
	}
	r.now = append(r.now, m)
}

func (r *refusals) drop(m *provisioningv1.RefusedMember) {
	r.now = slices.DeleteFunc(r.now, func(x *provisioningv1.RefusedMember) bool { return x == m })
}

// fresh are those that were refused just now and that a condition holds for.
func (r *refusals) fresh(ok func(*provisioningv1.RefusedMember) bool) []*provisioningv1.RefusedMember {
	var fresh []*provisioningv1.RefusedMember
	for _, m := range r.now {
		if ok(m) && !slices.Contains(r.before[entryID(m.GetEntryId())], m) {
			fresh = append(fresh, m)
		}
	}
	return fresh
}

// store writes them into the link.
func (r *refusals) store(l *provisioningv1.Link) {
	l.RefusedMembers = r.now[:min(len(r.now), maxRefused)]
}

// schedule has the group looked at when the next refused removal is to be tried.
func (r *refusals) schedule(ctx context.Context, job *worker.Job) error {
	var next time.Time
	for _, m := range r.now {
		if at := m.GetRetryAt().AsTime(); m.GetRemoval() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if next.IsZero() {
		return nil
	}
	return job.RequestAt(ctx, "refused", next)
}

// status is the HTTP status of an answer; 0 when there was none.
func status(err error) uint32 {
	if answer, ok := errors.AsType[*scim.Error](err); ok {
		return uint32(max(0, answer.Status)) //nolint:gosec // an HTTP status
	}
	return 0
}

// shortened is at most n bytes of a text.
func shortened(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}
