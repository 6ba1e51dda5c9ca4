package worker

import "sync"

// Locks lets one goroutine of this process at a time work on a key. The zero value is
// ready. Whoever has a key may wait for NATS or a target: it is a channel that the others
// wait for, because virtual time (testing/synctest) stands still while a goroutine waits for
// a sync.Mutex.
type Locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	free  chan struct{} // holds a value while the key is free
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
		one = &lock{free: make(chan struct{}, 1)}
		one.free <- struct{}{}
		l.held[key] = one
	}
	one.users++
	l.mu.Unlock()
	<-one.free
	return func() {
		one.free <- struct{}{}
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(l.held, key)
		}
	}
}
