package simulation

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/membus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	source         = "corp"
	connectionName = "wiki"
	user           = directoryv1.Kind_KIND_USER
	maxEntries     = 4

	// longestTransit is how long a request stays in the network once its sender has gone.
	// It is NetworkMaximum of a smaller world.
	longestTransit = 5 * time.Second
	// lookAgain is what LookAgainAfter is in that world.
	lookAgain = scim.DefaultTimeout + longestTransit
	// natsTimeout is how long an answer of NATS is waited for.
	natsTimeout = 5 * time.Second
	// patience is how long everything may take to settle when nothing fails any more.
	patience = 20 * time.Minute
)

var (
	linkPrefix  = "$KV.links." + provisioningv1.LinkKey(connectionName, user, nil)
	ownerPrefix = linkPrefix + "resource."
)

func entryID(n int) []byte { return fmt.Appendf(nil, "%016d", n) }

func entryHex(n int) string { return hex.EncodeToString(entryID(n)) }

// number is which entry has an id; -1: none.
func number(id []byte) int {
	for n := range maxEntries {
		if string(id) == string(entryID(n)) {
			return n
		}
	}
	return -1
}

// variant is a configuration, with what is made of it again and again.
type variant struct {
	*connection.Config

	set  mapping.Set
	hash string
}

// variants are the configurations of which every world has one.
var variants = sync.OnceValue(func() []variant {
	var all []variant
	for _, users := range []string{"remove: disable", "remove: delete"} {
		for _, guard := range []string{"max_removals: 100000, max_removal_percent: 100, first_run: flow", "max_removals: 1, window: 1m, first_run: flow"} {
			text := fmt.Sprintf(`
sources:
  corp:
    ldap: {urls: ["ldap://127.0.0.1:1"]}
    users: {base_dns: ["ou=people,dc=x"], filter: (uid=*)}
connections:
  wiki:
    source: corp
    target: {url: "https://target/scim/v2", rate: {requests_per_second: 0}, concurrency: 4}
    drift: {interval: 0s}
    guard: {%s}
    users:
      %s
      attributes:
        userName: user.uid
        title: user.title
`, guard, users)
			cfg, err := connection.Parse("simulation.yaml", []byte(text))
			if err != nil {
				panic(err)
			}
			all = append(all, variant{Config: cfg, set: cfg.AttributeSet(source), hash: cfg.Hash(connectionName)})
		}
	}
	return all
})

// world is one NATS, one target, a directory and the workers between them.
type world struct {
	seed    uint64
	config  variant
	server  *membus.Server
	target  *scimtest.Server
	admin   *bus.Bus // sees and does everything at once
	history *history
	mistake *mistake

	faults   atomic.Bool
	running  sync.WaitGroup
	underway atomic.Int64 // messages and requests that are on their way

	mu       sync.Mutex
	failures []string
	wanted   map[int]desired
	twins    map[string]bool // resources that a creation made that arrived late
}

// desired is what the directory holds of an entry.
type desired struct {
	there, enabled bool
	uid, title     string
	sequence       uint64
}

// play lets a world with a seed come and go, and returns what went wrong in it.
func play(ctx context.Context, seed uint64, m *mistake) *world {
	r := rand.New(rand.NewPCG(seed, 1))
	w := &world{
		seed: seed, config: variants()[r.IntN(len(variants()))], server: membus.NewServer(), target: scimtest.New(scimtest.Options{}),
		history: &history{began: time.Now()}, mistake: m, wanted: map[int]desired{}, twins: map[string]bool{},
	}
	w.admin = bus.New(w.server.Client(nil), bus.Config{Log: slog.New(slog.DiscardHandler)})
	w.server.Stored, w.server.Settling = w.stored, w.settling
	if err := w.prepare(ctx); err != nil {
		w.fail("prepare: %v", err)
		return w
	}
	w.faults.Store(r.IntN(10) > 0)
	stop := make(chan struct{})
	var lives sync.WaitGroup
	crashes := int64(r.IntN(4))
	for i := range 2 + r.IntN(2) {
		lives.Go(func() { w.live(string(rune('a'+i)), &crashes, stop) }) //nolint:contextcheck // each life has its own
	}
	w.direct(ctx, r)
	w.faults.Store(false)
	w.settle(ctx)
	close(stop)
	lives.Wait()
	w.running.Wait()
	return w
}

