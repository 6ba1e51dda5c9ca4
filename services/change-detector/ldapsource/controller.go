package ldapsource

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

const (
	capabilityAD    = "1.2.840.113556.1.4.800"
	controlDeleted  = ldap.ControlTypeMicrosoftShowDeleted
	objectGUID      = "objectguid"
	deletedObjects  = "CN=Deleted Objects,"
	attributeUSN    = "highestCommittedUSN"
	attributeNTDS   = "dsServiceName"
	attributeOrigin = "invocationId"
)

// ErrServer says that another server answers than at the start of the session, or
// the same one in an earlier state: its change numbers mean something else.
var ErrServer = errors.New("another directory server answers than at the start of the session, or its database was restored")

// controller is what tells a domain controller of Active Directory from others.
type controller struct {
	service string // dsServiceName: the name of its settings
	host    string // dnsHostName
	origin  string // invocationId in hex: of its database, another one after a restore; empty where it cannot be read
}

// id is the shortest name that no other one has.
func (c controller) id() string {
	if c.origin != "" {
		return c.origin
	}
	return c.service
}

// controller asks a server which one it is, and for the number of its last change.
func (s *Source) controller(c *conn) (controller, int64, error) {
	root, err := s.readEntry(c, "", attributeNTDS, "dnsHostName", attributeUSN)
	if err != nil {
		return controller{}, 0, fmt.Errorf("read the root DSE: %w", err)
	}
	out := controller{
		service: root.GetEqualFoldAttributeValue(attributeNTDS),
		host:    root.GetEqualFoldAttributeValue("dnsHostName"),
	}
	usn, err := strconv.ParseInt(root.GetEqualFoldAttributeValue(attributeUSN), 10, 64)
	if err != nil || out.service == "" {
		return out, 0, fmt.Errorf("the root DSE shows no %s or no %s", attributeUSN, attributeNTDS)
	}
	settings, err := s.readEntry(c, out.service, attributeOrigin)
	switch {
	case err == nil:
		out.origin = hex.EncodeToString(settings.GetEqualFoldRawAttributeValue(attributeOrigin))
	case errors.Is(err, errNotVisible), isCode(err, ldap.LDAPResultNoSuchObject), isCode(err, ldap.LDAPResultInsufficientAccessRights):
	default:
		return out, 0, fmt.Errorf("read %s: %w", out.service, err)
	}
	return out, usn, nil
}

// sameServer asks whether a connection goes to the server of the session, where
// that matters.
func (s *Source) sameServer(c *conn) error {
	session := s.session.Load()
	if session == nil || session.controller == nil {
		return nil
	}
	_, err := s.position(c, session.controller, 0)
	return err
}

// position is the number of the last change of a server that must be this one, and
// not behind the given number.
func (s *Source) position(c *conn, was *controller, least int64) (int64, error) {
	is, usn, err := s.controller(c)
	switch {
	case err != nil:
		return 0, err
	case is.service != was.service:
		return 0, fmt.Errorf("%w: it was %s and is %s: name one server in %s, or choose %s: snapshot",
			ErrServer, was.host, is.host, s.key("ldap.urls"), s.key("detection.mode"))
	case is.origin != was.origin:
		return 0, fmt.Errorf("%w: the invocationId of %s was %s and is %q", ErrServer, is.host, was.origin, is.origin)
	case usn < least:
		return 0, fmt.Errorf("%w: the %s of %s was %d and is %d", ErrServer, attributeUSN, is.host, least, usn)
	}
	return usn, nil
}

// domain is what the two ways to follow Active Directory have in common.
type domain struct {
	source   *Source
	server   *Server
	which    controller
	contexts []string // naming contexts above the bases
	usn      int64    // changes up to this one are known
}

// domain asks whether a server is a domain controller whose changes can be followed.
func (s *Source) domain(ctx context.Context, c *conn, server *Server) (*domain, error) {
	if !server.activeDirectory {
		return nil, errors.New("the server is no Active Directory domain controller")
	}
	if s.id.attribute != objectGUID {
		return nil, fmt.Errorf("%s is %s, and deletions are told by objectGUID alone", s.key("id.attribute"), s.cfg.ID.Attribute)
	}
	d := &domain{source: s, server: server}
	for _, base := range s.bases {
		top := server.contextOf(base)
		if top == "" {
			return nil, fmt.Errorf("%s lies in none of the server's naming contexts", base)
		}
		if !slices.Contains(d.contexts, top) {
			d.contexts = append(d.contexts, top)
		}
	}
	found, _, err := s.controller(c)
	if err != nil {
		return nil, err
	}
	if found.origin == "" && s.first(attributeOrigin) {
		s.deps.Log.WarnContext(ctx, "the invocationId of the domain controller cannot be read, a restored database may not be noticed",
			"server", found.host, "cure", "let the account read the attribute of "+found.service)
	}
	d.which = found
	return d, nil
}

// follow binds the session to the controller, which a tracker will ask for changes.
func (d *domain) follow(t tracker) {
	d.server.controller, d.server.stamp, d.server.tracker = &d.which, stampUSN, t
}

// advance asks for the number of the last change.
func (d *domain) advance(c *conn) (int64, error) {
	return d.source.position(c, &d.which, d.usn)
}

// sees reports whether the account is shown deleted entries.
func (d *domain) sees(c *conn) (bool, error) {
	for _, top := range d.contexts {
		request := ldap.NewSearchRequest(deletedObjects+top, ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 1, 0, false,
			everything, []string{"1.1"}, []ldap.Control{ldap.NewControlMicrosoftShowDeleted()})
		n := 0
		err := c.within(func() error {
			result, err := c.Search(request)
			n = len(result.Entries)
			return err
		})
		switch {
		case err == nil, isCode(err, ldap.LDAPResultSizeLimitExceeded), isCode(err, ldap.LDAPResultNoSuchObject), isCode(err, ldap.LDAPResultInsufficientAccessRights):
		default:
			return false, fmt.Errorf("look for deleted entries below %s: %w", top, err)
		}
		if n == 0 {
			return false, nil
		}
	}
	return true, nil
}

// blind says once which it is.
func (d *domain) blind(ctx context.Context, c *conn) (bool, error) {
	sees, err := d.sees(c)
	if err == nil && !sees && d.source.first("blind") {
		d.source.deps.Log.WarnContext(ctx, "the account is shown no deleted entries, they are found by reading all ids now and then",
			"every", d.source.census.String(),
			"cure", "let the account list and read "+deletedObjects+strings.Join(d.contexts, " and "+deletedObjects)+", unless nothing was deleted yet")
	}
	return !sees, err
}

// place says where an entry is: the number of the base that covers it; or none for
// one that is deleted or under no base.
func (d *domain) place(in *ldap.Entry) (base int, ok bool) {
	if deleted(in) {
		return 0, false
	}
	return d.source.baseOf(in.DN)
}

func deleted(in *ldap.Entry) bool {
	return strings.EqualFold(in.GetEqualFoldAttributeValue("isDeleted"), "TRUE")
}
