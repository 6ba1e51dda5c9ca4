package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Process is what all workers of one process share: the bus, the writers, the
// clients of the targets and the places to work in. Workers of users and groups
// in one process share each target's client, and so its limits.
type Process struct {
	bus      *bus.Bus
	owner    string
	commits  *bus.Writer
	outcomes *bus.Writer
	places   int // entries in work for each connection
	pool     *pool
	log      *slog.Logger

	mu        sync.Mutex
	discovers bool
	times     BreakerTimes
	lookAgain time.Duration
	targets   map[string]*target
	slots     map[string]chan struct{} // by connection
	marks     map[string]*Marks        // by connection
	unchanged func(context.Context) error
	transport http.RoundTripper
}

// slotFactor is how many entries are worked on for each call in flight: claims
// and commits of the others run while calls wait for the target.
const slotFactor = 8

// fewestPlaces is what a connection has at least, however many there are.
const fewestPlaces = 16

// NewProcess starts the writers; Close ends them. Every connection has its fair
// share of the process's places, so that a slow target starves nobody else.
func NewProcess(b *bus.Bus, cfg *connection.Config, log *slog.Logger) (*Process, error) {
	owner, err := OwnerName()
	if err != nil {
		return nil, err
	}
	return &Process{
		bus: b, owner: owner, log: log,
		commits: bus.NewWriter(b), outcomes: bus.NewWriter(b),
		places:  max(fewestPlaces, slotFactor*cfg.Workers.Concurrency/max(1, len(cfg.Connections))),
		pool:    newPool(cfg.Workers.Concurrency, len(cfg.Connections)),
		targets: map[string]*target{}, slots: map[string]chan struct{}{}, marks: map[string]*Marks{},
	}, nil
}

// OwnerName makes a name for who claims entries or holds a lease, another at each
// call: the host's and something random.
func OwnerName() (string, error) {
	suffix := make([]byte, 6)
	if _, err := rand.Read(suffix); err != nil {
		return "", fmt.Errorf("make an owner id: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("ask for the host name: %w", err)
	}
	return host + "-" + hex.EncodeToString(suffix), nil
}

// Close ends the writers and the connections to the targets.
func (p *Process) Close() {
	for _, t := range p.targets {
		t.close()
	}
	p.commits.Close()
	p.outcomes.Close()
}

// Limit sets the limits of the breakers; call it before anything else.
func (p *Process) Limit(times BreakerTimes) { p.times = times }

// LookAgain sets how long after an abandoned write a resource is read again, instead of
// LookAgainAfter; call it before anything else.
func (p *Process) LookAgain(after time.Duration) { p.lookAgain = after }

// Discover makes the process ask the targets what they can do and keep what it learns
// of them, in the background; call it before anything else.
func (p *Process) Discover() { p.discovers = true }

// Verify makes the workers ask, before they handle anything, whether NATS still holds
// what it held; call it before anything else.
func (p *Process) Verify(unchanged func(context.Context) error) { p.unchanged = unchanged }

// Simulate gives the process a name instead of one that is unique in the world, and has
// transport carry the requests to the targets; call it before anything else.
func (p *Process) Simulate(owner string, transport http.RoundTripper) {
	p.owner, p.transport = owner, transport
}

// Bus is the process's connection to NATS.
func (p *Process) Bus() *bus.Bus { return p.bus }

// Log is the process's logger.
func (p *Process) Log() *slog.Logger { return p.log }

// Links is a connection's store of links.
func (p *Process) Links(name string) *links.Store { return links.Open(p.bus, p.commits, name, p.owner) }

// Target is the connection's SCIM client, one for the process.
func (p *Process) Target(c *connection.Connection) (*scim.Client, error) {
	t, err := p.target(c)
	if err != nil {
		return nil, err
	}
	return t.client, nil
}

func (p *Process) target(c *connection.Connection) (*target, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.targets[c.Name]; ok {
		return t, nil
	}
	t, err := p.openTarget(c)
	if err != nil {
		return nil, fmt.Errorf("connections.%s.target: %w", c.Name, err)
	}
	p.targets[c.Name] = t
	return t, nil
}

// Worker makes the worker of one kind of a connection.
func (p *Process) Worker(kind directoryv1.Kind, c *connection.Connection, hash string, converger Converger) (*Worker, error) {
	t, err := p.target(c)
	if err != nil {
		return nil, err
	}
	cfg := configOf(kind, c, hash, p.owner)
	cfg.Concurrency = min(cfg.Concurrency, p.places) // more would only wait for a place
	cfg.LookAgain = p.lookAgain
	return New(
		cfg,
		Deps{Bus: p.bus, Links: p.Links(c.Name), Outcomes: p.outcomes, Slots: p.slotsOf(c.Name), Room: t.share.room, Breaker: t.breaker, Marks: p.marksOf(c.Name), Unchanged: p.unchanged, Log: p.log},
		converger)
}

// configOf is a connection's side of one kind.
func configOf(kind directoryv1.Kind, c *connection.Connection, hash, owner string) Config {
	cfg := Config{
		Kind: kind, Connection: c.Name, Source: c.Source, Hash: hash, Concurrency: slotFactor * c.Target.Concurrency, Owner: owner,
		Limits:        guard.Limits{MaxRemovals: c.Guard.MaxRemovals, MaxRemovalPercent: c.Guard.MaxRemovalPercent, Window: c.Guard.Window},
		FirstRunFlows: c.Guard.FirstRun == connection.FirstRunFlow, DryRun: c.DryRun,
		Remove: plan.Remove(c.Users.Remove), Matching: c.MatchingPaths(kind), Masked: c.MaskedPaths(kind),
	}
	if kind == directoryv1.Kind_KIND_GROUP {
		cfg.Remove = plan.Remove(c.Groups.Remove)
	}
	return cfg
}

func (p *Process) slotsOf(connection string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slots[connection] == nil {
		p.slots[connection] = make(chan struct{}, p.places)
	}
	return p.slots[connection]
}

func (p *Process) marksOf(connection string) *Marks {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.marks[connection] == nil {
		p.marks[connection] = NewMarks()
	}
	return p.marks[connection]
}

const (
	hashKeyName = "hash-key"
	hashKeySize = 32
)

// HashKey is the key of the hashes that links keep of attribute values; it is
// made once and is the same for every process.
func (p *Process) HashKey(ctx context.Context) ([]byte, error) {
	fresh := make([]byte, hashKeySize)
	if _, err := rand.Read(fresh); err != nil {
		return nil, fmt.Errorf("make a hash key: %w", err)
	}
	text, err := p.bus.PutTextOnce(ctx, provisioningv1.BucketTargets, hashKeyName, hex.EncodeToString(fresh))
	if err != nil {
		return nil, fmt.Errorf("store the hash key: %w", err)
	}
	return decodeHashKey(text)
}

func decodeHashKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("decode the hash key: %w", err)
	}
	return key, nil
}