// prepare does what a detector does before it publishes anything.
func (w *world) prepare(ctx context.Context) error {
	if err := w.admin.Setup(ctx); err != nil {
		return err
	}
	return errors.Join(
		worker.StoreAttributeSet(ctx, w.admin, source, w.config.set),
		worker.Advance(ctx, w.admin, worker.PlanOf(w.config.Config, connectionName)),
		worker.FirstPass(ctx, w.admin, connectionName))
}

// live starts a worker again and again until stop is closed. While things fail it is
// killed, or stopped, now and then.
func (w *world) live(name string, crashes *int64, stop <-chan struct{}) {
	r := rand.New(rand.NewPCG(w.seed, hash(name)))
	<-time.After(time.Duration(r.Int64N(int64(100 * time.Millisecond))))
	for life := 1; ; life++ {
		dieAt := 0
		if w.faulty() && r.IntN(2) == 0 && atomic.AddInt64(crashes, -1) >= 0 {
			dieAt = 1 + r.IntN(1+r.IntN(250))
		}
		p := w.start(fmt.Sprintf("%s%d", name, life), dieAt)
		var leave <-chan time.Time
		if w.faulty() && r.IntN(4) == 0 {
			leave = time.After(time.Duration(r.Int64N(int64(20 * time.Second))))
		}
		over := false
		select {
		case <-p.gone:
			linger(p, r)
		case <-p.ended: // it could not start
		case <-leave:
			w.history.add(p.name, "is stopped", "", nil)
			p.cancel()
		case <-stop:
			over = true
			p.cancel()
		}
		<-p.ended
		p.kill()
		p.client.Disconnect()
		if over {
			return
		}
		select {
		case <-time.After(time.Duration(r.Int64N(int64(10 * time.Second)))):
		case <-stop:
			return
		}
	}
}

// linger is for how long NATS takes a client for alive that was killed.
func linger(p *process, r *rand.Rand) {
	<-time.After(time.Duration(r.Int64N(int64(200 * time.Millisecond))))
	p.client.Disconnect()
}

// faulty says whether things fail now.
func (w *world) faulty() bool { return w.faults.Load() }

// background runs something that is on its way.
func (w *world) background(run func()) {
	w.underway.Add(1)
	w.running.Go(func() {
		defer w.underway.Add(-1)
		run()
	})
}

// later is background after a while.
func (w *world) later(d time.Duration, run func()) {
	w.background(func() {
		<-time.After(d)
		run()
	})
}

func (w *world) fail(format string, args ...any) {
	text := short(fmt.Sprintf(format, args...))
	w.history.add("judge", "FAILED: "+text, "", nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, text)
}

// settle lets everything run until nothing is pending. Meanwhile an operator approves what
// is held.
func (w *world) settle(ctx context.Context) {
	w.history.add("world", "is quiet from now on", "", nil)
	var pending string
	for began := time.Now(); time.Since(began) < patience; <-time.After(time.Second) {
		w.approve(ctx)
		w.tidy(ctx)
		if pending = w.pending(ctx); pending == "" || w.twinned(pending) {
			if pending == "" {
				w.judgeTarget(ctx)
			}
			return
		}
	}
	w.fail("stuck: %s", pending)
	w.judgeTarget(ctx)
}

// twinned says whether an entry cannot have a name because a creation that arrived late has
// made an account of that name, which is nobody's and stays.
func (w *world) twinned(pending string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.twins) > 0 && strings.Contains(pending, "uniqueness")
}

