package usersync

import (
	"context"
	"sync"
	"time"
)

const (
	// beginTime is how long a user waits for the creation of a manager to begin, whose
	// change is on the stream and was not looked at yet: it is delivered about now.
	beginTime = 250 * time.Millisecond
	// createTime is how long a user waits for the creation of a manager to end.
	createTime = 5 * time.Second
)

// creations are the users that this process is about to create or adopt. A user who
// refers to one of them (a manager) waits for it, so that the reference goes with the
// creation: otherwise it is a second request, for every report of every manager of a
// first synchronization. The wait takes no call of the target and no place in its rate.
type creations struct {
	mu       sync.Mutex
	underway map[entryID]*creation
	awaited  map[entryID]*waiters
}

// waiters wait for a creation to begin.
type waiters struct {
	began  chan struct{} // closed then
	number int
}

// creation is one of them.
type creation struct {
	over     chan struct{} // closed when it has ended
	resource string        // the user's resource then; empty: none
	waitsFor *creation
}

func newCreations() *creations {
	return &creations{underway: map[entryID]*creation{}, awaited: map[entryID]*waiters{}}
}

// begin says that a user is about to be created. end has to be called with the
// resource id that came of it, or with none.
func (c *creations) begin(id entryID) (one *creation, end func(resource string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one = &creation{over: make(chan struct{})}
	c.underway[id] = one
	if w := c.awaited[id]; w != nil {
		close(w.began)
		delete(c.awaited, id)
	}
	return one, func(resource string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		one.resource = resource
		delete(c.underway, id)
		close(one.over)
	}
}

// of is the creation of a user that is under way; nil when none is.
func (c *creations) of(id entryID) *creation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.underway[id]
}

// beginning waits until a creation is under way, for beginTime at most; nil when none
// has begun.
func (c *creations) beginning(ctx context.Context, id entryID) (*creation, error) {
	c.mu.Lock()
	if one := c.underway[id]; one != nil {
		c.mu.Unlock()
		return one, nil
	}
	w := c.awaited[id]
	if w == nil {
		w = &waiters{began: make(chan struct{})}
		c.awaited[id] = w
	}
	w.number++
	c.mu.Unlock()
	err := within(ctx, w.began, beginTime)
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.number--; w.number == 0 && c.awaited[id] == w {
		delete(c.awaited, id)
	}
	return c.underway[id], err
}

// await waits until another creation has ended, and returns its resource. It does not
// wait in a circle, nor longer than createTime.
func (c *creations) await(ctx context.Context, me, other *creation) (resource string, err error) {
	if !c.wait(me, other) {
		return "", nil
	}
	err = within(ctx, other.over, createTime)
	c.mu.Lock()
	defer c.mu.Unlock()
	me.waitsFor = nil
	return other.resource, err
}

// wait notes that one creation waits for another, unless that one waits for it.
func (c *creations) wait(me, other *creation) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for one := other; one != nil; one = one.waitsFor {
		if one == me {
			return false
		}
	}
	me.waitsFor = other
	return true
}
