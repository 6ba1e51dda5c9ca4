//go:build cluster

package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	nrClients = 6
	nrKeys    = 3
	// recorded is how many operations each client does at least.
	recorded = 150
	// think is the pause of a client between two operations.
	think = 20 * time.Millisecond
)

// client works on keys of the links bucket through a bus of its own.
type client struct {
	id      int
	r       *rand.Rand
	bucket  *bus.Bucket[provisioningv1.Link, *provisioningv1.Link]
	servers []*proxy
	known   map[string]uint64 // the revision that it saw last, by key
	history *history
}

// history is what all clients did.
type history struct {
	mu                  sync.Mutex
	begin               time.Time
	all                 []porcupine.Operation
	refused, unanswered int
}

// TestLinksAreLinearizable lets clients read, create, change and delete links by
// compare-and-set while the bucket's leader is killed, frozen and cut off, and its
// clients are. The history must be one that the model allows; see model_test.go.
func TestLinksAreLinearizable(t *testing.T) {
	t.Parallel()
	seed := newSeed(t)
	nats := startServers(t, usual)
	h := &history{begin: time.Now()}
	clients := newClients(t, nats, h, seed)
	var working sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for _, c := range clients {
		working.Go(func() { c.work(ctx) })
	}
	disturb(t, nats, clients, rand.New(rand.NewPCG(seed, 1)))
	stop()
	working.Wait()
	settled, contradicted := settle(h.all)
	t.Logf("%d operations, %d without an answer, %d refused, of which %d were stored all the same", len(h.all), h.unanswered, h.refused, contradicted)
	if len(h.all) < nrClients*recorded || h.unanswered == 0 {
		t.Errorf("too little happened to say anything")
	}
	result, info := porcupine.CheckOperationsVerbose(linksModel(), settled, time.Minute)
	if result == porcupine.Ok {
		return
	}
	file := filepath.Join(t.ArtifactDir(), "history.html")
	if err := porcupine.VisualizePath(linksModel(), info, file); err != nil {
		t.Error(err)
	}
	t.Errorf("the history is %s; see %s\n%s", result, file, strings.Join(breaks(settled), "\n"))
}

// breaks are the writes of a settled history that do not follow the one before them, for
// the message of a failed test.
func breaks(settled []porcupine.Operation) (lines []string) {
	slices.SortFunc(settled, func(a, b porcupine.Operation) int {
		return cmp.Or(cmp.Compare(a.Input.(step).key, b.Input.(step).key), cmp.Compare(a.Output.(outcome).revision, b.Output.(outcome).revision))
	})
	var before porcupine.Operation
	for _, one := range settled {
		s := one.Input.(step)
		if s.read {
			continue
		}
		if former, ok := before.Input.(step); ok && former.key == s.key && before.Output.(outcome).revision != s.expect {
			lines = append(lines, fmt.Sprintf("%+v follows %+v", one, before))
		}
		before = one
	}
	return lines
}

