package ldapsource

import (
	"context"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const defaultInterval = 5 * time.Second

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
	sink.Begin()
	proof := Proof{Mode: server.Mode, Server: server.name(), Bases: len(s.bases)}
	for i, base := range s.bases {
		t := &treeReader{source: s, conn: c, base: base, filter: everything, attributes: s.requested()}
		t.each = func(in *ldap.Entry) error {
			e, err := s.entry(in)
			if err != nil {
				proof.WithoutID++
				return nil //nolint:nilerr // counted and reported, never guessed
			}
			proof.Entries++
			sink.Put(e)
			saw(i, e, containerOf(in))
			return nil
		}
		if err := t.read(ctx, server); err != nil {
			return err
		}
		proof.Referrals += t.referrals
	}
	s.report(ctx, &proof)
	sink.Complete(proof)
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
