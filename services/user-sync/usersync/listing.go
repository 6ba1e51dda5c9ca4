package usersync

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/crash"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
)

const (
	// listFrom is how many users who met an account that was there already, within the
	// lifetime of a listing, make one worth while.
	listFrom = 8
	// ahead is how many users of a process go first, before the others are tried: what
	// they meet says whether the target is populated.
	ahead = 12
	// aheadTime bounds how long the others wait for them.
	aheadTime = 10 * time.Second
	// listingLifetime is how long a listing is believed, and how long one may take.
	listingLifetime = time.Minute
	// listingDelay is how long none is tried after one that could not be used.
	listingDelay = 10 * time.Minute
	// lookDelay bounds how long a user who holds a claim waits for a listing.
	lookDelay = 5 * time.Second
)

// accounts is what a target holds, in one listing, for the first synchronization with
// a populated one: users who are there already are found in it and need neither a
// creation that is refused nor a look-up. A user who is not in it proves nothing: she is
// created, or looked up, as if there were none.
type accounts struct {
	target  lister
	waiting func(context.Context) (uint64, error) // users still to be looked at
	keep    func(*scim.Resource)                  // drops what is not compared
	log     *slog.Logger

	mu      sync.Mutex
	listing *scim.Listing // nil: none
	// bearers are the accounts by the externalId that they bear, of one complete listing,
	// while links may be missing; nil: none was made. Nobody but Rollcall gives an
	// account an entry id, so it need not be fresh.
	bearers map[string]string
	// gone are accounts that went away since the listing began; nil while none is made
	// or kept.
	gone    map[string]struct{}
	listed  time.Time
	failed  time.Time
	met     []time.Time   // users who met an account, lately
	running chan struct{} // closed when the listing that is being made is over; nil: none is

	begun, ended int           // of those who go ahead
	tried        chan struct{} // closed when they have
}

// lister lists a target.
type lister interface {
	ReadAll(ctx context.Context, kind scim.Kind, opts scim.ListOptions, each func(*scim.Resource) error) (*scim.Listing, error)
	Profile() scim.Profile
}

var _ lister = (*scim.Client)(nil)

func newAccounts(target lister, waiting func(context.Context) (uint64, error), keep func(*scim.Resource), log *slog.Logger) *accounts {
	return &accounts{target: target, waiting: waiting, keep: keep, log: log, tried: make(chan struct{})}
}

// enter lets a user without an account be looked for or created, after those who go
// ahead, and with a listing where one is worth while. leave is called when that is over;
// met says that she had an account. Where links may be missing, a listing is always worth
// while, unless it costs more than to look everybody up.
func (a *accounts) enter(ctx context.Context, linksMayBeMissing bool) (leave func(met bool), err error) {
	a.mu.Lock()
	if !linksMayBeMissing {
		a.bearers = nil
	}
	know := linksMayBeMissing && a.bearers == nil
	first := a.begun < ahead
	a.begun++
	a.mu.Unlock()
	leave = func(met bool) { a.leave(first, met) }
	if !first {
		err = within(ctx, a.tried, aheadTime)
	}
	switch {
	case err != nil:
	case know:
		err = a.ensure(ctx)
	default:
		err = a.refresh(ctx)
	}
	if err != nil {
		leave(false)
	}
	return leave, err
}

func (a *accounts) leave(first, met bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if met {
		a.met = append(a.recent(), time.Now())
	}
	if first {
		if a.ended++; a.ended == ahead {
			close(a.tried)
		}
	}
}

// recent are those of met who still count; a.mu is held.
func (a *accounts) recent() []time.Time {
	return slices.DeleteFunc(a.met, func(t time.Time) bool { return time.Since(t) > listingLifetime })
}

