package ldapsource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// Server is what a directory server says about itself.
type Server struct {
	URL            string // the one of ldap.urls that answered
	Vendor         string
	Controls       []string // OIDs
	NamingContexts []string
	Identity       string // who the server says we are (WhoAmI); empty if it cannot say
	SubschemaDN    string
	Mode           Mode   // chosen
	Reason         string // why

	endpoint endpoint // where the rest of the session goes
}

// Supports reports whether the server names the control.
func (s *Server) Supports(oid string) bool { return slices.Contains(s.Controls, oid) }

// Probe connects, binds and asks the server what it is, chooses the mode, and
// reads each base once. Its error names the configuration key and the cure.
func (s *Source) Probe(ctx context.Context) (*Server, error) {
	c, err := s.dial(ctx, endpoint{})
	if err != nil {
		return nil, err
	}
	defer c.close()
	server, err := s.rootDSE(c)
	if err != nil {
		return nil, err
	}
	for _, base := range s.bases {
		if err := s.readBase(c, base); err != nil {
			return nil, err
		}
	}
	return server, s.choose(ctx, c, server)
}

func (s *Source) rootDSE(c *conn) (*Server, error) {
	entry, err := s.readEntry(c, "", "*", "vendorName", "vendorVersion", "supportedControl", "namingContexts",
		"subschemaSubentry", "supportedCapabilities", "objectClass", "structuralObjectClass")
	if err != nil {
		return nil, fmt.Errorf("read the root DSE of %s: %w", c.url, s.cure(err, ""))
	}
	server := &Server{
		URL: c.url, endpoint: c.endpoint, Vendor: vendor(entry),
		Controls:       entry.GetEqualFoldAttributeValues("supportedControl"),
		NamingContexts: entry.GetEqualFoldAttributeValues("namingContexts"),
		SubschemaDN:    entry.GetEqualFoldAttributeValue("subschemaSubentry"),
	}
	err = c.within(func() error {
		who, err := c.WhoAmI(nil)
		if err == nil {
			server.Identity = who.AuthzID
		}
		return nil // not every server can say; a broken connection shows in the next call
	})
	return server, err
}

const openLDAP = "OpenLDAP"

func vendor(rootDSE *ldap.Entry) string {
	name := strings.TrimSpace(rootDSE.GetEqualFoldAttributeValue("vendorName") + " " +
		rootDSE.GetEqualFoldAttributeValue("vendorVersion"))
	switch {
	case name != "":
		return name
	case slices.Contains(rootDSE.GetEqualFoldAttributeValues("objectClass"), "OpenLDAProotDSE"):
		return openLDAP
	case slices.Contains(rootDSE.GetEqualFoldAttributeValues("supportedCapabilities"), "1.2.840.113556.1.4.800"):
		return "Active Directory"
	}
	return "unknown"
}

// choose settles the mode.
func (s *Source) choose(ctx context.Context, c *conn, server *Server) error {
	mode := Mode(s.cfg.Detection.Mode)
	switch mode {
	case "", ModeAuto, ModeSyncrepl:
	case ModeSnapshot:
		server.Mode, server.Reason = mode, "configured"
		return nil
	default:
		return fmt.Errorf("%s: %q is none of auto, snapshot and syncrepl", s.key("detection.mode"), mode)
	}
	err := s.trySync(ctx, c, server)
	switch {
	case err == nil:
		server.Mode, server.Reason = ModeSyncrepl, "the server offers content synchronization (RFC 4533)"
	case c.lapsed.Load(), c.IsClosing(), isCode(err, ldap.ErrorNetwork):
		return fmt.Errorf("try content synchronization: %w", err)
	case mode == ModeSyncrepl:
		return fmt.Errorf("%s: syncrepl, but content synchronization (RFC 4533) does not work: %w: load the syncprov overlay on "+
			"OpenLDAP or the Content Synchronization plug-in on 389 DS, or choose auto or snapshot", s.key("detection.mode"), err)
	default:
		server.Mode, server.Reason = ModeSnapshot, fmt.Sprintf("content synchronization (RFC 4533) does not work: %v", err)
	}
	return nil
}

// trySync synchronises each base entry alone, once: a server may name the control
// for one of its databases and refuse it for another.
func (s *Source) trySync(ctx context.Context, c *conn, server *Server) error {
	if !server.Supports(ldap.ControlTypeSyncRequest) {
		return errors.New("the server does not name the control " + ldap.ControlTypeSyncRequest)
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
			return fmt.Errorf("synchronize %s: %w", base, err)
		}
		if states == 0 {
			return fmt.Errorf("synchronize %s: the server ignores the control", base)
		}
	}
	return nil
}

// readBase proves that the base exists and may be read.
func (s *Source) readBase(c *conn, base string) error {
	if _, err := s.readEntry(c, base, "1.1"); err != nil {
		return fmt.Errorf("read the base %s: %w", base, s.cure(err, base))
	}
	return nil
}

// errNotVisible is a search for one entry that found none and no error either.
var errNotVisible = errors.New("the server returned nothing: the account may not read this entry")

// readEntry reads one entry by its name.
func (s *Source) readEntry(c *conn, dn string, attributes ...string) (*ldap.Entry, error) {
	var entry *ldap.Entry
	err := c.within(func() error {
		result, err := c.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases,
			0, 0, false, everything, attributes, nil))
		switch {
		case err != nil:
			return err
		case len(result.Entries) == 0:
			return errNotVisible
		}
		entry = result.Entries[0]
		return nil
	})
	return entry, err
}
