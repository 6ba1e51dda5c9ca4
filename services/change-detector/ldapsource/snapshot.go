package ldapsource

import (
	"context"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/rollcall-scim/rollcall/pkg/crash"
)

const (
	defaultInterval = 5 * time.Second
	// handful is how many entries are handed to the sink at once, and readAhead how
	// many handfuls wait for it before the server does.
	handful   = 64
	readAhead = 4
)

// poll is the snapshot mode: read everything, settle, wait, again.
func (s *Source) poll(ctx context.Context, server *Server, sink Sink) error {
	c, err := s.dial(ctx, server.endpoint)
	if err != nil {
		return err
	}
	defer c.close()
	for {
		if err := s.pass(ctx, c, server, sink, func(int, *Entry, container) {}); err != nil {
			return err
		}
		if err := sink.Settled(ctx); err != nil {
			return err
		}
		if err := s.rest(ctx, sink); err != nil {
			return err
		}
	}
}

// rest waits until the next read is due. The sink may ask to be settled meanwhile.
func (s *Source) rest(ctx context.Context, sink Sink) error {
	timer := time.NewTimer(orDefault(s.cfg.Detection.Interval, defaultInterval))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return nil
		case <-sink.Wake():
			if err := sink.Settled(ctx); err != nil {
				return err
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// pass is one full read of all bases, from Begin to Complete. It calls saw for
// each entry with the number of its base.
func (s *Source) pass(ctx context.Context, c *conn, server *Server, sink Sink, saw func(int, *Entry, container)) error {
	if err := s.mark(ctx, c, server); err != nil {
		return err
	}
	sink.Begin()
	proof := Proof{Mode: server.Mode, Server: server.name(), Bases: len(s.bases)}
	// The sink works while the next page is on its way: a server makes a page only
	// when it is asked for.
	ahead, failed := make(chan []found, readAhead), make(chan error, 1)
	go func() {
		defer close(ahead)
		failed <- crash.Catch(ctx, s.deps.Log, crash.Detector, func() error { return s.readBases(ctx, c, server, &proof, ahead) })
	}()
	for some := range ahead {
		for _, one := range some {
			sink.Put(one.entry)
			saw(one.base, one.entry, one.holds)
		}
	}
	if err := <-failed; err != nil {
		return err
	}
	s.report(ctx, &proof)
	sink.Complete(proof)
	return nil
}

// found is an entry that was read in a base.
type found struct {
	entry *Entry
	holds container
	base  int
}

// readBases reads all bases.
func (s *Source) readBases(ctx context.Context, c *conn, server *Server, proof *Proof, into chan<- []found) error {
	for i, base := range s.bases {
		var some []found
		t := &treeReader{source: s, conn: c, base: base, filter: everything, attributes: s.requested()}
		t.each = func(in *ldap.Entry) error {
			e, err := s.entry(in)
			if err != nil {
				proof.WithoutID++
				return nil //nolint:nilerr // counted and reported, never guessed
			}
			proof.Entries++
			if some = append(some, found{e, containerOf(in), i}); len(some) == handful {
				into <- some
				some = make([]found, 0, handful)
			}
			return nil
		}
		if err := t.read(ctx, server); err != nil {
			return err
		}
		into <- some
		proof.Referrals += t.referrals
	}
	return nil
}

// report says once what a full read leaves out.
func (s *Source) report(ctx context.Context, proof *Proof) {
	if proof.WithoutID > 0 && s.first("without id") {
		s.deps.Log.WarnContext(ctx, "entries without a readable id are left out", "entries", proof.WithoutID, "attribute", s.cfg.ID.Attribute,
			"cure", "let the account read the attribute, or correct "+s.key("id"))
	}
	if proof.Referrals > 0 && s.first("referrals") {
		s.deps.Log.InfoContext(ctx, "search references to other servers are not followed", "references", proof.Referrals)
	}
}
