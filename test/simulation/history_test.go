package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// history is what happened in a world, one event a line. Nothing is formatted before it
// is printed.
type history struct {
	began time.Time

	mu     sync.Mutex
	events []event
}

type event struct {
	at        time.Duration
	who, what string
	object    string
	answer    any // error, text, or what a message holds; nil: none
}

// payload is a message that is decoded when it is printed.
type payload struct {
	subject string
	data    []byte
	header  map[string][]string
	at      uint64
}

func (h *history) add(who, what, object string, answer any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event{at: time.Since(h.began), who: who, what: what, object: object, answer: answer})
}

// String is the whole history: virtual time, who, what, answer.
func (h *history) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out strings.Builder
	for _, e := range h.events {
		if quiet(e) {
			continue
		}
		fmt.Fprintf(&out, "%10.4fs  %-9s %s", e.at.Seconds(), e.who, e.what)
		if e.object != "" {
			out.WriteString(" " + short(e.object))
		}
		if e.answer != nil {
			out.WriteString("  -> " + render(e.answer))
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// quiet says whether an event says nothing about the protocol: heartbeats and clocks.
func quiet(e event) bool {
	return strings.Contains(e.object, ".replica.") || strings.Contains(e.object, "outcomes.") || e.what == "stream" || e.what == "consumer" || e.what == "in progress"
}

// short shows the numbers of entries instead of their ids.
func short(text string) string {
	for n := range maxEntries {
		text = strings.ReplaceAll(text, entryHex(n), fmt.Sprintf("#%d", n))
	}
	text = strings.ReplaceAll(text, "$KV.links."+connectionName+".users.", "link ")
	text = strings.ReplaceAll(text, "$KV.links.", "links ")
	text = strings.ReplaceAll(text, "$KV.targets.", "targets ")
	return strings.ReplaceAll(text, "$KV.sources.", "sources ")
}

func render(answer any) string {
	switch a := answer.(type) {
	case error:
		return short(a.Error())
	case payload:
		return fmt.Sprintf("%d %s", a.at, a)
	}
	return short(fmt.Sprint(answer))
}

func (p payload) String() string {
	switch {
	case len(p.header["KV-Operation"]) > 0:
		return "deleted"
	case strings.HasPrefix(p.subject, ownerPrefix):
		o := &provisioningv1.Ownership{}
		if proto.Unmarshal(p.data, o) == nil {
			return fmt.Sprintf("owned by #%d", number(o.GetEntryId()))
		}
	case strings.HasSuffix(p.subject, ".blocked"):
		return "entries that wait"
	case strings.HasPrefix(p.subject, linkPrefix):
		l := &provisioningv1.Link{}
		if proto.Unmarshal(p.data, l) == nil {
			return linkText(l)
		}
	case strings.HasPrefix(p.subject, "requests."), strings.HasPrefix(p.subject, "later."):
		r := &provisioningv1.Request{}
		if proto.Unmarshal(p.data, r) == nil {
			return r.GetReason() + " " + strings.Join(p.header["Nats-Schedule"], "")
		}
	case strings.Contains(p.subject, "users"):
		c := &directoryv1.Change{}
		if proto.Unmarshal(p.data, c) == nil {
			return changeText(c)
		}
	}
	return string(p.data)
}

func linkText(l *provisioningv1.Link) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s seq=%d resource=%s", strings.ToLower(strings.TrimPrefix(l.GetState().String(), "LINK_STATE_")), l.GetSequence(), first(l.GetResourceId(), 8))
	if c := l.GetClaim(); c != nil {
		fmt.Fprintf(&out, " claim=%s by %q for %d", strings.ToLower(strings.TrimPrefix(c.GetIntent().String(), "INTENT_")), c.GetOwner(), c.GetSequence())
	}
	if p := l.GetProblem(); p != nil {
		fmt.Fprintf(&out, " problem=%s for %d: %s", strings.ToLower(strings.TrimPrefix(p.GetKind().String(), "PROBLEM_KIND_")), p.GetSequence(), p.GetMessage())
	}
	if at := l.GetLookAgainAt(); at != nil {
		fmt.Fprintf(&out, " look_again=%s", at.AsTime().Format("15:04:05"))
	}
	if len(l.GetGuardSequences()) > 0 {
		fmt.Fprintf(&out, " guard=%v@%v", l.GetGuardCredits(), l.GetGuardSequences())
	}
	return out.String()
}

func first(text string, n int) string { return text[:min(n, len(text))] }

func changeText(c *directoryv1.Change) string {
	if c.GetOp() != directoryv1.Op_OP_PRESENT {
		return "gone"
	}
	var out strings.Builder
	for _, a := range c.GetUser().GetAttributes() {
		fmt.Fprintf(&out, "%s=%s ", a.GetName(), a.GetValues()[0])
	}
	fmt.Fprintf(&out, "enabled=%t", c.GetUser().GetEnabled())
	return out.String()
}

// logger records a process's log in the history.
type logger struct {
	world *world
	who   string
	more  string
}

func (l logger) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (l logger) Handle(_ context.Context, r slog.Record) error {
	l.world.history.add(l.who, "log", "", record{r: r, more: l.more})
	if strings.HasPrefix(r.Message, "an invariant is broken") || strings.HasPrefix(r.Message, "recovered from a panic") {
		l.world.fail("%s logs an error: %s", l.who, record{r: r, more: l.more})
	}
	return nil
}

func (l logger) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "entry" {
			l.more += " " + a.String()
		}
	}
	return l
}

func (l logger) WithGroup(string) slog.Handler { return l }

type record struct {
	r    slog.Record
	more string
}

func (r record) String() string {
	out := r.r.Level.String() + " " + r.r.Message + r.more
	r.r.Attrs(func(a slog.Attr) bool {
		if a.Key != "connection" && a.Key != "kind" {
			out += " " + a.String()
		}
		return true
	})
	return out
}
