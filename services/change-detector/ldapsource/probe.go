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

	endpoint        endpoint // where the rest of the session goes
	activeDirectory bool
	controller      *controller // where every connection has to go to the same one
	stamp           stamp
	tracker         tracker // where changes are asked for
}

// Supports reports whether the server names the control.
func (s *Server) Supports(oid string) bool { return slices.Contains(s.Controls, oid) }

// name tells the server from its replicas as well as it can be told.
func (s *Server) name() string {
	if s.controller != nil {
		return s.controller.id()
	}
	return s.URL
}

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

		activeDirectory: slices.Contains(entry.GetEqualFoldAttributeValues("supportedCapabilities"), capabilityAD),
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
	case slices.Contains(rootDSE.GetEqualFoldAttributeValues("supportedCapabilities"), capabilityAD):
		return "Active Directory"
	}
	return "unknown"
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
