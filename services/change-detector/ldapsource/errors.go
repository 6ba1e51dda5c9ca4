package ldapsource

import (
	"context"
	"errors"
	"net"

	"github.com/go-ldap/ldap/v3"
)

// ErrIncomplete says that a read ended without the proof that it was complete.
var ErrIncomplete = errors.New("the read ended without proof of completeness")

// Unreachable reports whether an error says that the server does not answer or hung up.
func Unreachable(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || isCode(err, ldap.ErrorNetwork) || hungUp(err) ||
		errors.Is(err, errFrozen) || errors.Is(err, errSilent) || errors.Is(err, context.DeadlineExceeded)
}

// Unauthenticated reports whether an error says that the server refuses the account or
// its password.
func Unauthenticated(err error) bool {
	return isCode(err, ldap.LDAPResultInvalidCredentials) || isCode(err, ldap.LDAPResultInappropriateAuthentication)
}

// cured is an error with what to do about it.
type cured struct {
	error
	cure string
}

// Error is the error with its cure.
func (e *cured) Error() string { return e.error.Error() + ": " + e.cure }

// Unwrap returns the error.
func (e *cured) Unwrap() error { return e.error }

// cure adds the configuration key and the way out to an error of the server; base
// is the search base, or empty.
func (s *Source) cure(err error, base string) error {
	var text string
	switch {
	case errors.Is(err, errNotVisible):
		text = "give the account read access to it, or correct " + s.baseKeys()
	case isCode(err, ldap.LDAPResultNoSuchObject) && base != "":
		text = "check " + s.baseKeys() + ", and that the account may read it"
	case isCode(err, ldap.LDAPResultSizeLimitExceeded):
		text = "raise the size limit of the account (OpenLDAP: limits … size=unlimited) or lower " + s.key("ldap.page_size")
	case isCode(err, ldap.LDAPResultTimeLimitExceeded):
		text = "raise the time limit of the account (OpenLDAP: limits … time=unlimited)"
	case isCode(err, ldap.LDAPResultAdminLimitExceeded):
		text = "raise the limits of the account or lower " + s.key("ldap.page_size")
	case isCode(err, ldap.LDAPResultInvalidCredentials):
		text = "check " + s.key("ldap.bind_dn") + " and bind_password"
	case isCode(err, ldap.LDAPResultInvalidDNSyntax) && base == "":
		text = "check " + s.key("ldap.bind_dn") + ", it is not a name that the server takes"
	case isCode(err, ldap.LDAPResultInvalidDNSyntax):
		text = "the server does not take this name; check " + s.baseKeys()
	case isCode(err, ldap.LDAPResultConfidentialityRequired), isCode(err, ldap.LDAPResultStrongAuthRequired):
		text = "use ldaps:// in " + s.key("ldap.urls") + " or set start_tls"
	case isCode(err, ldap.LDAPResultInsufficientAccessRights):
		text = "give the account of " + s.key("ldap.bind_dn") + " the right to read"
	case isCode(err, ldap.LDAPResultUnavailableCriticalExtension):
		text = "the server refuses this control to the account; set " + s.key("detection.mode") + ": snapshot"
	case isCode(err, ldap.LDAPResultReferral):
		text = "the base lies on another server; name that server in " + s.key("ldap.urls")
	default:
		return err
	}
	return &cured{err, text}
}

func (s *Source) baseKeys() string {
	return s.key("users.base_dns") + ", groups.base_dns and scope_groups"
}

func isCode(err error, code uint16) bool {
	e, ok := errors.AsType[*ldap.Error](err)
	return ok && e.ResultCode == code
}
