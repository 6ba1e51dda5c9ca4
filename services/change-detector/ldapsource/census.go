package ldapsource

import (
	"context"
	"fmt"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	// censusPolls is how many intervals are between two censuses, at least.
	censusPolls = 12
	// censusRest keeps them to a tenth of the time.
	censusRest = 10
)

// census reads who is there, and nothing else: where the server reports no
// deletions, and no moves out of the bases, that is how they are found. What has
// another stamp than the one known was missed and is read, too.
func (f *follower) census(ctx context.Context) error {
	started := time.Now()
	seen := make(map[ID]struct{}, len(f.known))
	err := f.source.count(ctx, f.conn, f.server, func(id ID, stamp string) {
		seen[id] = struct{}{}
		if h, ok := f.known[id]; !ok || !h.print.of(stamp) {
			f.changed(id)
		}
	})
	if err != nil {
		return fmt.Errorf("read who is there: %w", err)
	}
	for id := range f.known {
		if _, there := seen[id]; !there {
			f.pending[id] = true
		}
	}
	if err := f.resolve(ctx); err != nil {
		return err
	}
	return f.scheduleCensus(ctx, time.Since(started))
}

// scheduleCensus sets the time of the next one, if one is needed at all.
func (f *follower) scheduleCensus(ctx context.Context, took time.Duration) error {
	blind, err := f.tracker.blind(ctx, f.conn)
	if err != nil {
		return err
	}
	f.counting.at = time.Time{}
	if blind {
		f.counting.at = time.Now().Add(max(f.source.census, censusRest*took))
	}
	return nil
}

// count reads the ids and stamps of all entries under the bases.
func (s *Source) count(ctx context.Context, c *conn, server *Server, saw func(ID, string)) error {
	stamp := s.stamp()
	for _, base := range s.bases {
		t := &treeReader{
			source: s, conn: c, base: base, filter: everything,
			attributes: append([]string{s.id.attribute}, stamp.attributes()...),
		}
		t.each = func(in *ldap.Entry) error {
			if id, err := s.id.read(in); err == nil { // who has none is not known either
				saw(id, stamp.of(in))
			}
			return nil
		}
		if err := t.read(ctx, server); err != nil {
			return err
		}
	}
	return nil
}
