package ldapsource

import (
	"context"
	"errors"
	"testing"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// ending is a tracker whose context ends while it asks, as a look at the network
// shows it.
type ending struct {
	tracker
	end context.CancelCauseFunc
}

var errNetwork = errors.New("use of closed network connection")

func (e *ending) changes(context.Context, *conn, func(event) error) error {
	e.end(errRefused)
	return errNetwork
}

// What ends a session is its cause, whatever breaks because of that.
func TestTrack_endsWithTheCause(t *testing.T) {
	t.Parallel()
	srv := ldaptest.Start(t, ldaptest.Options{NoSync: true, LDIF: users(3)})
	s := polled(t, config(srv))
	server, err := s.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.session.Store(server)
	ctx, cancel := context.WithCancelCause(t.Context())
	server.tracker = &ending{server.tracker, cancel}
	r := &recorder{mirror: map[ID]*Entry{}, settled: make(chan state, 10)}
	if err := s.follow(ctx, server, r); !errors.Is(err, errRefused) {
		t.Errorf("the session ended with %v", err)
	}
}
