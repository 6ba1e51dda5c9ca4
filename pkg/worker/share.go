package worker

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/failpoint"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	// replicaLife is for how long a replica that says nothing counts as alive.
	replicaLife = 6 * time.Second
	// idleAfter is for how long a replica with more calls than one says that it needs
	// its share.
	idleAfter = 5 * time.Second
	// growDelay is how long a replica waits before it uses a larger share: the others
	// must have heard that theirs is smaller.
	growDelay = 500 * time.Millisecond
)

// What a replica says of itself.
const (
	sharing  = "busy" // it has more to call than one place can
	retiring = "idle"
)

// share is this replica's part of target.concurrency. Every replica that calls the
// target says so in a key that lives for a few seconds, and that it is busy where one
// call at a time is not enough for it. One that is idle has one place, and the busy
// ones share the rest:
//
//	64 places, 1 busy and 1 idle replica      63 and 1
//	64 places, 3 busy ones                    22, 21 and 21
//	2 places, 3 replicas                      1 each
type share struct {
	connection, owner string
	total             int // target.concurrency
	bus               *bus.Bus
	log               *slog.Logger

	mu          sync.Mutex
	others      map[string]bool // replicas by owner, and whether they are busy
	known       bool            // who the others are
	size        int             // places now
	used        int
	crowded     time.Time // when one place was last too few
	busy        bool      // what the others know of us
	announcedAt time.Time // since when they do
	queue       []chan struct{}
	news        chan struct{}
	stop        context.CancelFunc
	underway    sync.WaitGroup
}

func newShare(p *Process, connection string, total int) *share {
	return &share{
		connection: connection, owner: p.owner, total: max(1, total), bus: p.bus, log: p.log.With("connection", connection),
		others: map[string]bool{}, size: 1, news: make(chan struct{}, 1),
	}
}

func (s *share) start() {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.underway.Go(func() { s.follow(ctx) })
	s.underway.Go(func() { s.beat(ctx) })
}

// close gives the share up.
func (s *share) close() {
	if s.stop == nil {
		return
	}
	s.stop()
	s.underway.Wait()
}

// Acquire waits for one of this replica's places.
func (s *share) Acquire(ctx context.Context) (release func(), err error) {
	ready := make(chan struct{})
	s.mu.Lock()
	s.queue = append(s.queue, ready)
	if s.used+len(s.queue) > 1 {
		s.crowd()
	}
	s.grant()
	s.mu.Unlock()
	return await(ctx, ready, s.release, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return withdraw(&s.queue, ready)
	})
}

// room is how many entries of one kind this replica may hold, which are not there for
// the others: as many as keep its places busy. Alone it holds what it can.
func (s *share) room() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known && len(s.others) == 0 {
		return slotFactor * s.total
	}
	return max(fewestPlaces, slotFactor*s.size)
}

func (s *share) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	s.grant()
}

// crowd notes that one place is too few, and tells the others; s.mu is held.
func (s *share) crowd() {
	s.crowded = time.Now()
	if !s.busy {
		s.wake()
	}
}

func (s *share) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// grant gives free places to who came first; s.mu is held.
func (s *share) grant() {
	for len(s.queue) > 0 && s.used < s.size {
		s.used++
		close(s.queue[0])
		s.queue = s.queue[1:]
	}
}

// beat says again and again that this replica is alive, and fits its size to what it
// knows of the others.
func (s *share) beat(ctx context.Context) {
	life := failpoint.Scale(replicaLife)
	said := time.Time{}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := s.bus.DropKey(ctx, provisioningv1.BucketTargets, provisioningv1.ReplicaKey(s.connection, s.owner)); err != nil {
			s.log.DebugContext(ctx, "give the share of the target's concurrency up", "error", err)
		}
	}()
	for ctx.Err() == nil {
		state, changed := s.mood()
		if changed || time.Since(said) >= life/3 {
			err := s.bus.PutText(ctx, provisioningv1.BucketTargets, provisioningv1.ReplicaKey(s.connection, s.owner), state, life)
			if err == nil {
				said = time.Now()
				s.announced(state == sharing)
			} else if ctx.Err() == nil {
				s.log.Log(ctx, bus.LevelOf(err), "say that this replica calls the target", "error", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-s.news:
		case <-time.After(s.fit(life / 3)):
		}
	}
}

// mood is what this replica has to say of itself, and whether that is new.
func (s *share) mood() (state string, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state = retiring
	if !s.crowded.IsZero() && time.Since(s.crowded) < idleAfter || s.used > 1 {
		state = sharing
	}
	return state, s.busy != (state == sharing)
}

// announced notes what the others know of us now: a larger share may be used after a
// while.
func (s *share) announced(isBusy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.announcedAt.IsZero() || s.busy != isBusy {
		s.announcedAt = time.Now()
	}
	s.busy = isBusy
}

// fit makes the size what the others leave, and returns how long that is right if
// nothing happens.
func (s *share) fit(longest time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known || s.announcedAt.IsZero() {
		return longest
	}
	part := s.part()
	if wait := time.Until(s.announcedAt.Add(growDelay)); part > s.size && len(s.others) > 0 && wait > 0 {
		return min(wait, longest)
	}
	s.size = part
	s.grant()
	return longest
}

// part is this replica's part of the places; s.mu is held.
func (s *share) part() int {
	var sharers []string
	idlers := 0
	for owner, isBusy := range s.others {
		if isBusy {
			sharers = append(sharers, owner)
		} else {
			idlers++
		}
	}
	if !s.busy && (len(sharers) > 0 || idlers > 0) {
		return 1
	}
	places := s.total - idlers
	sharers = append(sharers, s.owner)
	slices.Sort(sharers)
	part := places / len(sharers)
	if slices.Index(sharers, s.owner) < places%len(sharers) {
		part++
	}
	return max(1, part)
}

// follow learns of the other replicas.
func (s *share) follow(ctx context.Context) {
	prefix := strings.TrimSuffix(provisioningv1.ReplicaKey(s.connection, "x"), "x")
	Follow(ctx, s.log, "other replicas", troubleDelay, func(ctx context.Context) error {
		seen := map[string]bool{}
		caught := false
		return s.bus.WatchText(ctx, provisioningv1.BucketTargets, provisioningv1.ReplicaFilter(s.connection), func() {
			caught = true
			s.see(seen)
		}, func(key, text string) {
			if owner := strings.TrimPrefix(key, prefix); owner != s.owner {
				delete(seen, owner)
				if text != "" {
					seen[owner] = text == sharing
				}
			}
			if caught {
				s.see(seen)
			}
		})
	})
}

// see takes what is known of the others; a smaller share holds at once.
func (s *share) see(others map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known && maps.Equal(s.others, others) {
		return
	}
	s.others, s.known = maps.Clone(others), true
	s.size = min(s.size, s.part())
	s.wake()
}
