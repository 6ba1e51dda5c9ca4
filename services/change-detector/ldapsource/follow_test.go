package ldapsource

import (
	"context"
	"errors"
	"testing"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// scripted is a follower whose events a test writes.
func scripted(t *testing.T, s *Source, sink Sink) (*follower, chan event) {
	t.Helper()
	c, err := s.dial(t.Context(), endpoint{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	f := newFollower(s, &Server{}, c, sink)
	return f, f.events
}

// An entry that the server only calls present is read; absent and unknown ones
// are left alone.
func TestFollower_present(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(3)})
	s := source(t, config(srv, bases(people)))
	id := watch(t, s).next(t).byDN("uid=u0001," + people).ID
	r := &recorder{mirror: map[ID]*Entry{}}
	f, events := scripted(t, s, r)
	events <- event{present: []ID{id, {1}}}
	events <- event{gone: []ID{{2}}}
	events <- event{done: true}
	if err := f.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.mirror) != 1 || r.mirror[id] == nil || r.proof.Entries != 1 {
		t.Errorf("%v, %+v", r.log, r.proof)
	}
}

// One of several bases lost an entry and another one has it: it is not gone. The
// order in which the two say so does not matter.
func TestFollower_goneFromOneBase(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(3) + group("g", "uid=u0000,"+people)})
	s := source(t, config(srv, bases(people, groups)))
	entry := watch(t, s).next(t).byDN("uid=u0001," + people)
	for name, script := range map[string][]event{
		"gone first": {{base: 1, put: entry}, {base: 1, gone: []ID{entry.ID}}, {base: 0, put: entry}},
		"put first":  {{base: 1, put: entry}, {base: 0, put: entry}, {base: 1, gone: []ID{entry.ID}}},
		"never put":  {{base: 1, put: entry}, {base: 1, gone: []ID{entry.ID}}},
	} {
		r := &recorder{mirror: map[ID]*Entry{}}
		f, events := scripted(t, s, r)
		for _, ev := range script[1:] {
			events <- ev
		}
		if err := f.gather(t.Context(), script[0]); err != nil {
			t.Fatal(err)
		}
		if r.mirror[entry.ID] == nil || f.known[entry.ID].base != 0 {
			t.Errorf("%s: %v", name, r.log)
		}
	}
	r := &recorder{mirror: map[ID]*Entry{}}
	f, events := scripted(t, s, r)
	events <- event{gone: []ID{{9}}}
	if err := f.gather(t.Context(), event{put: &Entry{ID: ID{9}, DN: "gone"}}); err != nil {
		t.Fatal(err)
	}
	if len(r.mirror) != 0 || len(f.known) != 0 {
		t.Errorf("an entry in no base is still there: %v", r.log)
	}
}

// refusing is a sink that fails to settle.
type refusing struct{ recorder }

var errRefused = errors.New("refused")

func (*refusing) Settled(context.Context) error { return errRefused }

func TestWatch_endsWithTheSinksError(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(3)})
	for _, m := range []Mode{ModeSyncrepl, ModeTimestamp, ModeSnapshot} {
		sink := &refusing{recorder{mirror: map[ID]*Entry{}}}
		if err := source(t, config(srv, mode(m))).Watch(t.Context(), sink); !errors.Is(err, errRefused) {
			t.Errorf("%s: %v", m, err)
		}
	}
}

func TestWatch_endsWithItsContext(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(3)})
	for _, m := range []Mode{ModeSyncrepl, ModeTimestamp, ModeSnapshot} {
		ctx, cancel := context.WithCancelCause(t.Context())
		r := &recorder{mirror: map[ID]*Entry{}, settled: make(chan state, 1)}
		ended := make(chan error, 1)
		s := source(t, config(srv, mode(m)))
		go func() { ended <- s.Watch(ctx, r) }()
		<-r.settled
		cancel(errRefused)
		if err := <-ended; !errors.Is(err, errRefused) {
			t.Errorf("%s: %v", m, err)
		}
	}
}

// A sink that wakes the session is settled, though nothing changed.
func TestWatch_settlesAWokenSink(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(3)})
	for _, m := range []Mode{ModeSyncrepl, ModeTimestamp, ModeSnapshot} {
		r := &recorder{mirror: map[ID]*Entry{}, settled: make(chan state), ended: make(chan error, 1), wake: make(chan struct{}, 1)}
		r.watch(t, source(t, config(srv, mode(m)))).next(t)
		for range 2 {
			r.wake <- struct{}{}
			if s := r.next(t); len(s.log) > 0 {
				t.Errorf("%s: %v, want nothing but the end of the pass", m, s.log)
			}
		}
	}
}

// The sink may know an entry that was reported gone before, and was found when it
// was asked for: the next word that it is gone counts.
func TestFollower_goneAgain(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{LDIF: users(1)})
	for _, all := range [][]string{{people}, {people, groups}} {
		s := source(t, config(srv, bases(all...)))
		r := &recorder{mirror: map[ID]*Entry{}}
		f, _ := scripted(t, s, r)
		entry := &Entry{ID: ID{9}, DN: "gone"}
		if err := f.gather(t.Context(), event{put: entry}); err != nil {
			t.Fatal(err)
		}
		f.drop(entry.ID)
		r.Put(entry) // as who asks the server does
		if err := f.gather(t.Context(), event{gone: []ID{entry.ID}}); err != nil {
			t.Fatal(err)
		}
		if len(r.mirror) != 0 {
			t.Errorf("%d bases: it stays for ever: %v", len(all), r.log)
		}
	}
}
