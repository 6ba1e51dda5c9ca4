package ldapsource

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	defaultPageSize = 1000
	defaultInterval = 5 * time.Second
	// streamBuffer is how many results go-ldap reads ahead.
	streamBuffer = 64
	// maxEmptyPages in a row are more than any server has a reason to send.
	maxEmptyPages = 1000
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
	proof := Proof{Mode: ModeSnapshot, Bases: len(s.bases)}
	for i, base := range s.bases {
		t := &treeReader{source: s, conn: c, base: base, proof: &proof}
		t.put = func(e *Entry, c container) {
			sink.Put(e)
			saw(i, e, c)
		}
		if err := t.read(ctx, server); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("read %s: %w", base, s.cure(err, base))
		}
	}
	s.reportNoID(ctx, proof.WithoutID)
	sink.Complete(proof)
	return nil
}

// reportNoID warns once of entries that cannot be followed.
func (s *Source) reportNoID(ctx context.Context, n int) {
	if n > 0 && s.warned.CompareAndSwap(false, true) {
		s.deps.Log.WarnContext(ctx, "entries without a readable id are left out", "source", s.cfg.Name,
			"entries", n, "attribute", s.cfg.ID.Attribute,
			"cure", "let the account read the attribute, or correct "+s.key("id"))
	}
}

// treeReader reads one base.
type treeReader struct {
	source *Source
	conn   *conn
	base   string
	clause string // a remote clause to find the ids of; empty to read everything
	proof  *Proof
	put    func(*Entry, container)
	ranged []*ldap.Entry // whose values came in part
}

// read reads the base as the server can.
func (t *treeReader) read(ctx context.Context, server *Server) error {
	if server.Supports(ldap.ControlTypePaging) {
		return t.paged(ctx)
	}
	return t.unpaged(ctx)
}

// paged reads page by page until the server returns an empty cookie, which is the
// proof of completeness. The page size is halved while the server refuses it.
func (t *treeReader) paged(ctx context.Context) error {
	var cookie []byte
	for empty := 0; empty < maxEmptyPages; {
		n, next, err := t.page(ctx, cookie)
		if isCode(err, ldap.LDAPResultAdminLimitExceeded) && cookie == nil && n == 0 && t.halve(ctx) {
			continue
		}
		if err != nil {
			return err
		}
		if err := t.complete(ctx); err != nil {
			return err
		}
		if len(next) == 0 {
			return nil
		}
		cookie = next
		if empty++; n > 0 {
			empty = 0
		}
	}
	return fmt.Errorf("%w: %d empty pages in a row", ErrIncomplete, maxEmptyPages)
}

func (t *treeReader) pageSize() int64 {
	if n := t.source.pageSize.Load(); n > 0 {
		return n
	}
	return defaultPageSize
}

func (t *treeReader) halve(ctx context.Context) bool {
	size := t.pageSize()
	if size <= 1 {
		return false
	}
	t.source.pageSize.Store(size / 2)
	t.source.deps.Log.InfoContext(ctx, "page size halved, the server refuses a larger one",
		"source", t.source.cfg.Name, "page_size", size/2)
	return true
}

// page reads one page and returns the number of its entries and the next cookie.
func (t *treeReader) page(ctx context.Context, cookie []byte) (int, []byte, error) {
	paging := ldap.NewControlPaging(uint32(min(t.pageSize(), 1<<20))) //nolint:gosec // bounded
	paging.SetCookie(cookie)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // releases go-ldap's goroutine on an early return
	results := t.conn.SearchAsync(ctx, t.request(paging), streamBuffer)
	n := 0
	var answer *ldap.ControlPaging
	for t.conn.next(results, true) {
		if e := results.Entry(); e != nil {
			n++
			t.take(e)
			continue
		}
		if results.Referral() != "" {
			t.proof.Referrals++
		}
		if control, ok := ldap.FindControl(results.Controls(), ldap.ControlTypePaging).(*ldap.ControlPaging); ok {
			answer = control
		}
	}
	if err := t.conn.explain(results.Err()); err != nil {
		return n, nil, err
	}
	if answer == nil {
		return n, nil, t.unproved(ctx)
	}
	return n, answer.Cookie, nil
}

func (t *treeReader) request(controls ...ldap.Control) *ldap.SearchRequest {
	if t.clause != "" {
		return t.source.idSearch(t.base, t.clause, controls...)
	}
	return t.source.search(t.base, everything, controls...)
}

// unproved is the error for a stream that ended without an error and without a
// proof: a closed connection looks like an empty directory in go-ldap.
func (t *treeReader) unproved(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", ErrIncomplete, orElse(t.conn.GetLastError(), "the connection was lost or the server ignored the paging control"))
}

// unpaged is for servers without paging: one search, whose result code is the proof.
func (t *treeReader) unpaged(ctx context.Context) error {
	var result *ldap.SearchResult
	err := t.conn.within(func() (err error) {
		result, err = t.conn.Search(t.request())
		return err
	})
	if err != nil {
		return err
	}
	for _, e := range result.Entries {
		t.take(e)
	}
	t.proof.Referrals += len(result.Referrals)
	return t.complete(ctx)
}

// take passes an entry on, or keeps it until the rest of its values are read.
func (t *treeReader) take(in *ldap.Entry) {
	if hasRange(in) {
		t.ranged = append(t.ranged, in)
		return
	}
	e, err := t.source.entry(in)
	if err != nil {
		t.proof.WithoutID++
		return
	}
	t.proof.Entries++
	t.put(e, containerOf(in))
}

// complete reads the missing values of the entries that came in part.
func (t *treeReader) complete(ctx context.Context) error {
	for _, in := range t.ranged {
		whole, err := joinRanges(in, func(name string) (*ldap.Entry, error) {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return t.source.readEntry(t.conn, in.DN, name)
		})
		if err != nil {
			return fmt.Errorf("read the values of %s: %w", in.DN, err)
		}
		t.take(whole)
	}
	t.ranged = t.ranged[:0]
	return nil
}

func orElse(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}
