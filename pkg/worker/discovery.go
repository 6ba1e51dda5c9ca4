package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/crash"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	// discoveryInterval is how long what a target says about itself, and what was learned
	// of it, is believed.
	discoveryInterval = 24 * time.Hour
	// discoveryRetry is how soon a target that did not answer is asked again, at most.
	discoveryRetry = 15 * time.Minute
	discoveryLease = 30 * time.Second
)

func capabilitiesKey(connection string) string { return connection + ".capabilities" }

// capabilities are what is known of a target beyond its profile: what it says about
// itself and what its answers showed. They are found out once for all replicas, in
// the background, and kept for the next start.
type capabilities struct {
	connection string
	url        string
	owner      string
	bus        *bus.Bus
	log        *slog.Logger
	profile    scim.Profile                                     // as configured
	mapped     func(scim.Discovered) (unknown, unsure []string) // what the target says of the mapping
	follow     func(scim.Profile)
	ask        func(context.Context) (scim.Discovered, error)

	mu       sync.Mutex
	known    findings
	lessons  scim.Learned // that may not be stored yet
	lesson   chan struct{}
	news     chan struct{}   // closed when known changes
	ready    chan struct{}   // closed when what is stored was read
	ctx      context.Context //nolint:containedctx // what goes on between calls ends with close
	stop     context.CancelFunc
	underway sync.WaitGroup
}

// findings are what is stored.
type findings struct {
	URL     string          `json:"url"`
	At      time.Time       `json:"at"`
	Said    scim.Discovered `json:"said"`
	Learned scim.Learned    `json:"learned"`
}

// NewInformedReader makes a client that sends nothing but reads, and follows what is
// known of the target as a running service does: what is stored of it, or else what it
// says about itself now. A target that does not answer is taken as its profile says.
func NewInformedReader(ctx context.Context, b *bus.Bus, conn *connection.Connection) (*scim.Client, error) {
	client, err := NewReader(conn)
	if err != nil {
		return nil, err
	}
	c := &capabilities{connection: conn.Name, url: conn.Target.URL, bus: b}
	known, err := c.stored(ctx)
	if err != nil {
		client.Close()
		return nil, err
	}
	if known.At.IsZero() {
		if said, err := client.Discover(ctx); err == nil {
			known.Said = said
		}
	}
	client.Follow(client.Profile().With(known.Said, known.Learned))
	return client, nil
}