// within waits until something is over, for a time at most.
func within(ctx context.Context, over <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// refresh makes a listing where one is worth while and none is fresh, or waits for the
// one that is being made.
func (a *accounts) refresh(ctx context.Context) error { return a.read(ctx, listFrom, false) }

// ensure is refresh for a user whom only a listing can show.
func (a *accounts) ensure(ctx context.Context) error { return a.read(ctx, 0, false) }

// insist is ensure whatever the listing costs.
func (a *accounts) insist(ctx context.Context) error { return a.read(ctx, 0, true) }

// read makes a listing where so many users met an account lately.
func (a *accounts) read(ctx context.Context, from int, whatever bool) error {
	a.mu.Lock()
	if running := a.running; running != nil {
		a.mu.Unlock()
		return within(ctx, running, listingLifetime)
	}
	a.met = a.recent()
	if a.fresh() || len(a.met) < from || !whatever && time.Since(a.failed) < listingDelay {
		a.mu.Unlock()
		return nil
	}
	running := make(chan struct{})
	a.running, a.gone = running, map[string]struct{}{}
	a.mu.Unlock()
	var listing *scim.Listing
	var bearers map[string]string
	err := crash.Catch(ctx, a.log, crash.Handler, func() (err error) { // others wait for its end
		listing, bearers, err = a.list(ctx, whatever)
		return err
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	defer close(running)
	a.running = nil
	switch {
	case ctx.Err() != nil:
		a.gone = nil
		return ctx.Err()
	case err != nil:
		a.gone, a.failed = nil, time.Now()
		a.log.InfoContext(ctx, "the target's users are looked up one by one: their listing cannot be used", "error", err)
	default:
		a.listing, a.bearers, a.listed = listing, bearers, time.Now()
		time.AfterFunc(listingLifetime, func() { a.forget(listing) })
	}
	return nil
}

// forget gives back the memory of a listing that is not believed any more.
func (a *accounts) forget(listing *scim.Listing) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listing != listing {
		return
	}
	a.listing = nil
	if a.running == nil {
		a.gone = nil
	}
}

func (a *accounts) fresh() bool { return a.listing != nil && time.Since(a.listed) <= listingLifetime }

var errTooLong = errors.New("the listing costs more calls than it saves")

// list reads all accounts, unless that takes more pages than users wait. bearers are
// those that bear an externalId, by it.
func (a *accounts) list(ctx context.Context, whatever bool) (listing *scim.Listing, bearers map[string]string, err error) {
	waiting, err := a.waiting(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, listingLifetime)
	defer cancel()
	left := (waiting + listFrom) * uint64(a.target.Profile().PageSize) //nolint:gosec // not negative
	bearers = map[string]string{}
	listing, err = a.target.ReadAll(ctx, scim.KindUser, scim.ListOptions{}, func(r *scim.Resource) error {
		if left == 0 && !whatever {
			return errTooLong
		}
		left--
		if r.ExternalID != "" {
			bearers[r.ExternalID] = r.ID
		}
		a.keep(r)
		return nil
	})
	return listing, bearers, err
}

// bearer is the account that bears an externalId by a complete listing, empty where
// there is none; known is false where no such listing was made.
func (a *accounts) bearer(externalID string) (id string, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bearers[externalID], a.bearers != nil
}

// find is the one account that a fresh listing holds for a user, by the first attribute
// that finds any; nil where a look-up has to say it. absent says that a fresh listing
// holds none.
func (a *accounts) find(match []matchValue) (r *scim.Resource, absent bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.fresh() {
		return nil, false
	}
	for _, m := range match {
		found, err := a.listing.Find(m.attribute, m.value)
		if err != nil || len(found) > 1 {
			return nil, false
		}
		if len(found) == 1 {
			if _, gone := a.gone[found[0].ID]; gone {
				return nil, false
			}
			return found[0], false
		}
	}
	return nil, true
}

// settle waits, for a while, for the listing that is being made.
func (a *accounts) settle(ctx context.Context) error {
	a.mu.Lock()
	running := a.running
	a.mu.Unlock()
	if running == nil {
		return nil
	}
	return within(ctx, running, lookDelay)
}

// drop forgets an account that is gone, or another one than it was.
func (a *accounts) drop(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone != nil {
		a.gone[id] = struct{}{}
	}
}

// seeks says whether a user has to be looked for or created. One that is disabled in
// the directory may have an account that has to be disabled.
func (c *converger) seeks(job *worker.Job, w *wanted) bool {
	if c.accounts == nil || job.Foretelling() || job.Record.Linked() || !w.InScope {
		return false
	}
	return plan.Decide(c.policy, w.Desired, job.Linked(), plan.Observed{}).Kind != plan.DoNothing
}

// listed is what the listing says of a user, where it names one account that no entry
// owns or owned: what Rollcall had, it may have changed since. Otherwise nobody looked. A user that is disabled in the directory and in no
// listing needs no look-up: nothing would be created.
func (c *converger) listed(ctx context.Context, job *worker.Job, w *wanted) (plan.Observed, error) {
	r, absent := c.accounts.find(w.match)
	if r == nil {
		return plan.Observed{Looked: absent && !w.Enabled && !c.policy.ProvisionDisabled}, nil
	}
	owned, err := job.WasOwned(ctx, r.ID)
	if err != nil || owned {
		return plan.Observed{}, err
	}
	m, err := c.examine(ctx, job, w, r)
	if err != nil {
		return plan.Observed{}, err
	}
	w.met, w.listed = true, r.ID
	return plan.Observed{Looked: true, Matches: []plan.Match{m}}, nil
}

// compared returns what drops from an account of a listing what is not compared: a
// target may have many.
func (m *mapper) compared() func(*scim.Resource) {
	kept := []string{"id", "externalid", "active"}
	paths := slices.Clone(m.match)
	for _, a := range m.attributes {
		paths = append(paths, a.Path.String())
	}
	for _, path := range paths {
		if p, err := scim.ParsePath(path); err == nil && p.URN != "" {
			kept = append(kept, strings.ToLower(p.URN))
		} else if err == nil {
			kept = append(kept, strings.ToLower(p.Attribute))
		}
	}
	return func(r *scim.Resource) {
		for name := range r.Attributes {
			lower := strings.ToLower(name)
			if !slices.ContainsFunc(kept, func(k string) bool { return lower == k || strings.HasPrefix(lower, k+":") }) {
				delete(r.Attributes, name)
			}
		}
	}
}
