package worker

import "sync"

// Mutex is a lock that is held while a request is under way. Unlike for a sync.Mutex,
// waiting for it is waiting on a channel, so that a bubble of testing/synctest knows that
// who waits is idle. The zero value is ready.
type Mutex struct {
	once sync.Once
	turn chan struct{}
}

// Lock waits for the lock.
func (m *Mutex) Lock() {
	m.once.Do(func() { m.turn = make(chan struct{}, 1) })
	m.turn <- struct{}{}
}

// Unlock gives the lock back to the goroutine that waits longest.
func (m *Mutex) Unlock() { <-m.turn }

// Locks lets one goroutine of this process at a time work on a key. The zero
// value is ready.
type Locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	mu    Mutex
	users int
}

// Lock waits for the key and returns the function that gives it back.
func (l *Locks) Lock(key string) (unlock func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	one := l.held[key]
	if one == nil {
		one = &lock{}
		l.held[key] = one
	}
	one.users++
	l.mu.Unlock()
	one.mu.Lock()
	return func() {
		one.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(l.held, key)
		}
	}
}