func newCapabilities(p *Process, of *connection.Connection, profile scim.Profile) *capabilities {
	c := &capabilities{
		connection: of.Name, url: of.Target.URL, owner: p.owner, bus: p.bus, log: p.log.With("connection", of.Name), profile: profile,
		mapped: of.CheckAttributes,
		lesson: make(chan struct{}, 1), news: make(chan struct{}), ready: make(chan struct{}),
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// start begins to keep them; learned may be called before.
func (c *capabilities) start(client, prober *scim.Client) {
	c.follow, c.ask = client.Follow, prober.Discover
	c.underway.Go(c.watch)
	c.underway.Go(c.keep)
}

func (c *capabilities) close() {
	c.stop()
	c.underway.Wait()
}

// learned takes what a call showed; the client follows it at once.
func (c *capabilities) learned(l scim.Learned) {
	c.mu.Lock()
	c.lessons = c.lessons.Join(l)
	c.follow(c.profile.With(c.known.Said, c.lessons))
	c.mu.Unlock()
	select {
	case c.lesson <- struct{}{}:
	default: // it is about to be looked at
	}
}

// watch follows what is stored, whoever stores it.
func (c *capabilities) watch() {
	var once sync.Once
	Follow(c.ctx, c.log, "what is known of the target", troubleDelay, func(ctx context.Context) error {
		return c.bus.WatchText(ctx, provisioningv1.BucketTargets, capabilitiesKey(c.connection), func() { once.Do(func() { close(c.ready) }) }, c.take)
	})
}

// take makes the client follow what is stored.
func (c *capabilities) take(_, text string) {
	k := readFindings(text, c.url)
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.At != c.known.At && !k.At.IsZero() {
		unknown, _ := c.mapped(k.Said)
		for _, line := range unknown {
			c.log.WarnContext(c.ctx, "the configuration is probably wrong", "warning", line)
		}
	}
	if k.At != c.known.At && !c.known.At.IsZero() { // asked anew: what was learned before has ended
		c.lessons = k.Learned
	}
	c.known = k
	c.lessons = c.lessons.Join(k.Learned)
	c.follow(c.profile.With(k.Said, c.lessons))
	close(c.news)
	c.news = make(chan struct{})
}

// keep asks the target when it is due, and stores what was learned.
func (c *capabilities) keep() {
	select {
	case <-c.ready:
	case <-c.ctx.Done():
	}
	for c.ctx.Err() == nil {
		c.mu.Lock()
		due, news := time.Until(c.known.At.Add(discoveryInterval)), c.news
		c.mu.Unlock()
		if due <= 0 {
			if err := c.refresh(); err != nil && c.ctx.Err() == nil {
				c.log.WarnContext(c.ctx, "ask the target what it can do; going on without", "error", err)
				due = discoveryRetry
			} else {
				due = discoveryInterval
			}
		}
		timer := time.NewTimer(due)
		select {
		case <-c.ctx.Done():
		case <-timer.C:
		case <-news:
		case <-c.lesson:
			if err := c.store(c.note); err != nil && c.ctx.Err() == nil {
				c.log.WarnContext(c.ctx, "keep what was learned of the target", "error", err)
			}
		}
		timer.Stop()
	}
}

// refresh asks the target, in one replica at a time, and stores the answer.
func (c *capabilities) refresh() error {
	key := capabilitiesKey(c.connection)
	return c.bus.WithLease(c.ctx, provisioningv1.BucketTargets, key+".lease", c.owner, discoveryLease, func(ctx context.Context) error {
		k, err := c.stored(ctx)
		if err != nil || time.Since(k.At) < discoveryInterval {
			return err // another replica was faster
		}
		if !k.At.IsZero() {
			k.Learned = scim.Learned{} // it ends with what the target said
		}
		var said scim.Discovered
		err = crash.Catch(ctx, c.log, crash.Background, func() (err error) {
			said, err = c.ask(ctx)
			return err
		})
		if err != nil {
			return err
		}
		c.log.InfoContext(ctx, "asked the target what it can do", "patch", !said.NoPatch, "groups", !said.NoGroups, "says_nothing_of", said.Silent)
		return c.put(ctx, findings{URL: c.url, At: time.Now().UTC(), Said: said, Learned: k.Learned})
	})
}

// store changes what is stored.
func (c *capabilities) store(change func(*findings) bool) error {
	key := capabilitiesKey(c.connection)
	return c.bus.WithLease(c.ctx, provisioningv1.BucketTargets, key+".lease", c.owner, discoveryLease, func(ctx context.Context) error {
		k, err := c.stored(ctx)
		if err != nil || !change(&k) {
			return err
		}
		return c.put(ctx, k)
	})
}

// note adds what was learned to what is stored.
func (c *capabilities) note(k *findings) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := k.Learned
	k.URL, k.Learned = c.url, k.Learned.Join(c.lessons)
	return k.Learned != before
}

// stored reads what is stored.
func (c *capabilities) stored(ctx context.Context) (findings, error) {
	text, err := c.bus.Text(ctx, provisioningv1.BucketTargets, capabilitiesKey(c.connection))
	if errors.Is(err, bus.ErrNotFound) {
		return findings{}, nil
	}
	if err != nil {
		return findings{}, fmt.Errorf("read what is known of the target: %w", err)
	}
	return readFindings(text, c.url), nil
}

// readFindings reads what is stored. What cannot be read, and what is about another
// address, is as nothing.
func readFindings(text, url string) findings {
	var k findings
	if json.Unmarshal([]byte(text), &k) != nil || k.URL != url {
		return findings{}
	}
	return k
}

// UnknownAttributes returns a line, with the key and the remedy, for each attribute of
// a connection's mapping that the target does not have, by what it said about itself
// when a worker asked it last; none before that.
func UnknownAttributes(ctx context.Context, b *bus.Bus, c *connection.Connection) ([]string, error) {
	text, err := b.Text(ctx, provisioningv1.BucketTargets, capabilitiesKey(c.Name))
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return nil, fmt.Errorf("read what is known of the target: %w", err)
	}
	k := readFindings(text, c.Target.URL)
	if k.At.IsZero() {
		return nil, nil
	}
	unknown, _ := c.CheckAttributes(k.Said)
	return unknown, nil
}

func (c *capabilities) put(ctx context.Context, k findings) error {
	data, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode what is known of the target: %w", err)
	}
	return c.bus.PutText(ctx, provisioningv1.BucketTargets, capabilitiesKey(c.connection), string(data), 0)
}
