package ldapsource

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-ldap/ldap/v3"
)

// usn follows Active Directory by the number that each change has on its server.
// It needs no special right.
type usn struct{ *domain }

func (s *Source) tryUSN(ctx context.Context, c *conn, server *Server) (string, error) {
	d, err := s.domain(ctx, c, server)
	if err != nil {
		return "", err
	}
	if !server.Supports(controlDeleted) {
		return "", errors.New("the server does not name the control " + controlDeleted)
	}
	d.follow(&usn{d})
	return "Active Directory numbers its changes (uSNChanged)", nil
}

// mark takes the number of the last change.
func (t *usn) mark(_ context.Context, c *conn) error {
	last, err := t.advance(c)
	if err == nil {
		t.usn = last
	}
	return err
}

// changes reads what has a larger number than the mark, deleted entries too. The
// number to go on from is taken first: what changes meanwhile comes again.
func (t *usn) changes(ctx context.Context, c *conn, emit func(event) error) error {
	last, err := t.advance(c)
	if err != nil || last == t.usn {
		return err
	}
	for _, top := range t.contexts {
		r := &treeReader{
			source: t.source, conn: c, base: top, filter: fmt.Sprintf("(uSNChanged>=%d)", t.usn+1),
			attributes: append(slices.Clone(t.source.requested()), "isdeleted"),
			controls:   []ldap.Control{ldap.NewControlMicrosoftShowDeleted()},
			each:       func(in *ldap.Entry) error { return emit(t.read(in)) },
		}
		if err := r.read(ctx, t.server); err != nil {
			return err
		}
	}
	t.usn = last
	return nil
}

// read translates one entry.
func (t *usn) read(in *ldap.Entry) event {
	e, err := t.source.entry(in)
	if err != nil {
		return event{skipped: 1}
	}
	base, there := t.place(in)
	if !there {
		return event{left: []ID{e.ID}}
	}
	return event{base: base, put: e, holds: containerOf(in)}
}
