package ldapsource

import (
	"context"
	"errors"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// welcome reads the groups that hold who came into the bases: he may have been a
// member before, under the name of another place, and a server that keeps references
// in order renamed him there without a word. Where many came, or the server does not
// search by members, a sweep reads the groups.
func (f *follower) welcome(ctx context.Context) error {
	arrived := f.arrived
	f.arrived = nil
	attribute := f.source.cfg.Groups.Members
	byName := f.source.cfg.Groups.MemberValues == "" || f.source.cfg.Groups.MemberValues == connection.MemberDN
	switch {
	case len(arrived) == 0 || attribute == "" || !byName:
		return nil
	case len(arrived) > lookupChunk:
		f.sweepSoon()
		return nil
	}
	var b strings.Builder
	b.WriteString("(|")
	for _, dn := range arrived {
		b.WriteString("(" + attribute + "=" + ldap.EscapeFilter(dn) + ")")
	}
	b.WriteString(")")
	err := f.source.find(ctx, f.control, b.String(), f.put)
	if _, refused := errors.AsType[*ldap.Error](err); refused && !isCode(err, ldap.ErrorNetwork) {
		f.sweepSoon()
		return nil
	}
	return err
}
