package ldapsource

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-ldap/ldap/v3"
)

const (
	defaultPageSize = 1000
	// streamBuffer is how many results go-ldap reads ahead.
	streamBuffer = 64
	// maxEmptyPages in a row are more than any server has a reason to send.
	maxEmptyPages = 1000
)

// treeReader reads what matches a filter in a subtree, and proves that this is all.
type treeReader struct {
	source     *Source
	conn       *conn
	base       string
	filter     string
	attributes []string
	controls   []ldap.Control
	each       func(*ldap.Entry) error // takes an entry with all its values

	referrals int                 // search references
	ranged    []*ldap.Entry       // whose values came in part
	starts    map[string]struct{} // the names with which pages began
}

// read reads by pages where the server can.
func (t *treeReader) read(ctx context.Context, server *Server) error {
	read := t.unpaged
	if server.Supports(ldap.ControlTypePaging) {
		read = t.paged
	}
	if err := read(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("read %s: %w", t.base, t.source.cure(err, t.base))
	}
	return nil
}

// paged reads page by page until the server returns an empty cookie, which is the
// proof of completeness. The page size is halved while the server refuses it.
func (t *treeReader) paged(ctx context.Context) error {
	t.starts = map[string]struct{}{}
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
		"page_size", size/2)
	return true
}

// page reads one page and returns the number of its entries and the next cookie.
func (t *treeReader) page(ctx context.Context, cookie []byte) (int, []byte, error) {
	paging := ldap.NewControlPaging(uint32(min(t.pageSize(), 1<<20))) //nolint:gosec // bounded
	paging.SetCookie(cookie)
	n := 0
	controls, err := t.stream(ctx, func(in *ldap.Entry) error {
		if n++; n == 1 {
			if err := t.begin(in.DN); err != nil {
				return err
			}
		}
		return t.take(in)
	}, paging)
	if err != nil {
		return n, nil, err
	}
	answer, ok := ldap.FindControl(controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
	if !ok {
		return n, nil, t.unproved(ctx)
	}
	return n, answer.Cookie, nil
}

// begin refuses a page that begins as another one did: a server that does not go on
// would be read for ever. Its cookie says nothing, some use one for a whole search.
func (t *treeReader) begin(dn string) error {
	if _, seen := t.starts[dn]; seen {
		return fmt.Errorf("%w: the server sends pages again, another one began with %s", ErrIncomplete, dn)
	}
	t.starts[dn] = struct{}{}
	return nil
}

// stream runs one search, hands its entries over as they come and returns the
// controls of its result; nil is no proof of anything.
func (t *treeReader) stream(ctx context.Context, each func(*ldap.Entry) error, controls ...ldap.Control) ([]ldap.Control, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // releases go-ldap's goroutine on an early return
	results := t.conn.SearchAsync(ctx, t.request(controls...), streamBuffer)
	var last []ldap.Control
	for t.conn.next(results, true) {
		switch e := results.Entry(); {
		case e != nil:
			if err := each(e); err != nil {
				return nil, err
			}
		case results.Referral() != "":
			t.referrals++
		default:
			last = results.Controls()
		}
	}
	return last, t.conn.explain(results.Err())
}

// request is a fresh one for each search: go-ldap appends controls to the one it gets.
func (t *treeReader) request(controls ...ldap.Control) *ldap.SearchRequest {
	return ldap.NewSearchRequest(t.base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		t.filter, t.attributes, append(controls, t.controls...))
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
		if err := t.take(e); err != nil {
			return err
		}
	}
	t.referrals += len(result.Referrals)
	return t.complete(ctx)
}

// take passes an entry on, or keeps it until the rest of its values are read.
func (t *treeReader) take(in *ldap.Entry) error {
	if hasRange(in) {
		t.ranged = append(t.ranged, in)
		return nil
	}
	return t.each(in)
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
		if err := t.each(whole); err != nil {
			return err
		}
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
