package workertest

import (
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Quick are breaker limits for tests that do not want to wait.
var Quick = worker.BreakerTimes{First: 20 * time.Millisecond, Longest: 100 * time.Millisecond, Repair: 100 * time.Millisecond, Lease: time.Second}

// Another adds a connection to a target of its own, with the first one's policy.
func (b *Bench) Another(name string) *scimtest.Server {
	b.tb.Helper()
	server := scimtest.NewServer(b.tb, scimtest.Options{})
	c := *b.Config.Connections[b.name]
	c.Name, c.Target.URL = name, server.URL()
	b.Config.Connections[name] = &c
	b.advance(name)
	return server
}

// Down stops the target's server. Up starts it again at the same address.
func (b *Bench) Down() { b.Target.Close() }

// Up ends what Down began.
func (b *Bench) Up() {
	b.tb.Helper()
	u, err := url.Parse(b.Target.URL())
	if err == nil {
		err = b.Target.Start(u.Host)
	}
	if err != nil {
		b.tb.Fatal(err)
	}
}

// Hold keeps the target from taking up requests of a method, with a text in their body,
// until release is called, or the test ends. reached is closed when the first of them is
// there.
func (b *Bench) Hold(method, body string) (reached <-chan struct{}, release func()) {
	there, gate := make(chan struct{}), make(chan struct{})
	arrive := sync.OnceFunc(func() { close(there) })
	release = sync.OnceFunc(func() { close(gate) })
	b.tb.Cleanup(release)
	b.Target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == method && strings.Contains(r.Body, body) {
			arrive()
			<-gate
		}
		return nil
	})
	return there, release
}

// Paused is the connection's pause, nil when it is not paused.
func (b *Bench) Paused() *provisioningv1.Pause {
	b.tb.Helper()
	p, err := worker.Paused(b.tb.Context(), b.Bus, b.name)
	if err != nil {
		b.tb.Fatal(err)
	}
	return p
}

// PausedFor waits until the connection is paused for a reason.
func (b *Bench) PausedFor(reason provisioningv1.PauseReason) *provisioningv1.Pause {
	b.tb.Helper()
	b.Eventually("the connection is paused: "+reason.String(), func() bool { return b.Paused().GetReason() == reason })
	return b.Paused()
}

// Resumed waits until the connection is not paused.
func (b *Bench) Resumed() {
	b.tb.Helper()
	b.Eventually("the connection is resumed", func() bool { return b.Paused() == nil })
}

// Consumers are the backlogs of the connection's consumers, by name.
func (b *Bench) Consumers() map[string]bus.Backlog {
	b.tb.Helper()
	out := map[string]bus.Backlog{}
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		for _, c := range [][2]string{
			{kind.Stream(), worker.ChangesConsumer(kind, b.name, b.Config.Hash(b.name))},
			{provisioningv1.StreamRequests, worker.RequestsConsumer(kind, b.name)},
		} {
			g, err := b.Bus.Backlog(b.tb.Context(), c[0], c[1])
			if err != nil {
				b.tb.Fatal(err)
			}
			out[c[1]] = g
		}
	}
	return out
}

// Links are all links of a kind, by entry id.
func (b *Bench) Links(kind directoryv1.Kind) map[string]*provisioningv1.Link {
	b.tb.Helper()
	all := map[string]*provisioningv1.Link{}
	err := bus.OpenBucket[provisioningv1.Link](b.Bus, provisioningv1.BucketLinks).Read(b.tb.Context(), provisioningv1.LinkFilter(b.name, kind),
		func(e bus.Entry[provisioningv1.Link, *provisioningv1.Link]) error {
			_, _, id, err := provisioningv1.ParseLinkKey(e.Key)
			all[string(id)] = e.Value
			return err
		})
	if err != nil {
		b.tb.Fatal(err)
	}
	return all
}

// Provisioned is how many entries of a kind have a resource and no problem.
func (b *Bench) Provisioned(kind directoryv1.Kind) (n int) {
	b.tb.Helper()
	for _, l := range b.Links(kind) {
		if links.HasResource(l) && l.GetProblem() == nil && l.GetClaim() == nil {
			n++
		}
	}
	return n
}
