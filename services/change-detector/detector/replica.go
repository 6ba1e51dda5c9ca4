package detector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/status"
)

// replicaLag is how long a directory server may be behind the one that was read
// before it. What the former one had got last may be missing on it for that long.
const replicaLag = time.Minute

// behind is why an absence on another server than before is not believed yet.
const behind = "the directory is read from another server than before, which may be behind: it is asked again after a minute"

// replica is which server is read, and until when it may be behind.
type replica struct {
	server string
	lag    time.Duration
	until  time.Time // zero: it is not
}

// recallReplica learns which server an earlier detector read.
func (s *session) recallReplica(ctx context.Context) error {
	p, err := status.LastPass(ctx, s.bus, s.name)
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read which server was read before: %w", err)
	}
	s.replica.server = p.Server
	return nil
}

// reads notes that a server was read.
func (r *replica) reads(server string, now time.Time) {
	if r.server != "" && server != r.server {
		r.until = now.Add(r.lag)
	}
	r.server = server
}

// caughtUp says that the time is over in which the server may be behind; once.
func (r *replica) caughtUp(now time.Time) bool {
	if r.until.IsZero() || now.Before(r.until) {
		return false
	}
	r.until = time.Time{}
	return true
}

// doubtReplica holds what seems to be deleted while the server may be behind, and
// says whether it may be.
func (s *session) doubtReplica(p *pass) bool {
	if s.replica.until.IsZero() {
		return false
	}
	for _, r := range p.removals {
		if deleted(r) {
			r.why = behind
		}
	}
	return true
}