// approve says yes to everything that is held.
func (w *world) approve(ctx context.Context) {
	store := held.OfConnection(w.admin, connectionName)
	items, err := store.List(ctx)
	if err != nil {
		w.fail("list what is held: %v", err)
	}
	for _, i := range items {
		if i.GetMark() == provisioningv1.Mark_MARK_APPROVED {
			continue
		}
		w.history.add("operator", "approves", hex.EncodeToString(i.ID), nil)
		err := errors.Join(store.Mark(ctx, i, provisioningv1.Mark_MARK_APPROVED, "approval"), w.admin.Request(ctx, user, connectionName, i.ID, "approved"))
		if err != nil && !errors.Is(err, bus.ErrConflict) {
			w.fail("approve: %v", err)
		}
	}
}

// tidy does what an entry's problem asks an operator to do: it deletes all accounts of an
// entry but one, and has the entry tried again.
func (w *world) tidy(ctx context.Context) {
	for n := range w.wanted {
		if !strings.Contains(w.link(ctx, n).GetProblem().GetMessage(), "delete all but one") {
			continue
		}
		w.history.add("operator", "deletes all accounts but one", entryHex(n), nil)
		kept := false
		for _, a := range w.target.Users() {
			if a["externalId"] == entryHex(n) && kept {
				if err := w.target.Remove(scim.KindUser, text(a["id"])); err != nil {
					w.fail("delete an account: %v", err)
				}
			}
			kept = kept || a["externalId"] == entryHex(n)
		}
		if err := w.admin.Request(ctx, user, connectionName, entryID(n), "retry"); err != nil {
			w.fail("ask for a retry: %v", err)
		}
	}
}

// pending is what is not done yet; empty when everything is.
func (w *world) pending(ctx context.Context) string {
	if n := w.underway.Load(); n > 0 {
		return fmt.Sprintf("%d messages are on their way", n)
	}
	for n, d := range w.wanted {
		switch l := w.link(ctx, n); {
		case l.GetSequence() != d.sequence:
			return fmt.Sprintf("#%d is at %d and not at %d", n, l.GetSequence(), d.sequence)
		case l.GetClaim() != nil:
			return fmt.Sprintf("#%d is claimed by %q", n, l.GetClaim().GetOwner())
		case l.GetLookAgainAt() != nil:
			return fmt.Sprintf("#%d waits for the second look", n)
		case l.GetProblem() != nil:
			return fmt.Sprintf("#%d has a problem: %s", n, l.GetProblem().GetMessage())
		}
	}
	for stream, consumer := range map[string]string{
		user.Stream(): worker.ChangesConsumer(user, connectionName, w.config.hash), provisioningv1.StreamRequests: worker.RequestsConsumer(user, connectionName),
	} {
		if g, err := w.admin.Backlog(ctx, stream, consumer); err != nil || g.Total() > 0 {
			return fmt.Sprintf("%s has a backlog of %d: %v", consumer, g.Total(), err)
		}
	}
	if count, _, err := w.admin.Postponed(ctx, user, connectionName); err != nil || count > 0 {
		return fmt.Sprintf("%d entries are postponed: %v", count, err)
	}
	return ""
}

// link is what is remembered of an entry; empty when nothing is.
func (w *world) link(ctx context.Context, n int) *provisioningv1.Link {
	l, _, err := bus.OpenBucket[provisioningv1.Link](w.admin, provisioningv1.BucketLinks).Get(ctx, provisioningv1.LinkKey(connectionName, user, entryID(n)))
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		w.fail("read a link: %v", err)
	}
	return l
}

// createdLate notes a resource that a creation made that arrived late.
func (w *world) createdLate(body []byte) {
	var made struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(body, &made) == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.twins[made.ID] = true
	}
}

// text is the failures and the whole history.
func (w *world) text() string {
	return fmt.Sprintf("seed %d%s:\n  %s\n\n%s", w.seed, w.mistake.suffix(), strings.Join(w.failures, "\n  "), w.history)
}
