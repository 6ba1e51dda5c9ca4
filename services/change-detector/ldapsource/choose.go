package ldapsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// way is one of the modes: how to find out whether a server can do it, and what to
// do where it cannot though it is configured.
type way struct {
	mode Mode
	try  func(ctx context.Context, c *conn, server *Server) (reason string, err error)
	cure string
}

// ways are the modes, the best first.
func (s *Source) ways() []way {
	return []way{
		{ModeSyncrepl, s.trySync, "load the syncprov overlay on OpenLDAP or the Content Synchronization plug-in on 389 DS, or choose auto or snapshot"},
		{ModeDirSync, s.tryDirSync, "give the account the right Replicating Directory Changes on the domain, or choose auto or usn"},
		{ModeUSN, s.tryUSN, "choose auto or snapshot"},
		{ModeTimestamp, s.tryTimestamp, "let the account read and search by entryCSN or modifyTimestamp, or choose auto or snapshot"},
		{ModeSnapshot, trySnapshot, ""},
	}
}

func trySnapshot(context.Context, *conn, *Server) (string, error) { return "", nil }

// choose settles the mode: the configured one, or the best that works.
func (s *Source) choose(ctx context.Context, c *conn, server *Server) error {
	mode := Mode(s.cfg.Detection.Mode)
	auto := mode == "" || mode == ModeAuto
	var refused []string
	for _, w := range s.ways() {
		if !auto && mode != w.mode {
			continue
		}
		reason, err := w.try(ctx, c, server)
		switch {
		case err == nil:
			server.Mode, server.Reason = w.mode, reason
			if reason == "" {
				server.Reason = cmp.Or(strings.Join(refused, "; "), "configured")
			}
			return nil
		case c.lapsed.Load(), c.IsClosing(), isCode(err, ldap.ErrorNetwork), ctx.Err() != nil:
			return fmt.Errorf("try the mode %s: %w", w.mode, err)
		case !auto:
			return fmt.Errorf("%s: %s does not work: %w: %s", s.key("detection.mode"), w.mode, err, w.cure)
		}
		refused = append(refused, fmt.Sprintf("%s does not work: %v", w.mode, err))
	}
	return fmt.Errorf("%s: %q is none of auto, snapshot, syncrepl, dirsync, usn and timestamp", s.key("detection.mode"), mode)
}

// trySync synchronises each base entry alone, once: a server may name the control
// for one of its databases and refuse it for another.
func (s *Source) trySync(ctx context.Context, c *conn, server *Server) (string, error) {
	if !server.Supports(ldap.ControlTypeSyncRequest) {
		return "", errors.New("the server does not name the control " + ldap.ControlTypeSyncRequest)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, base := range s.bases {
		request := ldap.NewSearchRequest(base, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, everything, []string{"1.1"}, nil)
		results := c.Syncrepl(ctx, request, streamBuffer, ldap.SyncRequestModeRefreshOnly, nil, false)
		states := 0
		for c.next(results, true) {
			if results.Entry() != nil && ldap.FindControl(results.Controls(), ldap.ControlTypeSyncState) != nil {
				states++
			}
		}
		if err := c.explain(results.Err()); err != nil {
			return "", fmt.Errorf("synchronize %s: %w", base, err)
		}
		if states == 0 {
			return "", fmt.Errorf("synchronize %s: the server ignores the control", base)
		}
	}
	return "the server offers content synchronization (RFC 4533)", nil
}

// contextOf is the naming context that holds a base: the innermost one; empty where
// there is none.
func (s *Server) contextOf(base string) string {
	normal, err := NormalizeDN(base)
	if err != nil {
		return ""
	}
	best, bestNormal := "", ""
	for _, context := range s.NamingContexts {
		top, err := NormalizeDN(context)
		if err == nil && top != "" && Under(normal, top) && len(top) > len(bestNormal) {
			best, bestNormal = context, top
		}
	}
	return best
}

// baseOf is the number of the base that covers a name.
func (s *Source) baseOf(dn string) (int, bool) {
	name, err := NormalizeDN(dn)
	if err != nil {
		return 0, false
	}
	i := slices.IndexFunc(s.normal, func(base string) bool { return Under(name, base) })
	return max(i, 0), i >= 0
}
