package simulation

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// mistake is a deliberate one; nil is none. It is made between the real worker and its
// connections, so that no product code knows of it.
type mistake struct {
	name string
	// within is the number of seeds of which one finds it at least.
	within uint64
	// wrap makes a process's connection to NATS that of a worker that makes the mistake.
	wrap func(p *process, s bus.Store) bus.Store
	// careless has the process send requests whose time is over.
	careless bool
}

// mistakes are those of the model that a test can make (docs/model).
var mistakes = []*mistake{
	{name: "no second look", within: 2000, wrap: func(_ *process, s bus.Store) bus.Store {
		return edited{
			Store: s, drop: func(subject string) bool {
				return strings.HasPrefix(subject, "later.") && strings.HasSuffix(subject, ".late")
			},
			edit: func(l *provisioningv1.Link) { l.LookAgainAt = nil },
		}
	}},
	{name: "take-over before the lease is over", within: 500, wrap: func(p *process, s bus.Store) bus.Store { return hasty{Store: s, own: p.name} }},
	{name: "request after the deadline", within: 500, careless: true},
	{name: "acknowledge before commit", within: 500, wrap: func(_ *process, s bus.Store) bus.Store { return rash{s} }},
	{name: "commit without compare", within: 500, wrap: func(_ *process, s bus.Store) bus.Store { return edited{Store: s, blind: true} }},
	{name: "removal without a word of the guard", within: 500, wrap: func(_ *process, s bus.Store) bus.Store {
		return edited{Store: s, edit: func(l *provisioningv1.Link) { l.GuardCredits, l.GuardSequences = nil, nil }}
	}},
}

// TestMistakesAreFound shows that the simulation finds what it is for.
func TestMistakesAreFound(t *testing.T) {
	t.Parallel()
	for _, m := range mistakes {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			for s := uint64(1); s <= m.within; s++ {
				if w := simulate(t, s, m); len(w.failures) > 0 {
					t.Logf("found with seed %d: %s", s, w.failures[0])
					return
				}
			}
			t.Errorf("not found in %d seeds", m.within)
		})
	}
}

func (m *mistake) suffix() string {
	if m == nil {
		return ""
	}
	return " with the mistake " + m.name
}

func (m *mistake) store(p *process, s bus.Store) bus.Store {
	if m == nil || m.wrap == nil {
		return s
	}
	return m.wrap(p, s)
}

func (m *mistake) patience(ctx context.Context) context.Context {
	if m != nil && m.careless {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// isLink says whether a subject is that of an entry's link.
func isLink(subject string) bool {
	id, is := strings.CutPrefix(subject, linkPrefix)
	return is && !strings.Contains(id, ".")
}

// edited writes links otherwise than it was asked to.
type edited struct {
	bus.Store

	drop  func(subject string) bool
	edit  func(l *provisioningv1.Link)
	blind bool // compare nothing
}

func (e edited) Publish(ctx context.Context, msg *nats.Msg) (uint64, error) {
	if e.drop != nil && e.drop(msg.Subject) {
		return 0, nil
	}
	return e.Store.Publish(ctx, e.message(msg))
}

func (e edited) PublishBatch(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
	changed := slices.Clone(msgs)
	for i, m := range changed {
		changed[i] = e.message(m)
	}
	return e.Store.PublishBatch(ctx, changed)
}

func (e edited) message(m *nats.Msg) *nats.Msg {
	if !isLink(m.Subject) {
		return m
	}
	if e.blind {
		m.Header.Del(jetstream.ExpectedLastSubjSeqHeader)
	}
	l := &provisioningv1.Link{}
	if e.edit == nil || len(m.Data) == 0 || proto.Unmarshal(m.Data, l) != nil {
		return m
	}
	e.edit(l)
	if data, err := proto.Marshal(l); err == nil {
		m.Data = data
	}
	return m
}

// hasty takes every foreign claim for an abandoned one.
type hasty struct {
	bus.Store

	own string
}

func (h hasty) Last(ctx context.Context, stream, subject string) (*jetstream.RawStreamMsg, error) {
	m, err := h.Store.Last(ctx, stream, subject)
	l := &provisioningv1.Link{}
	if err != nil || !isLink(subject) || proto.Unmarshal(m.Data, l) != nil || l.GetClaim() == nil || l.GetClaim().GetOwner() == h.own {
		return m, err
	}
	l.Claim.Owner = ""
	data, err := proto.Marshal(l)
	changed := *m
	changed.Data = data
	return &changed, err
}

// rash acknowledges what it is given at once.
type rash struct{ bus.Store }

func (r rash) Pull(ctx context.Context, stream, consumer string, ahead int) (bus.Messages, *jetstream.ConsumerInfo, error) {
	messages, info, err := r.Store.Pull(ctx, stream, consumer, ahead)
	return rashMessages{messages}, info, err
}

type rashMessages struct{ bus.Messages }

func (r rashMessages) Next(ctx context.Context) (jetstream.Msg, error) {
	m, err := r.Messages.Next(ctx)
	if err != nil {
		return nil, err
	}
	return m, errors.Join(m.Ack())
}
