package ldapsource

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	// overlap is by how much each poll looks back: changes of one second, and those
	// that were stamped before others and stored after them.
	overlap = 2 * time.Second
	// quiet is after how long without a newer stamp nothing older can come any more.
	quiet = 5 * overlap
)

// timestamp follows a server by the time of each entry's last change. Times are the
// server's alone; what has none is left to the sweep.
type timestamp struct {
	source *Source
	server *Server
	newest string    // the largest stamp that was seen
	since  time.Time // when it was seen
}

// tryTimestamp looks for an attribute that entries carry and that the server can
// compare.
func (s *Source) tryTimestamp(_ context.Context, c *conn, server *Server) (string, error) {
	var faults []error
	for _, st := range []stamp{stampCSN, stampTime} {
		err := s.tryStamp(c, st)
		if err == nil {
			server.stamp, server.tracker = st, &timestamp{source: s, server: server}
			return "entries carry " + string(st), nil
		}
		faults = append(faults, err)
	}
	return "", errors.Join(faults...)
}

// tryStamp takes an entry of each base and asks for it by its stamp.
func (s *Source) tryStamp(c *conn, st stamp) error {
	for _, base := range s.bases {
		found, err := s.some(c, base, fmt.Sprintf("(%s=*)", st), st.attributes()...)
		if err != nil {
			return err
		}
		value := st.of(found)
		if value == "" {
			return fmt.Errorf("%s of %s cannot be read", st, found.DN)
		}
		if _, err := s.some(c, base, st.filter(value, 0), "1.1"); err != nil {
			return err
		}
	}
	return nil
}

// some is any one entry that matches.
func (s *Source) some(c *conn, base, filter string, attributes ...string) (*ldap.Entry, error) {
	request := ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1, 0, false, filter, attributes, nil)
	var entries []*ldap.Entry
	err := c.within(func() error {
		result, err := c.Search(request)
		if result != nil {
			entries = result.Entries
		}
		return err
	})
	switch {
	case len(entries) > 0 && (err == nil || isCode(err, ldap.LDAPResultSizeLimitExceeded)):
		return entries[0], nil
	case err == nil:
		return nil, fmt.Errorf("search %s for %s: no entry matches", base, filter)
	}
	return nil, fmt.Errorf("search %s for %s: %w", base, filter, err)
}

// mark reads all stamps for the newest one.
func (t *timestamp) mark(ctx context.Context, c *conn) error {
	without := 0
	err := t.source.count(ctx, c, t.server, func(_ ID, stamp string) {
		t.newest = max(t.newest, stamp)
		if stamp == "" {
			without++
		}
	})
	if without > 0 && t.source.first("without stamp") {
		t.source.deps.Log.WarnContext(ctx, "changes of entries without a time are found by the sweep alone", "entries", without, "attribute", string(t.server.stamp), "cure", "let the account read the attribute")
	}
	t.since = time.Now()
	return err
}

// changes reads what is as new as the newest entry, or almost. Most of it comes
// again and again, until the directory was quiet for a while.
func (t *timestamp) changes(ctx context.Context, c *conn, emit func(event) error) error {
	back := overlap
	if time.Since(t.since) > quiet {
		back = 0
	}
	newest := t.newest
	for i, base := range t.source.bases {
		r := &treeReader{
			source: t.source, conn: c, base: base,
			filter: t.server.stamp.filter(t.newest, back), attributes: t.source.requested(),
		}
		r.each = func(in *ldap.Entry) error {
			e, err := t.source.entry(in)
			if err != nil {
				return emit(event{skipped: 1})
			}
			newest = max(newest, e.Version)
			return emit(event{base: i, put: e, holds: containerOf(in)})
		}
		if err := r.read(ctx, t.server); err != nil {
			return err
		}
	}
	if newest > t.newest {
		t.newest, t.since = newest, time.Now()
	}
	return nil
}

// blind: nothing tells of deletions, nor of moves to where nobody looks.
func (*timestamp) blind(context.Context, *conn) (bool, error) { return true, nil }
