package ldapsource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/rollcall-scim/rollcall/pkg/crash"
)

var (
	// errFrozen is the cause of a session whose server stopped answering.
	errFrozen = errors.New("the directory server does not answer the heartbeat")
	// errDeaf is the cause of a session whose stream fell silent while the
	// directory changed.
	errDeaf = errors.New("the directory changed and the sync session heard nothing of it")
)

// hearing is what the heartbeat may know of a feed.
type hearing struct {
	messages atomic.Uint64
	live     atomic.Bool // the refresh is over
	waiting  atomic.Bool // for the sink: silence says nothing
}

// heartbeat asks the server for a sign of life on a connection of its own: a
// frozen one keeps the others open. On OpenLDAP it also compares the contextCSN
// with what the feeds hear: every change, visible to the account or not, sends
// each feed at least a new cookie.
type heartbeat struct {
	source  *Source
	server  *Server
	control *conn
	feeds   []*feed
	pulses  []pulse
}

// run beats until ctx ends; what it finds ends the session.
func (h *heartbeat) run(ctx context.Context, cancel context.CancelCauseFunc) {
	h.pulses = make([]pulse, len(h.feeds))
	for pause(ctx, h.source.heartbeat) == nil {
		if err := crash.Catch(ctx, h.source.deps.Log, crash.Detector, h.beat); err != nil {
			cancel(err)
			return
		}
	}
}

func (h *heartbeat) beat() error {
	if _, err := h.source.readEntry(h.control, "", "1.1"); err != nil {
		return fmt.Errorf("%w: %w", errFrozen, err)
	}
	for i, f := range h.feeds {
		heard := f.hearing.messages.Load() // before the server is asked
		csn := h.contextCSN(h.source.bases[i])
		if !f.hearing.live.Load() || f.hearing.waiting.Load() || csn == "" {
			h.pulses[i] = pulse{}
			continue
		}
		if h.pulses[i].deaf(csn, heard) {
			return fmt.Errorf("%w: follow %s", errDeaf, h.source.bases[i])
		}
	}
	return nil
}

// contextCSN is the newest change that the server knows of; empty where it does
// not say.
func (h *heartbeat) contextCSN(base string) string {
	context := h.server.contextOf(base)
	if context == "" {
		return ""
	}
	entry, err := h.source.readEntry(h.control, context, "contextCSN")
	if err != nil {
		return ""
	}
	values := slices.Clone(entry.GetEqualFoldAttributeValues("contextCSN"))
	slices.Sort(values)
	return strings.Join(values, " ")
}

// pulse compares the directory's changes with what a feed heard from one beat to
// the next.
type pulse struct {
	csn   string
	heard uint64
	due   bool   // a change was seen at the last beat
	since uint64 // messages heard before it
}

// deaf reports whether a change that was visible at the last beat has not been
// heard of until this one.
func (p *pulse) deaf(csn string, heard uint64) bool {
	deaf := p.due && heard == p.since
	p.due, p.since = p.csn != "" && csn != p.csn, p.heard
	p.csn, p.heard = csn, heard
	return deaf
}