// newClients connects the clients, each through proxies of its own, and sets NATS up.
func newClients(t *testing.T, nats *servers, h *history, seed uint64) (all []*client) {
	t.Helper()
	for id := range nrClients {
		c := &client{id: id, r: rand.New(rand.NewPCG(seed, uint64(100+id))), known: map[string]uint64{}, history: h}
		var urls []string
		for _, server := range nats.all {
			p := newProxy(t, address(server.port))
			c.servers, urls = append(c.servers, p), append(urls, "nats://"+p.address())
		}
		b, err := bus.Connect(t.Context(), bus.Config{URL: strings.Join(urls, ","), Name: fmt.Sprint("client ", id), Replicas: nrServers, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		if id == 0 {
			eventually(t.Context(), t, time.Minute, "the streams are set up", b.Setup)
		}
		c.bucket = bus.OpenBucket[provisioningv1.Link](b, provisioningv1.BucketLinks)
		all = append(all, c)
	}
	return all
}

// disturb kills, freezes and cuts off in turn.
func disturb(t *testing.T, nats *servers, clients []*client, r *rand.Rand) {
	t.Helper()
	ctx := t.Context()
	nats.complete(ctx)
	for range 2 {
		victim := nats.leader(ctx, "KV_links")
		victim.Kill()
		nats.led(ctx, "KV_links", victim)
		nats.start(victim)
		nats.complete(ctx)

		one := clients[r.IntN(len(clients))]
		for _, p := range one.servers {
			p.hold(direction(r.IntN(2)))
		}
		victim = nats.leader(ctx, "KV_links")
		for i, s := range nats.all {
			if s == victim {
				nats.isolate(i)
			}
		}
		<-time.After(12 * time.Second) // until clients of either side have seen the cut
		nats.heal()
		for _, p := range one.servers {
			p.release() // what was held up arrives late
		}
		nats.complete(ctx)
	}
}

// work does one operation after the other until ctx ends.
func (c *client) work(ctx context.Context) {
	tick := time.NewTicker(think)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("wiki.users.%032d", c.r.IntN(nrKeys))
		switch choice := c.r.IntN(10); {
		case choice < 4:
			c.get(ctx, key)
		case choice < 9:
			c.put(ctx, key, fmt.Sprintf("%d-%d", c.id, n))
		default:
			c.remove(ctx, key)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// longest is how long a client waits for an answer.
const longest = 2 * time.Second

// get reads a key. A read without an answer says nothing and is not recorded.
func (c *client) get(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	call := time.Since(c.history.begin)
	link, revision, err := c.bucket.Get(ctx, key)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return
	}
	c.known[key] = revision
	c.history.add(c.id, call, step{key: key, read: true}, outcome{value: link.GetResourceId(), revision: revision})
}

func (c *client) put(ctx context.Context, key, value string) {
	s := step{key: key, value: value, expect: c.known[key]}
	c.write(ctx, s, func(ctx context.Context) (uint64, error) {
		return c.bucket.Put(ctx, key, &provisioningv1.Link{ResourceId: value}, s.expect)
	})
}

func (c *client) remove(ctx context.Context, key string) {
	s := step{key: key, expect: c.known[key]}
	c.write(ctx, s, func(ctx context.Context) (uint64, error) { return c.bucket.Delete(ctx, key, s.expect) })
}

func (c *client) write(ctx context.Context, s step, do func(ctx context.Context) (uint64, error)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longest)
	defer cancel()
	call := time.Since(c.history.begin)
	revision, err := do(ctx)
	switch {
	case err == nil:
		c.known[s.key] = revision
		c.history.add(c.id, call, s, outcome{revision: revision})
	case errors.Is(err, bus.ErrConflict):
		c.history.add(c.id, call, s, outcome{verdict: refused})
		c.get(ctx, s.key) // who lost reads again
	default:
		c.history.add(c.id, call, s, outcome{verdict: unanswered})
	}
}

// add records an operation. One without an answer may still be carried out at any time.
func (h *history) add(client int, call time.Duration, s step, o outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := int64(time.Since(h.begin))
	switch o.verdict {
	case unanswered:
		end = math.MaxInt64
		h.unanswered++
	case refused:
		h.refused++
	case stored:
	}
	h.all = append(h.all, porcupine.Operation{ClientId: client, Input: s, Call: int64(call), Output: o, Return: end})
}

// TestModelFindsWhatMustNotBe shows the model histories without a cluster.
func TestModelFindsWhatMustNotBe(t *testing.T) {
	t.Parallel()
	put := func(from, to int64, value string, expect uint64, o outcome) porcupine.Operation {
		return porcupine.Operation{Input: step{key: "k", value: value, expect: expect}, Call: from, Output: o, Return: to}
	}
	get := func(from, to int64, value string, revision uint64) porcupine.Operation {
		return porcupine.Operation{Input: step{key: "k", read: true}, Call: from, Output: outcome{value: value, revision: revision}, Return: to}
	}
	answered := func(revision uint64) outcome { return outcome{revision: revision} }
	unknown, no := outcome{verdict: unanswered}, outcome{verdict: refused}
	tests := map[string]struct {
		history []porcupine.Operation
		want    porcupine.CheckResult
	}{
		"writes follow each other":            {[]porcupine.Operation{put(1, 2, "a", 0, answered(1)), put(3, 4, "b", 1, answered(2)), get(5, 6, "b", 2)}, porcupine.Ok},
		"a stale read is allowed":             {[]porcupine.Operation{put(1, 2, "a", 0, answered(1)), put(3, 4, "b", 1, answered(2)), get(5, 6, "a", 1)}, porcupine.Ok},
		"a write after a stale read is not":   {[]porcupine.Operation{put(1, 2, "a", 0, answered(1)), put(3, 4, "b", 1, answered(2)), put(5, 6, "c", 1, answered(3))}, porcupine.Illegal},
		"both writers win":                    {[]porcupine.Operation{put(1, 9, "a", 0, answered(1)), put(1, 9, "b", 0, answered(2))}, porcupine.Illegal},
		"an acknowledged write is lost":       {[]porcupine.Operation{put(1, 2, "a", 0, answered(1)), put(3, 4, "b", 0, answered(2))}, porcupine.Illegal},
		"a read sees what nobody wrote":       {[]porcupine.Operation{put(1, 2, "a", 0, answered(1)), get(3, 4, "x", 2)}, porcupine.Illegal},
		"a read sees what is written later":   {[]porcupine.Operation{get(1, 2, "a", 1), put(3, 4, "a", 0, answered(1))}, porcupine.Illegal},
		"a write without an answer is stored": {[]porcupine.Operation{put(1, 99, "a", 0, unknown), get(3, 4, "a", 1), put(5, 6, "b", 1, answered(2))}, porcupine.Ok},
		"a write without an answer is not":    {[]porcupine.Operation{put(1, 99, "a", 0, unknown), put(5, 6, "b", 0, answered(2))}, porcupine.Ok},
		"a refused write is stored":           {[]porcupine.Operation{put(1, 2, "a", 0, no), get(3, 4, "a", 1), put(5, 6, "b", 1, answered(2))}, porcupine.Ok},
		"a deletion is stored":                {[]porcupine.Operation{put(1, 2, "a", 0, answered(1)), put(3, 99, "", 1, unknown), put(3, 4, "", 1, no), get(5, 6, "", 2)}, porcupine.Ok},
		"a deletion of something else is not": {[]porcupine.Operation{put(1, 2, "a", 0, answered(1)), put(3, 4, "b", 1, answered(2)), put(3, 99, "", 1, unknown), get(5, 6, "", 3)}, porcupine.Illegal},
		"it is stored twice":                  {[]porcupine.Operation{put(1, 99, "a", 0, unknown), get(3, 4, "a", 1), put(5, 6, "b", 1, answered(2)), get(7, 8, "a", 3)}, porcupine.Illegal},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settled, _ := settle(test.history)
			if got := porcupine.CheckOperationsTimeout(linksModel(), settled, time.Minute); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}
